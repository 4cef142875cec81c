package api

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
	"unsafe"
)

// appendXML writes a value as elements named name; lists repeat the element, absent values write none. It is derived
// from the same compiled fields as JSON, in their order.
func (e *encoder) appendXML(b []byte, name string, p unsafe.Pointer) []byte {
	switch e.shape {
	case sliceAnswer:
		h := (*sliceHeader)(p)
		size := e.typ.Elem().Size()
		for i := range h.len {
			b = e.elem.appendXML(b, name, unsafe.Add(h.data, uintptr(i)*size))
		}
		return b
	case pointerAnswer:
		at := *(*unsafe.Pointer)(p)
		if at == nil {
			return b
		}
		return e.elem.appendXML(b, name, at)
	case anyAnswer:
		v := *(*any)(p)
		if v == nil {
			return b
		}
		inner, at := addressable(v)
		return inner.appendXML(b, name, at)
	case rawAnswer:
		d := json.NewDecoder(strings.NewReader(string(*(*JSON)(p))))
		d.UseNumber()
		return appendXMLToken(b, name, d)
	case structAnswer:
		b = append(append(append(b, '<'), name...), '>')
		b = e.appendXMLFields(b, p)
	case mapAnswer:
		b = append(append(append(b, '<'), name...), '>')
		m := *(*map[string]string)(p)
		for _, k := range sortedKeys(m) {
			b = appendXMLEntry(b, k, m[k])
		}
	default:
		b = append(append(append(b, '<'), name...), '>')
		b = e.appendXMLText(b, p)
	}
	return append(append(append(b, "</"...), name...), '>')
}

// appendXMLFields writes what stands inside a struct's element.
func (e *encoder) appendXMLFields(b []byte, p unsafe.Pointer) []byte {
	for _, f := range e.fields {
		at := unsafe.Add(p, f.offset)
		if f.omitempty && f.enc.empty(at) {
			continue
		}
		b = f.enc.appendXML(b, f.name, at)
	}
	return b
}

// appendXMLText writes a scalar: a string's own text, else what JSON writes without its quotes.
func (e *encoder) appendXMLText(b []byte, p unsafe.Pointer) []byte {
	if e.typ.Kind().String() == "string" {
		return escapeXML(b, *(*string)(p))
	}
	n := len(b)
	b = e.json(b, p)
	if b[n] == '"' { // ids, times and addresses need no escapes
		copy(b[n:], b[n+1:len(b)-1])
		b = b[:len(b)-2]
	}
	return b
}

// appendXMLEntry writes one entry of a map: named by its key where that is a name.
func appendXMLEntry(b []byte, k, v string) []byte {
	if isXMLName(k) {
		b = append(append(append(b, '<'), k...), '>')
		b = escapeXML(b, v)
		return append(append(append(b, "</"...), k...), '>')
	}
	b = escapeXML(append(b, `<entry key="`...), k)
	b = escapeXML(append(b, `">`...), v)
	return append(b, "</entry>"...)
}

func isXMLName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
		if !letter && (i == 0 || (c < '0' || c > '9') && c != '-' && c != '.') {
			return false
		}
	}
	return s != "" && !strings.HasPrefix(strings.ToLower(s), "xml")
}

// escapeXML writes character data; what XML 1.0 cannot carry becomes U+FFFD.
func escapeXML(b []byte, s string) []byte {
	for _, r := range s {
		switch {
		case r == '&':
			b = append(b, "&amp;"...)
		case r == '<':
			b = append(b, "&lt;"...)
		case r == '>':
			b = append(b, "&gt;"...)
		case r == '"':
			b = append(b, "&quot;"...)
		case r == '\r':
			b = append(b, "&#13;"...)
		case r < ' ' && r != '\t' && r != '\n', r == 0xFFFE, r == 0xFFFF:
			b = utf8.AppendRune(b, utf8.RuneError)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return b
}

// appendXMLToken writes the next JSON value as elements, in the order of its fields.
func appendXMLToken(b []byte, name string, d *json.Decoder) []byte {
	t, err := d.Token()
	if err != nil {
		return b
	}
	switch t := t.(type) {
	case json.Delim:
		if t == '[' {
			for d.More() {
				b = appendXMLToken(b, name, d)
			}
		} else {
			b = append(append(append(b, '<'), name...), '>')
			for d.More() {
				key, err := d.Token()
				k, ok := key.(string)
				if err != nil || !ok {
					return b
				}
				if !isXMLName(k) {
					k = "entry"
				}
				b = appendXMLToken(b, k, d)
			}
			b = append(append(append(b, "</"...), name...), '>')
		}
		_, _ = d.Token() // the closing one
		return b
	case nil:
		return b
	default:
		b = append(append(append(b, '<'), name...), '>')
		b = escapeXML(b, fmt.Sprint(t))
		return append(append(append(b, "</"...), name...), '>')
	}
}
