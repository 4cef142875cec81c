package apitest

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden answers anew")

var (
	uuidText    = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	requestText = regexp.MustCompile(`\(request [0-9a-f]{16}\)`)
	timeText    = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}`)
)

// Normal is an answer made comparable: ids become {name} where Name knows them and {id1}, {id2}, ... otherwise, in the
// order of their appearance, and times become {time}.
func (c *Cloud) Normal(raw []byte) []byte { return normal(raw, c.names) }

func normal(raw []byte, names map[string]string) []byte {
	seen := map[string]string{}
	raw = uuidText.ReplaceAllFunc(raw, func(id []byte) []byte {
		if name := names[string(id)]; name != "" {
			return []byte("{" + name + "}")
		}
		if seen[string(id)] == "" {
			seen[string(id)] = "{id" + strconv.Itoa(len(seen)+1) + "}"
		}
		return []byte(seen[string(id)])
	})
	raw = requestText.ReplaceAll(raw, []byte("(request {request})"))
	return timeText.ReplaceAll(raw, []byte("{time}"))
}

// Golden compares an answer with testdata/golden/<name>.json, or .xml for an XML answer. go test -update writes it;
// the diff is to be reviewed.
func (c *Cloud) Golden(name string, a *Answer) {
	c.t.Helper()
	raw := c.Normal(a.Raw)
	ext := ".json"
	if strings.HasPrefix(a.Header.Get("Content-Type"), "text/xml") {
		ext = ".xml"
		raw = append(bytes.ReplaceAll(raw, []byte("><"), []byte(">\n<")), '\n')
	} else {
		var b bytes.Buffer
		if err := json.Indent(&b, raw, "", "  "); err != nil {
			c.t.Fatalf("%s: %v: %s", name, err, raw)
		}
		b.WriteByte('\n')
		raw = b.Bytes()
	}
	GoldenText(c.t, filepath.Join("testdata", "golden", name+ext), string(raw))
	if ext == ".json" && a.xml != nil {
		c.sameXML(name, a)
	}
}

// GoldenJSON is Cloud.Golden for an answer of another server: its bytes, and those of the same answer in XML where the
// call changes nothing.
func GoldenJSON(t testing.TB, name string, answer, xml []byte) {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, normal(answer, nil), "", "  "); err != nil {
		t.Fatalf("%s: %v: %s", name, err, answer)
	}
	b.WriteByte('\n')
	GoldenText(t, filepath.Join("testdata", "golden", name+".json"), b.String())
	if xml != nil {
		sameXML(t, name, answer, xml, nil)
	}
}

// sameXML asks for the same answer in XML, and compares it byte for byte with what the JSON says it has to be.
func (c *Cloud) sameXML(name string, a *Answer) {
	c.t.Helper()
	sameXML(c.t, name, a.got, a.xml().Raw, c.names)
}

func sameXML(t testing.TB, name string, answer, xml []byte, names map[string]string) {
	t.Helper()
	want, err := asXML(answer)
	if err != nil {
		t.Fatalf("%s: %v: %s", name, err, answer)
	}
	lines := func(b []byte) string {
		b = regexp.MustCompile(` cloud-stack-version="[^"]*"`).ReplaceAll(normal(b, names), nil)
		return strings.ReplaceAll(string(b), "><", ">\n<")
	}
	if d := cmp.Diff(lines(want), lines(xml)); d != "" {
		t.Errorf("%s: the XML answer is not the JSON answer (-JSON +XML):\n%s", name, d)
	}
}

// asXML turns a JSON answer into XML: objects become elements in the order of their fields, lists repeat the element,
// and scalars are texts. It shares nothing with the encoder that it checks.
func asXML(answer []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(answer))
	d.UseNumber()
	b := bytes.NewBufferString(`<?xml version="1.0" encoding="UTF-8"?>`)
	err := xmlValue(b, d, "")
	return b.Bytes(), err
}

func xmlValue(b *bytes.Buffer, d *json.Decoder, name string) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	open, end := "<"+name+">", "</"+name+">"
	if name == "" {
		open, end = "", ""
	} else if !regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`).MatchString(name) {
		open, end = `<entry key="`+name+`">`, "</entry>"
	}
	switch t {
	case json.Delim('['):
		for d.More() {
			if err := xmlValue(b, d, name); err != nil {
				return err
			}
		}
		_, err = d.Token()
		return err
	case json.Delim('{'):
		b.WriteString(open)
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return err
			}
			if err := xmlValue(b, d, key.(string)); err != nil {
				return err
			}
		}
		b.WriteString(end)
		_, err = d.Token()
		return err
	case nil:
		return nil
	}
	b.WriteString(open)
	b.WriteString(strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "\r", "&#13;").Replace(fmt.Sprint(t)))
	b.WriteString(end)
	return nil
}

// GoldenText compares a text with a file. go test -update writes it.
func GoldenText(t testing.TB, file, text string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if d := cmp.Diff(string(want), text); d != "" {
		t.Errorf("%s differs (-want +got):\n%s", file, d)
	}
}
