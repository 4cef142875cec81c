package store

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"time"
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// A scalar is a kind that can also stand in a slice: put writes a value without
// its tag, zero or not, and get reads one.
type scalar struct {
	wire   protowire.Type
	isZero func(p unsafe.Pointer) bool
	put    func(b []byte, p unsafe.Pointer) []byte
	get    func(b []byte, p unsafe.Pointer, c *reading) int
}

// kindOf finds how a field of type t is kept.
func kindOf(t reflect.Type, outer []reflect.Type) (kind, error) {
	if t.Kind() == reflect.Map {
		return mapKind(t)
	}
	if t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8 {
		s, err := scalarOf(t.Elem(), outer)
		if err != nil {
			return kind{}, err
		}
		return sliceKind(t, s), nil
	}
	s, err := scalarOf(t, outer)
	if err != nil {
		return kind{}, err
	}
	return kind{
		append: func(b []byte, num protowire.Number, p unsafe.Pointer) []byte {
			if s.isZero(p) {
				return b
			}
			return s.put(protowire.AppendTag(b, num, s.wire), p)
		},
		parse: func(b []byte, wt protowire.Type, p unsafe.Pointer, c *reading) int {
			if wt != s.wire {
				return wrongType
			}
			return s.get(b, p, c)
		},
	}, nil
}

// scalarOf finds how one value of type t is kept.
func scalarOf(t reflect.Type, outer []reflect.Type) (scalar, error) {
	switch t {
	case reflect.TypeFor[time.Time]():
		return timeScalar, nil
	case reflect.TypeFor[netip.Addr]():
		return addrScalar, nil
	case reflect.TypeFor[netip.Prefix]():
		return prefixScalar, nil
	}
	switch t.Kind() {
	case reflect.String:
		return stringScalar, nil
	case reflect.Bool:
		return boolScalar, nil
	case reflect.Int8:
		return intScalar[int8](), nil
	case reflect.Int16:
		return intScalar[int16](), nil
	case reflect.Int32:
		return intScalar[int32](), nil
	case reflect.Int, reflect.Int64: // time.Duration too
		return intScalar[int64](), nil
	case reflect.Uint8:
		return uintScalar[uint8](), nil
	case reflect.Uint16:
		return uintScalar[uint16](), nil
	case reflect.Uint32:
		return uintScalar[uint32](), nil
	case reflect.Uint, reflect.Uint64:
		return uintScalar[uint64](), nil
	case reflect.Float64:
		return floatScalar, nil
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return bytesScalar, nil
		}
	case reflect.Array:
		if t == reflect.TypeFor[cloud.ID]() {
			return idScalar, nil
		}
		if t.Elem().Kind() == reflect.Uint8 && t.Len() > 0 {
			return arrayScalar(t.Len()), nil
		}
	case reflect.Struct:
		return structScalar(t, outer)
	}
	return scalar{}, fmt.Errorf("a row cannot hold a %s", t)
}

var stringScalar = scalar{
	wire:   protowire.BytesType,
	isZero: func(p unsafe.Pointer) bool { return len(*(*string)(p)) == 0 },
	put:    func(b []byte, p unsafe.Pointer) []byte { return protowire.AppendString(b, *(*string)(p)) },
	get: func(b []byte, p unsafe.Pointer, c *reading) int {
		v, n := consumeBytes(b)
		if n >= 0 {
			*(*string)(p) = c.str(v)
		}
		return n
	},
}

var bytesScalar = scalar{
	wire:   protowire.BytesType,
	isZero: func(p unsafe.Pointer) bool { return len(*(*[]byte)(p)) == 0 },
	put:    func(b []byte, p unsafe.Pointer) []byte { return protowire.AppendBytes(b, *(*[]byte)(p)) },
	get: func(b []byte, p unsafe.Pointer, c *reading) int {
		v, n := consumeBytes(b)
		if n >= 0 {
			*(*[]byte)(p) = c.bytes(v)
		}
		return n
	},
}

