package api

import (
	"encoding"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// encoder is an answer type, compiled once. Its JSON is that of encoding/json for the same type (a test compares the
// two), made by appending, without reflection on the way.
type encoder struct {
	typ    reflect.Type
	json   func(b []byte, p unsafe.Pointer) []byte
	empty  func(p unsafe.Pointer) bool // as omitempty means it
	kind   string                      // as listApis names the type
	fields []*answerField              // of a struct
	elem   *encoder                    // of a slice or pointer
	shape  answerShape
}

type answerShape uint8

const (
	scalarAnswer answerShape = iota
	structAnswer
	sliceAnswer
	pointerAnswer
	mapAnswer
	anyAnswer
	rawAnswer
)

// answerField is one field of an answer struct.
type answerField struct {
	name      string
	key       []byte // `"name":`
	offset    uintptr
	omitempty bool
	doc       string
	enc       *encoder
}

var encoders sync.Map // reflect.Type -> *encoder

// encoderOf compiles an answer type; nil has none.
func encoderOf(t reflect.Type) (*encoder, error) {
	if t == nil {
		return nil, nil
	}
	if e, ok := encoders.Load(t); ok {
		return e.(*encoder), nil
	}
	e := &encoder{typ: t}
	seen := map[reflect.Type]*encoder{t: e}
	if err := e.compile(seen); err != nil {
		return nil, err
	}
	actual, _ := encoders.LoadOrStore(t, e)
	return actual.(*encoder), nil
}

func compiled(t reflect.Type, seen map[reflect.Type]*encoder) (*encoder, error) {
	if e := seen[t]; e != nil {
		return e, nil
	}
	e := &encoder{typ: t}
	seen[t] = e
	return e, e.compile(seen)
}

// compile chooses by type. Fields of other encoders are read when encoding, not now: types may be recursive.
func (e *encoder) compile(seen map[reflect.Type]*encoder) error {
	switch e.typ {
	case reflect.TypeFor[cloud.ID]():
		e.scalar("string", appendID, func(p unsafe.Pointer) bool { return (*cloud.ID)(p).IsZero() })
		return nil
	case reflect.TypeFor[Time]():
		e.scalar("date", appendTime, func(p unsafe.Pointer) bool { return (*Time)(p).IsZero() })
		return nil
	case reflect.TypeFor[netip.Addr]():
		e.scalar("string", appendAddr, func(p unsafe.Pointer) bool { return !(*netip.Addr)(p).IsValid() })
		return nil
	case reflect.TypeFor[netip.Prefix]():
		e.scalar("string", appendPrefix, func(p unsafe.Pointer) bool { return !(*netip.Prefix)(p).IsValid() })
		return nil
	case reflect.TypeFor[JSON]():
		e.shape = rawAnswer
		e.scalar("object", func(b []byte, p unsafe.Pointer) []byte {
			if len(*(*JSON)(p)) == 0 {
				return append(b, "null"...)
			}
			return append(b, *(*JSON)(p)...)
		}, func(p unsafe.Pointer) bool { return len(*(*JSON)(p)) == 0 })
		return nil
	case reflect.TypeFor[cloud.Secret](), reflect.TypeFor[cloud.Sealed](), reflect.TypeFor[time.Time]():
		return fmt.Errorf("an answer cannot hold a %s", e.typ)
	}
	if e.typ.Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
		return fmt.Errorf("an answer cannot hold a %s: turn it into a string", e.typ)
	}
	switch e.typ.Kind() {
	case reflect.String:
		e.scalar("string", func(b []byte, p unsafe.Pointer) []byte { return appendString(b, *(*string)(p)) },
			func(p unsafe.Pointer) bool { return *(*string)(p) == "" })
	case reflect.Bool:
		e.scalar("boolean", func(b []byte, p unsafe.Pointer) []byte { return strconv.AppendBool(b, *(*bool)(p)) },
			func(p unsafe.Pointer) bool { return !*(*bool)(p) })
	case reflect.Int, reflect.Int64, reflect.Uint64, reflect.Uint, reflect.Uint32, reflect.Int32,
		reflect.Uint16, reflect.Int16, reflect.Uint8, reflect.Int8, reflect.Float64:
		return e.number()
	case reflect.Struct:
		return e.structure(seen)
	case reflect.Slice:
		return e.slice(seen)
	case reflect.Pointer:
		return e.pointer(seen)
	case reflect.Map:
		return e.mapping()
	case reflect.Interface:
		return e.any()
	default:
		return fmt.Errorf("an answer cannot hold a %s", e.typ)
	}
	return nil
}

