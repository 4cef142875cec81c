package store

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// A plan encodes and decodes one struct type in the protobuf wire format. It is
// compiled once per type, so a row costs no reflection.
//
// Fields are numbered by their `row:"N"` tag. A zero value is omitted, fields
// are written in the order of their numbers and maps in the order of their keys,
// so equal rows have equal bytes. Fields the type does not know go to its
// cloud.Unknown field and are written back behind the known ones.
type plan struct {
	typ     reflect.Type
	fields  []field // by number
	byNum   []*field
	unknown uintptr // offset of the cloud.Unknown field
	keeps   bool    // there is one
}

// field is one struct field: its number, its place, and how to write and read it.
type field struct {
	num    protowire.Number
	name   string
	offset uintptr
	kind
}

// kind writes and reads the values of one Go type.
//
// append writes tag and value, or nothing for the zero value. parse reads one
// value whose tag (with the wire type given) was consumed and returns its length,
// or a negative number for malformed input, or wrongType to have the field
// kept as unknown.
type kind struct {
	append func(b []byte, num protowire.Number, p unsafe.Pointer) []byte
	parse  func(b []byte, wt protowire.Type, p unsafe.Pointer, c *reading) int
}

const wrongType = -1 << 30

// reading is the mode of one decode. Strings may point into the input where nobody
// ever writes to it again; byte slices, which a caller may change, only where the
// row does not outlive the decode's caller.
type reading struct{ aliasStrings, aliasBytes bool }

var (
	// kept rows share their strings with the page they come from. It saves most of what
	// a read allocates; a caller that keeps a row keeps the page (4 KiB) with it.
	kept = &reading{aliasStrings: true}
	// passing rows are looked at and dropped.
	passing = &reading{aliasStrings: true, aliasBytes: true}
)

func (c *reading) str(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if c.aliasStrings {
		return unsafe.String(&b[0], len(b))
	}
	return string(b)
}

func (c *reading) bytes(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	if c.aliasBytes {
		return b[:len(b):len(b)]
	}
	return slices.Clone(b)
}

var unknownType = reflect.TypeFor[cloud.Unknown]()

// compile makes the plan of a struct type, and says what is wrong with the type.
func compile(t reflect.Type) (*plan, error) { return compileStruct(t, nil) }

func compileStruct(t reflect.Type, outer []reflect.Type) (*plan, error) {
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("%s is not a struct", t)
	}
	if slices.Contains(outer, t) {
		return nil, fmt.Errorf("%s contains itself", t)
	}
	outer = append(outer, t)
	p := &plan{typ: t}
	seen := map[protowire.Number]string{}
	for i := range t.NumField() {
		sf := t.Field(i)
		if sf.Type == unknownType {
			if p.keeps {
				return nil, fmt.Errorf("%s has two fields for unknown data", t)
			}
			p.keeps, p.unknown = true, sf.Offset
			continue
		}
		tag, ok := sf.Tag.Lookup("row")
		if !ok {
			return nil, fmt.Errorf("%s.%s has no row tag", t, sf.Name)
		}
		n, err := strconv.Atoi(tag)
		num := protowire.Number(n)
		if err != nil || n > maxFieldNumber || !num.IsValid() {
			return nil, fmt.Errorf("%s.%s: row tag %q is not a number from 1 to %d", t, sf.Name, tag, maxFieldNumber)
		}
		if other, dup := seen[num]; dup {
			return nil, fmt.Errorf("%s.%s: row tag %d is taken by %s", t, sf.Name, num, other)
		}
		seen[num] = sf.Name
		k, err := kindOf(sf.Type, outer)
		if err != nil {
			return nil, fmt.Errorf("%s.%s: %w", t, sf.Name, err)
		}
		p.fields = append(p.fields, field{num: num, name: sf.Name, offset: sf.Offset, kind: k})
	}
	if !p.keeps && len(outer) == 1 {
		return nil, fmt.Errorf("%s has no cloud.Unknown field: fields of a newer version would be lost", t)
	}
	slices.SortFunc(p.fields, func(a, b field) int { return int(a.num) - int(b.num) })
	if n := len(p.fields); n > 0 {
		p.byNum = make([]*field, p.fields[n-1].num+1)
	}
	for i := range p.fields {
		p.byNum[p.fields[i].num] = &p.fields[i]
	}
	return p, nil
}

// maxFieldNumber bounds the table that finds a field by its number.
const maxFieldNumber = 1000

// appendRow encodes the struct at p, leaving out the field numbered skip.
func (pl *plan) appendRow(b []byte, p unsafe.Pointer, skip protowire.Number) []byte {
	for i := range pl.fields {
		if f := &pl.fields[i]; f.num != skip {
			b = f.append(b, f.num, unsafe.Add(p, f.offset))
		}
	}
	if pl.keeps {
		b = append(b, *(*cloud.Unknown)(unsafe.Add(p, pl.unknown))...)
	}
	return b
}

// parseRow decodes b into the zero struct at p. The first few fields usually
// come in order; out of order, repeated and unknown ones are taken as they come.
func (pl *plan) parseRow(b []byte, p unsafe.Pointer, c *reading) error {
	total := len(b)
	for len(b) > 0 {
		num, wt, n := consumeTag(b)
		if n < 0 {
			return fmt.Errorf("decode %s at byte %d: malformed tag", pl.typ, total-len(b))
		}
		if int(num) < len(pl.byNum) {
			if f := pl.byNum[num]; f != nil {
				m := f.parse(b[n:], wt, unsafe.Add(p, f.offset), c)
				if m >= 0 {
					b = b[n+m:]
					continue
				}
				if m != wrongType {
					return fmt.Errorf("decode %s.%s at byte %d: malformed", pl.typ, f.name, total-len(b))
				}
			}
		}
		m := protowire.ConsumeFieldValue(num, wt, b[n:])
		if m < 0 {
			return fmt.Errorf("decode %s field %d at byte %d: %w", pl.typ, num, total-len(b), protowire.ParseError(m))
		}
		if pl.keeps {
			u := (*cloud.Unknown)(unsafe.Add(p, pl.unknown))
			*u = append(*u, b[:n+m]...)
		}
		b = b[n+m:]
	}
	return nil
}

// consumeTag is protowire.ConsumeTag with the one-byte tag first.
func consumeTag(b []byte) (protowire.Number, protowire.Type, int) {
	if c := b[0]; c < 0x80 && c>>3 != 0 {
		return protowire.Number(c >> 3), protowire.Type(c & 7), 1
	}
	return protowire.ConsumeTag(b)
}