var boolScalar = scalar{
	wire:   protowire.VarintType,
	isZero: func(p unsafe.Pointer) bool { return !*(*bool)(p) },
	put: func(b []byte, p unsafe.Pointer) []byte {
		return protowire.AppendVarint(b, protowire.EncodeBool(*(*bool)(p)))
	},
	get: func(b []byte, p unsafe.Pointer, _ *reading) int {
		v, n := protowire.ConsumeVarint(b)
		if n >= 0 {
			*(*bool)(p) = v != 0
		}
		return n
	},
}

func intScalar[T int8 | int16 | int32 | int64]() scalar {
	return scalar{
		wire:   protowire.VarintType,
		isZero: func(p unsafe.Pointer) bool { return *(*T)(p) == 0 },
		put: func(b []byte, p unsafe.Pointer) []byte {
			return protowire.AppendVarint(b, protowire.EncodeZigZag(int64(*(*T)(p))))
		},
		get: func(b []byte, p unsafe.Pointer, _ *reading) int {
			v, n := protowire.ConsumeVarint(b)
			if n >= 0 {
				*(*T)(p) = T(protowire.DecodeZigZag(v))
			}
			return n
		},
	}
}

func uintScalar[T uint8 | uint16 | uint32 | uint64]() scalar {
	return scalar{
		wire:   protowire.VarintType,
		isZero: func(p unsafe.Pointer) bool { return *(*T)(p) == 0 },
		put: func(b []byte, p unsafe.Pointer) []byte {
			return protowire.AppendVarint(b, uint64(*(*T)(p)))
		},
		get: func(b []byte, p unsafe.Pointer, _ *reading) int {
			v, n := protowire.ConsumeVarint(b)
			if n >= 0 {
				*(*T)(p) = T(v)
			}
			return n
		},
	}
}

var floatScalar = scalar{
	wire:   protowire.Fixed64Type,
	isZero: func(p unsafe.Pointer) bool { return *(*uint64)(p) == 0 },
	put:    func(b []byte, p unsafe.Pointer) []byte { return protowire.AppendFixed64(b, *(*uint64)(p)) },
	get: func(b []byte, p unsafe.Pointer, _ *reading) int {
		v, n := protowire.ConsumeFixed64(b)
		if n >= 0 {
			*(*uint64)(p) = v
		}
		return n
	},
}

// timeScalar keeps microseconds since 1970. The zero time is MinInt64 where it
// cannot be omitted.
var timeScalar = scalar{
	wire:   protowire.Fixed64Type,
	isZero: func(p unsafe.Pointer) bool { return (*time.Time)(p).IsZero() },
	put: func(b []byte, p unsafe.Pointer) []byte {
		t := (*time.Time)(p)
		if t.IsZero() {
			return protowire.AppendFixed64(b, 1<<63)
		}
		return protowire.AppendFixed64(b, uint64(t.UnixMicro()))
	},
	get: func(b []byte, p unsafe.Pointer, _ *reading) int {
		v, n := protowire.ConsumeFixed64(b)
		if n >= 0 {
			*(*time.Time)(p) = time.Time{}
			if int64(v) != math.MinInt64 {
				*(*time.Time)(p) = time.UnixMicro(int64(v)).UTC()
			}
		}
		return n
	},
}

var idScalar = scalar{
	wire:   protowire.BytesType,
	isZero: func(p unsafe.Pointer) bool { return *(*cloud.ID)(p) == cloud.ID{} },
	put: func(b []byte, p unsafe.Pointer) []byte {
		return append(append(b, byte(len(cloud.ID{}))), (*cloud.ID)(p)[:]...)
	},
	get: func(b []byte, p unsafe.Pointer, _ *reading) int {
		v, n := consumeBytes(b)
		if n >= 0 && len(v) != len(cloud.ID{}) {
			return wrongType
		}
		if n >= 0 {
			*(*cloud.ID)(p) = cloud.ID(v)
		}
		return n
	},
}

func arrayScalar(size int) scalar {
	return scalar{
		wire: protowire.BytesType,
		isZero: func(p unsafe.Pointer) bool {
			return !slices.ContainsFunc(unsafe.Slice((*byte)(p), size), func(b byte) bool { return b != 0 })
		},
		put: func(b []byte, p unsafe.Pointer) []byte {
			return protowire.AppendBytes(b, unsafe.Slice((*byte)(p), size))
		},
		get: func(b []byte, p unsafe.Pointer, _ *reading) int {
			v, n := consumeBytes(b)
			if n >= 0 && len(v) != size {
				return wrongType
			}
			if n >= 0 {
				copy(unsafe.Slice((*byte)(p), size), v)
			}
			return n
		},
	}
}

