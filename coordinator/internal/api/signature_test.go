package api

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // the wire contract
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// client signs as one client family does: an implementation of its own, from CLIENTS' table.
type client struct {
	name     string
	lowerKey bool              // sorts by lower-case names
	raw      string            // bytes left alone beside letters and digits
	space    string            // what a space becomes on the wire
	extra    map[string]string // further parameters
}

// clients are the families seen on the wire.
var clients = []client{
	{name: "cmk", raw: "-_.~*", space: "%20"},
	{name: "cloudstack-go", raw: "-_.~*", space: "+", extra: map[string]string{"signatureversion": "3", "expires": "2026-01-02T03:19:05Z"}},
	{name: "cs", raw: "-_.~*", space: "+", extra: map[string]string{"signatureVersion": "3", "expires": "2026-01-02T03:14:05+0000"}},
	{name: "libcloud", lowerKey: true, raw: "-_.~*[]", space: "+"},
	{name: "marvin, python 3", lowerKey: true, raw: "-_.~", space: "+"},
	{name: "marvin, python 2", lowerKey: true, raw: "-_.", space: "+"},
	{name: "java", raw: "-_.*", space: "+"},
}

func (c client) encode(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch ch := s[i]; {
		case ch >= 'a' && ch <= 'z', ch >= 'A' && ch <= 'Z', ch >= '0' && ch <= '9', strings.IndexByte(c.raw, ch) >= 0:
			b.WriteByte(ch)
		default:
			fmt.Fprintf(&b, "%%%02X", ch)
		}
	}
	return b.String()
}

// query makes a signed query string of parameters in the order given.
func (c client) query(params [][2]string, secret string) string {
	for k, v := range c.extra {
		params = append(params, [2]string{k, v})
	}
	sorted := slices.Clone(params)
	slices.SortFunc(sorted, func(a, b [2]string) int {
		if c.lowerKey {
			return strings.Compare(strings.ToLower(a[0]), strings.ToLower(b[0]))
		}
		return strings.Compare(a[0], b[0])
	})
	var parts, wire []string
	for _, p := range sorted {
		parts = append(parts, p[0]+"="+c.encode(p[1]))
	}
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write([]byte(strings.ToLower(strings.Join(parts, "&"))))
	for _, p := range params {
		wire = append(wire, url.QueryEscape(p[0])+"="+strings.ReplaceAll(url.QueryEscape(p[1]), "+", c.space))
	}
	return strings.Join(append(wire, "signature="+url.QueryEscape(base64.StdEncoding.EncodeToString(mac.Sum(nil)))), "&")
}

var signed = [][2]string{
	{"command", "deployVirtualMachine"},
	{"apiKey", "Key"},
	{"response", "json"},
	{"zoneid", "z"},
	{"Name", "a b+c/d,e:f"},
	{"displayname", "tilde~ star* [x] ümlaut 日本 & = % \"quoted\""},
	{"tags[0].key", "k"},
	{"Tags[0].value", "v"},
	{"startvm", "False"},
	{"empty", ""},
}

func TestSignatureOfEveryClient(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			v, err := parseValues(c.query(signed, "secret"), "")
			if err != nil {
				t.Fatal(err)
			}
			if !newSigner("secret").verify(v, v.Get("signature")) {
				t.Error("the signature is refused")
			}
			if expired(v, now) {
				t.Error("the request counts as expired")
			}
			if newSigner("Secret").verify(v, v.Get("signature")) {
				t.Error("the signature is good under another secret")
			}
			for i := range v {
				if v[i].lower == "signature" {
					continue
				}
				forged := slices.Clone(v)
				forged[i].text += "x"
				if newSigner("secret").verify(forged, v.Get("signature")) {
					t.Errorf("the signature does not cover %s", v[i].name)
				}
				if newSigner("secret").verify(slices.Delete(slices.Clone(v), i, i+1), v.Get("signature")) {
					t.Errorf("the signature does not cover the presence of %s", v[i].name)
				}
			}
		})
	}
}