func (e *encoder) scalar(kind string, json func([]byte, unsafe.Pointer) []byte, empty func(unsafe.Pointer) bool) {
	e.kind, e.json, e.empty = kind, json, empty
}

func (e *encoder) number() error {
	t := e.typ
	switch t.Kind() {
	case reflect.Int, reflect.Int64:
		e.scalar("long", func(b []byte, p unsafe.Pointer) []byte { return strconv.AppendInt(b, *(*int64)(p), 10) },
			func(p unsafe.Pointer) bool { return *(*int64)(p) == 0 })
	case reflect.Uint, reflect.Uint64:
		e.scalar("long", func(b []byte, p unsafe.Pointer) []byte { return strconv.AppendUint(b, *(*uint64)(p), 10) },
			func(p unsafe.Pointer) bool { return *(*uint64)(p) == 0 })
	case reflect.Int32:
		e.scalar("integer", func(b []byte, p unsafe.Pointer) []byte { return strconv.AppendInt(b, int64(*(*int32)(p)), 10) },
			func(p unsafe.Pointer) bool { return *(*int32)(p) == 0 })
	case reflect.Uint32:
		e.scalar("integer", func(b []byte, p unsafe.Pointer) []byte { return strconv.AppendUint(b, uint64(*(*uint32)(p)), 10) },
			func(p unsafe.Pointer) bool { return *(*uint32)(p) == 0 })
	case reflect.Int16:
		e.scalar("short", func(b []byte, p unsafe.Pointer) []byte { return strconv.AppendInt(b, int64(*(*int16)(p)), 10) },
			func(p unsafe.Pointer) bool { return *(*int16)(p) == 0 })
	case reflect.Uint16:
		e.scalar("integer", func(b []byte, p unsafe.Pointer) []byte { return strconv.AppendUint(b, uint64(*(*uint16)(p)), 10) },
			func(p unsafe.Pointer) bool { return *(*uint16)(p) == 0 })
	case reflect.Int8:
		e.scalar("short", func(b []byte, p unsafe.Pointer) []byte { return strconv.AppendInt(b, int64(*(*int8)(p)), 10) },
			func(p unsafe.Pointer) bool { return *(*int8)(p) == 0 })
	case reflect.Uint8:
		e.scalar("short", func(b []byte, p unsafe.Pointer) []byte { return strconv.AppendUint(b, uint64(*(*uint8)(p)), 10) },
			func(p unsafe.Pointer) bool { return *(*uint8)(p) == 0 })
	case reflect.Float64:
		e.scalar("double", appendFloat, func(p unsafe.Pointer) bool { return *(*float64)(p) == 0 })
	}
	return nil
}

func (e *encoder) structure(seen map[reflect.Type]*encoder) error {
	e.shape, e.kind = structAnswer, "object"
	if err := e.addFields(e.typ, 0, seen); err != nil {
		return err
	}
	e.empty = func(unsafe.Pointer) bool { return false }
	e.json = func(b []byte, p unsafe.Pointer) []byte {
		return append(appendFields(append(b, '{'), e.fields, p, true), '}')
	}
	return nil
}