// addrScalar keeps 4 or 16 bytes and a zone; no bytes for the absent address.
var addrScalar = scalar{
	wire:   protowire.BytesType,
	isZero: func(p unsafe.Pointer) bool { return !(*netip.Addr)(p).IsValid() },
	put: func(b []byte, p unsafe.Pointer) []byte {
		return appendSized(b, func(b []byte) []byte { return appendAddr(b, *(*netip.Addr)(p)) })
	},
	get: func(b []byte, p unsafe.Pointer, c *reading) int {
		v, n := consumeBytes(b)
		if n < 0 {
			return n
		}
		var a netip.Addr
		// An address keeps its zone, so it must not be read from aliased bytes;
		// UnmarshalBinary copies.
		if err := a.UnmarshalBinary(v); err != nil {
			return wrongType
		}
		*(*netip.Addr)(p) = a
		return n
	},
}

func appendAddr(b []byte, a netip.Addr) []byte {
	switch {
	case !a.IsValid():
		return b
	case a.Is4():
		v := a.As4()
		return append(b, v[:]...)
	}
	v := a.As16()
	return append(append(b, v[:]...), a.Zone()...)
}

// prefixScalar keeps an address and one byte of length.
var prefixScalar = scalar{
	wire:   protowire.BytesType,
	isZero: func(p unsafe.Pointer) bool { return !(*netip.Prefix)(p).IsValid() },
	put: func(b []byte, p unsafe.Pointer) []byte {
		v := *(*netip.Prefix)(p)
		if !v.IsValid() {
			return append(b, 0)
		}
		return appendSized(b, func(b []byte) []byte { return append(appendAddr(b, v.Addr()), byte(v.Bits())) })
	},
	get: func(b []byte, p unsafe.Pointer, _ *reading) int {
		v, n := consumeBytes(b)
		if n < 0 {
			return n
		}
		var a netip.Prefix
		if len(v) > 0 {
			var addr netip.Addr
			if addr.UnmarshalBinary(v[:len(v)-1]) != nil || addr.Zone() != "" {
				return wrongType
			}
			if a = netip.PrefixFrom(addr, int(v[len(v)-1])); !a.IsValid() {
				return wrongType
			}
		}
		*(*netip.Prefix)(p) = a
		return n
	},
}

// structScalar keeps a nested struct as a sized message.
func structScalar(t reflect.Type, outer []reflect.Type) (scalar, error) {
	pl, err := compileStruct(t, outer)
	if err != nil {
		return scalar{}, err
	}
	return scalar{
		wire: protowire.BytesType,
		isZero: func(p unsafe.Pointer) bool {
			var buf [64]byte
			return len(pl.appendRow(buf[:0], p, 0)) == 0
		},
		put: func(b []byte, p unsafe.Pointer) []byte {
			return appendSized(b, func(b []byte) []byte { return pl.appendRow(b, p, 0) })
		},
		get: func(b []byte, p unsafe.Pointer, c *reading) int {
			v, n := consumeBytes(b)
			if n < 0 {
				return n
			}
			reflect.NewAt(t, p).Elem().SetZero() // a repeated field replaces
			if pl.parseRow(v, p, c) != nil {
				return malformed
			}
			return n
		},
	}, nil
}

const malformed = -1

// appendSized writes what f appends behind its length.
func appendSized(b []byte, f func([]byte) []byte) []byte {
	at := len(b)
	b = f(append(b, 0))
	size := len(b) - at - 1
	if size < 0x80 {
		b[at] = byte(size)
		return b
	}
	head := binary.AppendUvarint(nil, uint64(size))
	return slices.Replace(b, at, at+1, head...)
}

// consumeBytes is protowire.ConsumeBytes with the one-byte length first.
func consumeBytes(b []byte) ([]byte, int) {
	if len(b) > 0 && b[0] < 0x80 {
		n := int(b[0]) + 1
		if n > len(b) {
			return nil, malformed
		}
		return b[1:n], n
	}
	return protowire.ConsumeBytes(b)
}

