package api

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // the wire contract: HMAC-SHA1
	"encoding/base64"
	"hash"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// The signature of CloudStack: HMAC-SHA1 over the lower-cased, sorted, re-encoded parameters. Clients encode some
// characters otherwise than the Java server, and some sort the names after lower-casing them; none of that is
// ambiguous, so a request is right when it matches in any of the forms that can differ for it.

// javaEncoded tells the bytes that java.net.URLEncoder leaves alone.
var javaEncoded = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(".-*_", byte(c)) >= 0
	}
	return t
}()

// form is one way to encode values.
type form struct {
	tilde    bool // ~ raw, not %7e
	star     bool // * as %2a, not raw
	brackets bool // [ and ] raw, not %5b %5d
}

// appendEncoded writes a value, already lower-cased as the whole string to sign is.
func appendEncoded(b []byte, s string, f form) []byte {
	const hex = "0123456789abcdef"
	for i := range len(s) {
		c := s[i]
		raw := javaEncoded[c]
		switch c {
		case '~':
			raw = f.tilde
		case '*':
			raw = !f.star
		case '[', ']':
			raw = f.brackets
		}
		switch {
		case !raw:
			b = append(b, '%', hex[c>>4], hex[c&15])
		case c >= 'A' && c <= 'Z':
			b = append(b, c+'a'-'A')
		default:
			b = append(b, c)
		}
	}
	return b
}

// signer makes the HMACs of one secret.
type signer struct{ macs sync.Pool }

func newSigner(secret string) *signer {
	s := &signer{}
	s.macs.New = func() any { return hmac.New(sha1.New, []byte(secret)) }
	return s
}

// verify tells whether signature is that of the values under the secret.
func (s *signer) verify(v Values, signature string) bool {
	var want, sum [2 * sha1.Size]byte
	if base64.StdEncoding.DecodedLen(len(signature)) > len(want) { // some clients leave the line's end on it
		return false
	}
	if n, err := base64.StdEncoding.Decode(want[:], []byte(signature)); err != nil || n != sha1.Size {
		return false
	}
	mac := s.macs.Get().(hash.Hash)
	defer s.macs.Put(mac)
	b := buffer()
	defer recycle(b)
	signs := func(o Values, f form) bool {
		*b = appendSigned((*b)[:0], o, f)
		mac.Reset()
		mac.Write(*b)
		return hmac.Equal(mac.Sum(sum[:0]), want[:sha1.Size])
	}
	var few [16]value // what most requests have needs no memory of its own
	signed := few[:0]
	var tilde, star, brackets bool
	for _, p := range v {
		if p.lower == "signature" {
			continue
		}
		signed = append(signed, p)
		tilde = tilde || strings.Contains(p.text, "~")
		star = star || strings.Contains(p.text, "*")
		brackets = brackets || strings.ContainsAny(p.text, "[]")
	}
	// Java's order first: names as sent. Values come in the order of lower-case names.
	byName := func(a, b value) int { return cmp.Compare(a.name, b.name) }
	var lowerOrder []value
	if !slices.IsSortedFunc(signed, byName) {
		lowerOrder = slices.Clone(signed)
		slices.SortStableFunc(signed, byName)
	}
	for _, f := range forms(tilde, star, brackets) {
		if signs(signed, f) || lowerOrder != nil && signs(lowerOrder, f) {
			return true
		}
	}
	return false
}

// forms lists the encodings that differ for a request, the Java one first.
func forms(tilde, star, brackets bool) []form {
	out := []form{{}}
	double := func(differs bool, set func(*form)) {
		if !differs {
			return
		}
		for _, f := range out {
			set(&f)
			out = append(out, f)
		}
	}
	double(tilde, func(f *form) { f.tilde = true })
	double(star, func(f *form) { f.star = true })
	double(brackets, func(f *form) { f.brackets = true })
	return out
}

func appendSigned(b []byte, v Values, f form) []byte {
	for i, p := range v {
		if i > 0 {
			b = append(b, '&')
		}
		b = append(append(b, p.lower...), '=')
		b = appendEncoded(b, p.text, f)
	}
	return b
}

// sign makes a signature in the Java form.
func sign(v Values, secret string) string {
	signed := slices.DeleteFunc(slices.Clone(v), func(p value) bool { return p.lower == "signature" })
	slices.SortStableFunc(signed, func(a, b value) int { return cmp.Compare(a.name, b.name) })
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write(appendSigned(nil, signed, form{}))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// expired tells whether a request of signature version 3 is past its time, or says none that can be read.
func expired(v Values, now time.Time) bool {
	if v.Get("signatureversion") != "3" {
		return false
	}
	for _, layout := range []string{TimeLayout, time.RFC3339} {
		// A + that was not encoded arrives as a space.
		if t, err := time.Parse(layout, strings.Replace(v.Get("expires"), " ", "+", 1)); err == nil {
			return !now.Before(t)
		}
	}
	return true
}

// Sign gives the signature parameter of a request, in the Java form.
func Sign(v url.Values, secret cloud.Secret) string {
	all := make(Values, 0, len(v))
	for name, texts := range v {
		for _, t := range texts {
			all = append(all, value{name, strings.ToLower(name), t})
		}
	}
	return sign(all, string(secret))
}
