package api

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

type inner struct {
	Name string   `json:"name"`
	Tags []string `json:"tags,omitempty"`
}

type outer struct {
	ID      cloud.ID          `json:"id,omitempty"`
	Text    string            `json:"text"`
	Maybe   string            `json:"maybe,omitempty"`
	On      bool              `json:"on,omitempty"`
	Always  bool              `json:"always"`
	Int     int               `json:"int,omitempty"`
	I32     int32             `json:"i32"`
	I16     int16             `json:"i16"`
	I8      int8              `json:"i8"`
	U64     uint64            `json:"u64"`
	U32     uint32            `json:"u32"`
	U16     uint16            `json:"u16"`
	U8      uint8             `json:"u8"`
	Float   float64           `json:"float,omitempty"`
	Addr    netip.Addr        `json:"addr"`
	CIDR    netip.Prefix      `json:"cidr"`
	When    Time              `json:"when"`
	Details map[string]string `json:"details,omitempty"`
	One     inner             `json:"one"`
	Pointer *inner            `json:"pointer,omitempty"`
	Number  *int64            `json:"number"`
	Many    []inner           `json:"many,omitempty"`
	Any     any               `json:"any"`
	inner2
}

type inner2 struct {
	Promoted string `json:"promoted"`
}

func genOuter(t *rapid.T) *outer {
	text := rapid.String()
	in := rapid.Custom(func(t *rapid.T) inner {
		return inner{text.Draw(t, "name"), rapid.SliceOfN(text, 0, 3).Draw(t, "tags")}
	})
	o := &outer{
		Text: text.Draw(t, "text"), Maybe: text.Draw(t, "maybe"), On: rapid.Bool().Draw(t, "on"), Always: rapid.Bool().Draw(t, "always"),
		Int: rapid.Int().Draw(t, "int"), I32: rapid.Int32().Draw(t, "i32"), I16: rapid.Int16().Draw(t, "i16"), I8: rapid.Int8().Draw(t, "i8"),
		U64: rapid.Uint64().Draw(t, "u64"), U32: rapid.Uint32().Draw(t, "u32"), U16: rapid.Uint16().Draw(t, "u16"), U8: rapid.Uint8().Draw(t, "u8"),
		Float:   rapid.Float64Range(-math.MaxFloat64/2, math.MaxFloat64/2).Draw(t, "float"),
		When:    Time(time.Unix(rapid.Int64Range(0, 1<<34).Draw(t, "when"), 0).UTC()),
		Details: rapid.MapOfN(text, text, 0, 4).Draw(t, "details"), One: in.Draw(t, "one"),
		Many: rapid.SliceOfN(in, 0, 3).Draw(t, "many"), inner2: inner2{text.Draw(t, "promoted")},
	}
	o.One.Tags = append([]string{}, o.One.Tags...)
	copy(o.ID[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
	o.ID[0] |= 1 // encoding/json does not leave arrays out
	if rapid.Bool().Draw(t, "addr") {
		o.Addr = netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "ip")))
		o.CIDR = netip.PrefixFrom(o.Addr, 64)
	}
	if rapid.Bool().Draw(t, "pointers") {
		p, n := in.Draw(t, "pointer"), rapid.Int64().Draw(t, "number")
		o.Pointer, o.Number, o.Any = &p, &n, p
	}
	return o
}

// Our JSON is that of encoding/json, byte by byte.
func TestJSONIsThatOfTheStandardLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := genOuter(t)
		want, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		if got := appendJSON(nil, o); !bytes.Equal(got, want) {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	})
}

// Our XML is well-formed whatever the texts are, and a text comes back as it was, but for what XML cannot carry.
func TestXMLIsWellFormed(t *testing.T) {
	e, err := encoderOf(reflect.TypeFor[outer]())
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		o := genOuter(t)
		_, p := addressable(o)
		d := xml.NewDecoder(bytes.NewReader(e.appendXML(nil, "outer", p)))
		for {
			_, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%v in %s", err, e.appendXML(nil, "outer", p))
			}
		}
	})
	o := &outer{Text: "a <b> & \"c\" 日本\t\n", Details: map[string]string{"good.key": "1", "bad key": "<2>"}, One: inner{Tags: []string{"x", "y"}}}
	_, p := addressable(o)
	got := string(e.appendXML(nil, "outer", p))
	for _, want := range []string{
		"<text>a &lt;b&gt; &amp; &quot;c&quot; 日本\t\n</text>", "<tags>x</tags><tags>y</tags>", "<good.key>1</good.key>",
		`<entry key="bad key">&lt;2&gt;</entry>`, "<always>false</always>",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
	type withJSON struct {
		Result JSON `json:"jobresult"`
	}
	we, err := encoderOf(reflect.TypeFor[withJSON]())
	if err != nil {
		t.Fatal(err)
	}
	w := &withJSON{`{"b":{"z":1,"a":[true,null,"<x>"]},"a":"t"}`}
	_, p = addressable(w)
	if got, want := string(we.appendXML(nil, "r", p)), "<r><jobresult><b><z>1</z><a>true</a><a>&lt;x&gt;</a></b><a>t</a></jobresult></r>"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Types that must not be answered are refused when a command is registered.
func TestSecretsCannotBeAnswered(t *testing.T) {
	for _, v := range []any{
		struct {
			S cloud.Secret `json:"s"`
		}{}, struct {
			S cloud.Sealed `json:"s"`
		}{}, struct {
			S []byte `json:"s"`
		}{}, struct {
			S time.Time `json:"s"`
		}{}, struct {
			S string
		}{}, struct {
			inner2
			Again string `json:"promoted"`
		}{},
	} {
		if _, err := encoderOf(reflect.TypeOf(v)); err == nil {
			t.Errorf("%T can be answered", v)
		}
	}
}

func TestNumbersThatJSONCannotCarry(t *testing.T) {
	for _, f := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		if got := string(appendJSON(nil, f)); got != "0" {
			t.Errorf("%v is %s", f, got)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	rows := make([]outer, 500)
	for i := range rows {
		rows[i] = outer{ID: cloud.NameID("x", string(rune(i))), Text: "some text", Maybe: "more", When: Time(time.Unix(1e9, 0)), One: inner{Name: "n", Tags: []string{"a", "b"}}}
	}
	b.Run("wisp", func(b *testing.B) {
		buf := appendJSON(nil, &rows)
		b.SetBytes(int64(len(buf)))
		for b.Loop() {
			buf = appendJSON(buf[:0], &rows)
		}
	})
	b.Run("encoding-json", func(b *testing.B) {
		for b.Loop() {
			if _, err := json.Marshal(&rows); err != nil {
				b.Fatal(err)
			}
		}
	})
}