// sliceKind keeps numbers packed in one field and everything else as one field
// per element.
func sliceKind(t reflect.Type, s scalar) kind {
	size := t.Elem().Size()
	grow := func(p unsafe.Pointer) unsafe.Pointer {
		v := reflect.NewAt(t, p).Elem()
		n := v.Len()
		v.Grow(1)
		v.SetLen(n + 1)
		v.Index(n).SetZero()
		return v.Index(n).Addr().UnsafePointer()
	}
	elem := func(p unsafe.Pointer, i int) unsafe.Pointer {
		return unsafe.Add((*sliceHeader)(p).data, uintptr(i)*size)
	}
	if s.wire == protowire.BytesType {
		return kind{
			append: func(b []byte, num protowire.Number, p unsafe.Pointer) []byte {
				for i := range (*sliceHeader)(p).len {
					b = s.put(protowire.AppendTag(b, num, s.wire), elem(p, i))
				}
				return b
			},
			parse: func(b []byte, wt protowire.Type, p unsafe.Pointer, c *reading) int {
				if wt != s.wire {
					return wrongType
				}
				v := reflect.NewAt(t, p).Elem()
				n := s.get(b, grow(p), c)
				if n < 0 {
					v.SetLen(v.Len() - 1)
				}
				return n
			},
		}
	}
	return kind{
		append: func(b []byte, num protowire.Number, p unsafe.Pointer) []byte {
			n := (*sliceHeader)(p).len
			if n == 0 {
				return b
			}
			return appendSized(protowire.AppendTag(b, num, protowire.BytesType), func(b []byte) []byte {
				for i := range n {
					b = s.put(b, elem(p, i))
				}
				return b
			})
		},
		parse: func(b []byte, wt protowire.Type, p unsafe.Pointer, c *reading) int {
			if wt != protowire.BytesType {
				return wrongType
			}
			v, n := consumeBytes(b)
			if n < 0 {
				return n
			}
			for len(v) > 0 {
				m := s.get(v, grow(p), c)
				if m < 0 {
					return malformed
				}
				v = v[m:]
			}
			return n
		},
	}
}

// sliceHeader is the layout of a slice of any type.
type sliceHeader struct {
	data unsafe.Pointer
	len  int
	cap  int
}

// mapKind keeps a map of strings as one {1: key, 2: value} message per entry.
func mapKind(t reflect.Type) (kind, error) {
	if t.Key() != reflect.TypeFor[string]() || t.Elem() != reflect.TypeFor[string]() {
		return kind{}, fmt.Errorf("a row cannot hold a %s", t)
	}
	return kind{append: appendMap, parse: parseMapEntry}, nil
}

func appendMap(b []byte, num protowire.Number, p unsafe.Pointer) []byte {
	m := *(*map[string]string)(p)
	if len(m) == 0 {
		return b
	}
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		v := m[k]
		b = protowire.AppendTag(b, num, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(2+protowire.SizeBytes(len(k))+protowire.SizeBytes(len(v))))
		b = protowire.AppendString(protowire.AppendTag(b, 1, protowire.BytesType), k)
		b = protowire.AppendString(protowire.AppendTag(b, 2, protowire.BytesType), v)
	}
	return b
}

func parseMapEntry(b []byte, wt protowire.Type, p unsafe.Pointer, c *reading) int {
	if wt != protowire.BytesType {
		return wrongType
	}
	entry, n := consumeBytes(b)
	if n < 0 {
		return n
	}
	var k, v string
	for len(entry) > 0 {
		num, wt, m := consumeTag(entry)
		if m < 0 {
			return malformed
		}
		entry = entry[m:]
		if wt == protowire.BytesType && (num == 1 || num == 2) {
			s, m := consumeBytes(entry)
			if m < 0 {
				return malformed
			}
			if num == 1 {
				k = c.str(s)
			} else {
				v = c.str(s)
			}
			entry = entry[m:]
			continue
		}
		if m = protowire.ConsumeFieldValue(num, wt, entry); m < 0 {
			return malformed
		}
		entry = entry[m:]
	}
	m := (*map[string]string)(p)
	if *m == nil {
		*m = map[string]string{}
	}
	(*m)[k] = v
	return n
}