// Query and body are one set of parameters: where each stands does not matter.
func TestSignatureOfMixedRequest(t *testing.T) {
	q := clients[0].query(signed, "s")
	parts := strings.Split(q, "&")
	for i := range parts {
		v, err := parseValues(strings.Join(parts[:i], "&"), strings.Join(parts[i:], "&"))
		if err != nil || !newSigner("s").verify(v, v.Get("signature")) {
			t.Errorf("%d parameters in the query: %v", i, err)
		}
	}
}

// Parameters folded into the name of another have the same signed text: signatureversion=3 would be gone, and with it
// the expiry.
func TestFoldedParametersAreRefused(t *testing.T) {
	for _, q := range []string{
		"response%3Djson%26signatureversion=3", "a%26b=1", "a%2525=1", "a%2Bb=1", "a+b=1", "a%23=1", "a%0a=1", "a%00=1",
	} {
		if v, err := parseValues(q); err == nil {
			t.Errorf("%s is read as %v", q, v)
		}
	}
	for _, q := range []string{"tags[0].key=x", "tags%5B0%5D.key=x", "details%5b0%5d.cpu-number=1", "a_b=1"} {
		if _, err := parseValues(q); err != nil {
			t.Errorf("%s: %v", q, err)
		}
	}
}

func TestBadSignatures(t *testing.T) {
	v, err := parseValues(clients[0].query(signed, "s"), "")
	if err != nil {
		t.Fatal(err)
	}
	good := v.Get("signature")
	for _, bad := range []string{"", "x", "====", good[:len(good)-4], good + good, strings.ToLower(good), " " + good} {
		if newSigner("s").verify(v, bad) {
			t.Errorf("%q is taken for a signature", bad)
		}
	}
}

func TestExpired(t *testing.T) {
	now := time.Date(2026, 11, 23, 13, 0, 0, 0, time.UTC)
	for _, x := range []struct {
		query string
		want  bool
	}{
		{"", false},
		{"expires=2020-01-01T00:00:00Z", false}, // without the version it means nothing, as in 4.1
		{"signatureVersion=2&expires=2020-01-01T00:00:00Z", false},
		{"signatureVersion=3", true},
		{"signatureversion=3&expires=", true},
		{"signatureversion=3&expires=tomorrow", true},
		{"signatureversion=3&expires=2026-11-23T13:00:00Z", true},
		{"signatureversion=3&expires=2026-11-23T13:00:01Z", false},
		{"SIGNATUREVERSION=3&EXPIRES=2026-11-23T13:00:01%2B0000", false},
		{"signatureversion=3&expires=2026-11-23T13:00:01+0000", false}, // a + that was not encoded
		{"signatureversion=3&expires=2026-11-23T13:00:01%2B00:00", false},
		{"signatureversion=3&expires=2026-11-23T14:00:01%2B0100", false},
		{"signatureversion=3&expires=2026-11-23T13:30:00%2B0100", true},
	} {
		v, err := parseValues(x.query)
		if err != nil {
			t.Fatal(err)
		}
		if got := expired(v, now); got != x.want {
			t.Errorf("%s: expired is %v", x.query, got)
		}
	}
}

// FuzzSignature: whatever is sent, checking ends without a panic; what one signs oneself is good, and not under another
// secret.
func FuzzSignature(f *testing.F) {
	for _, c := range clients {
		f.Add(c.query(signed, "secret"), "")
	}
	f.Add("a=1&A=1&signature=x", "signatureversion=3&expires=%00")
	f.Fuzz(func(t *testing.T, query, body string) {
		v, err := parseValues(query, body)
		if err != nil {
			return
		}
		expired(v, time.Unix(0, 0))
		if newSigner("the secret that nobody has").verify(v, v.Get("signature")) {
			t.Fatal("a signature is good under a secret that did not make it")
		}
		if s := sign(v, "k"); !newSigner("k").verify(v, s) || newSigner("l").verify(v, s) {
			t.Fatalf("the signature %s of %q is not the one wanted", s, v)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	v, err := parseValues(clients[0].query(signed[:4], "secret"), "")
	if err != nil {
		b.Fatal(err)
	}
	s := v.Get("signature")
	b.ReportAllocs()
	for b.Loop() {
		if !newSigner("secret").verify(v, s) {
			b.Fatal("refused")
		}
	}
}