// appendFields writes fields of the struct at p, the first of them without a comma before it where first is set.
func appendFields(b []byte, fields []*answerField, p unsafe.Pointer, first bool) []byte {
	for _, f := range fields {
		at := unsafe.Add(p, f.offset)
		if f.omitempty && f.enc.empty(at) {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = f.enc.json(append(b, f.key...), at)
	}
	return b
}

func (e *encoder) addFields(t reflect.Type, base uintptr, seen map[reflect.Type]*encoder) error {
	for i := range t.NumField() {
		sf := t.Field(i)
		tag := sf.Tag.Get("json")
		if sf.Anonymous && tag == "" && sf.Type.Kind() == reflect.Struct {
			if err := e.addFields(sf.Type, base+sf.Offset, seen); err != nil {
				return err
			}
			continue
		}
		if tag == "" || tag == "-" {
			return fmt.Errorf("%s.%s has no json name", t, sf.Name)
		}
		name, opts, _ := strings.Cut(tag, ",")
		enc, err := compiled(sf.Type, seen)
		if err != nil {
			return fmt.Errorf("%s.%s: %w", t, sf.Name, err)
		}
		if opts != "" && opts != "omitempty" {
			return fmt.Errorf("%s.%s: unknown json option %q", t, sf.Name, opts)
		}
		for _, f := range e.fields {
			if f.name == name {
				return fmt.Errorf("%s: field %s is declared twice", t, name)
			}
		}
		e.fields = append(e.fields, &answerField{
			name: name, key: append(appendString(nil, name), ':'), offset: base + sf.Offset,
			omitempty: opts == "omitempty", doc: sf.Tag.Get("doc"), enc: enc,
		})
	}
	return nil
}

func (e *encoder) slice(seen map[reflect.Type]*encoder) (err error) {
	e.shape, e.kind = sliceAnswer, "list"
	if e.typ.Elem().Kind() == reflect.Uint8 {
		return fmt.Errorf("an answer cannot hold a %s: turn it into a string", e.typ)
	}
	if e.elem, err = compiled(e.typ.Elem(), seen); err != nil {
		return err
	}
	size := e.typ.Elem().Size()
	e.empty = func(p unsafe.Pointer) bool { return (*sliceHeader)(p).len == 0 }
	e.json = func(b []byte, p unsafe.Pointer) []byte {
		h := (*sliceHeader)(p)
		b = append(b, '[')
		for i := range h.len {
			if i > 0 {
				b = append(b, ',')
			}
			b = e.elem.json(b, unsafe.Add(h.data, uintptr(i)*size))
		}
		return append(b, ']')
	}
	return nil
}

// sliceHeader is the layout of a slice of any type.
type sliceHeader struct {
	data unsafe.Pointer
	len  int
	_    int
}

func (e *encoder) pointer(seen map[reflect.Type]*encoder) (err error) {
	e.shape = pointerAnswer
	if e.elem, err = compiled(e.typ.Elem(), seen); err != nil {
		return err
	}
	e.kind = e.elem.kind
	e.empty = func(p unsafe.Pointer) bool { return *(*unsafe.Pointer)(p) == nil }
	e.json = func(b []byte, p unsafe.Pointer) []byte {
		at := *(*unsafe.Pointer)(p)
		if at == nil {
			return append(b, "null"...)
		}
		return e.elem.json(b, at)
	}
	return nil
}

func (e *encoder) mapping() error {
	if e.typ != reflect.TypeFor[map[string]string]() {
		return fmt.Errorf("an answer cannot hold a %s", e.typ)
	}
	e.shape, e.kind = mapAnswer, "map"
	e.empty = func(p unsafe.Pointer) bool { return len(*(*map[string]string)(p)) == 0 }
	e.json = func(b []byte, p unsafe.Pointer) []byte {
		m := *(*map[string]string)(p)
		b = append(b, '{')
		for i, k := range sortedKeys(m) {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(append(appendString(b, k), ':'), m[k])
		}
		return append(b, '}')
	}
	return nil
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// any looks the type up when encoding.
func (e *encoder) any() error {
	if e.typ.NumMethod() > 0 {
		return fmt.Errorf("an answer cannot hold a %s", e.typ)
	}
	e.shape, e.kind = anyAnswer, "object"
	e.empty = func(p unsafe.Pointer) bool { return *(*any)(p) == nil }
	e.json = func(b []byte, p unsafe.Pointer) []byte {
		v := *(*any)(p)
		if v == nil {
			return append(b, "null"...)
		}
		return appendJSON(b, v)
	}
	return nil
}

// addressable gives the encoder of a value and where it stands.
func addressable(v any) (*encoder, unsafe.Pointer) {
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.Pointer {
		at := reflect.New(rv.Type())
		at.Elem().Set(rv)
		rv = at
	}
	e, err := encoderOf(rv.Type().Elem())
	if err != nil {
		panic(fmt.Sprintf("api: %v", err)) // types of commands are checked when they are registered
	}
	return e, rv.UnsafePointer()
}

// appendJSON encodes a value, or what a pointer points to.
func appendJSON(b []byte, v any) []byte {
	e, p := addressable(v)
	return e.json(b, p)
}

func appendID(b []byte, p unsafe.Pointer) []byte {
	id := (*cloud.ID)(p)
	if id.IsZero() {
		return append(b, `""`...)
	}
	const digits = "0123456789abcdef"
	b = append(b, '"')
	for i, c := range id {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			b = append(b, '-')
		}
		b = append(b, digits[c>>4], digits[c&15])
	}
	return append(b, '"')
}

func appendTime(b []byte, p unsafe.Pointer) []byte {
	t := time.Time(*(*Time)(p))
	b = append(b, '"')
	if !t.IsZero() {
		b = t.AppendFormat(b, TimeLayout)
	}
	return append(b, '"')
}

func appendAddr(b []byte, p unsafe.Pointer) []byte {
	b = append(b, '"')
	if a := (*netip.Addr)(p); a.IsValid() {
		b = a.AppendTo(b)
	}
	return append(b, '"')
}

func appendPrefix(b []byte, p unsafe.Pointer) []byte {
	b = append(b, '"')
	if a := (*netip.Prefix)(p); a.IsValid() {
		b = a.AppendTo(b)
	}
	return append(b, '"')
}

// appendFloat writes a number as encoding/json does.
func appendFloat(b []byte, p unsafe.Pointer) []byte {
	f := *(*float64)(p)
	if f != f || f > 1e308 || f < -1e308 {
		return append(b, '0') // JSON has no such number; a figure nobody can have is better than a broken answer
	}
	abs := max(f, -f)
	format := byte('f')
	if abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	b = strconv.AppendFloat(b, f, format, -1, 64)
	if format == 'e' {
		if n := len(b); n >= 4 && b[n-4] == 'e' && (b[n-3] == '-' || b[n-3] == '+') && b[n-2] == '0' {
			b[n-2] = b[n-1]
			b = b[:n-1]
		}
	}
	return b
}

// plain marks the bytes that stand for themselves in a JSON string. <, > and & do not: an answer that somebody puts
// into a page must not become markup.
var plain = func() (t [utf8.RuneSelf]bool) {
	for c := range t {
		t[c] = c >= ' ' && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&' && c != 0x7f
	}
	t[0x7f] = true
	return t
}()

// appendString writes a JSON string.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if plain[c] {
				i++
				continue
			}
			b = append(b, s[start:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\b':
				b = append(b, '\\', 'b')
			case '\f':
				b = append(b, '\\', 'f')
			case '\n':
				b = append(b, '\\', 'n')
			case '\r':
				b = append(b, '\\', 'r')
			case '\t':
				b = append(b, '\\', 't')
			default:
				b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 || r == '\u2028' || r == '\u2029' {
			b = append(b, s[start:i]...)
			if r == utf8.RuneError {
				b = append(b, `\ufffd`...)
			} else {
				b = append(b, '\\', 'u', '2', '0', '2', hex[r&15])
			}
			start = i + size
		}
		i += size
	}
	return append(append(b, s[start:]...), '"')
}
