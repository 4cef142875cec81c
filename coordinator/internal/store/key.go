package store

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"reflect"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// Key is the encoded place of a row in an index. Keys compare as bytes in the
// order of the values they were made of, part by part, and no part is a prefix
// of another value of the same kind. A key of the first parts of an index is
// therefore a prefix of exactly the rows that agree in those parts.
type Key []byte

// K makes a key of strings, byte slices, IDs, integers, booleans, addresses,
// prefixes, times and durations, and of named kinds of those. Integers of all
// widths share one order. It panics on other kinds: a mistake in the program.
func K(parts ...any) Key {
	k := make(Key, 0, 48)
	for _, p := range parts {
		k = appendPart(k, p)
	}
	return k
}

func appendPart(k Key, p any) Key {
	switch v := p.(type) {
	case cloud.ID:
		return append(k, v[:]...)
	case string:
		return appendKeyString(k, v)
	case int:
		return appendKeyInt(k, int64(v))
	case bool:
		if v {
			return append(k, 1)
		}
		return append(k, 0)
	case netip.Addr:
		return appendKeyAddr(k, v)
	case netip.Prefix:
		if !v.IsValid() {
			return append(k, 0)
		}
		return append(appendKeyAddr(k, v.Addr()), byte(v.Bits()))
	case time.Time:
		if v.IsZero() {
			return append(k, 0)
		}
		return appendKeyInt(append(k, 1), v.UnixMicro())
	case Key:
		return append(k, v...)
	case []byte:
		return appendKeyString(k, string(v))
	}
	v := reflect.ValueOf(p)
	switch v.Kind() {
	case reflect.String:
		return appendKeyString(k, v.String())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return appendKeyInt(k, v.Int())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return appendKeyUint(k, v.Uint())
	case reflect.Bool:
		return appendPart(k, v.Bool())
	}
	// Not %T of p: that would move every part of every key to the heap.
	panic("store: a key cannot hold a " + v.Kind().String())
}

// appendKeyString escapes 0x00 as 00 ff and ends with 00 01, which sorts below
// every continuation.
func appendKeyString(k Key, s string) Key {
	for i := 0; i < len(s); i++ {
		if s[i] == 0 {
			k = append(k, 0, 0xff)
		} else {
			k = append(k, s[i])
		}
	}
	return append(k, 0, 1)
}

// appendKeyUint writes the number of significant bytes above 0x80, then those
// bytes: a longer number is a greater one.
func appendKeyUint(k Key, u uint64) Key {
	n := (bits.Len64(u) + 7) / 8
	k = append(k, 0x80+byte(n))
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], u)
	return append(k, b[8-n:]...)
}

// appendKeyInt mirrors negative numbers below 0x80.
func appendKeyInt(k Key, i int64) Key {
	if i >= 0 {
		return appendKeyUint(k, uint64(i))
	}
	u := uint64(-(i + 1)) // 0 .. MaxInt64
	n := (bits.Len64(u) + 7) / 8
	k = append(k, 0x7f-byte(n))
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], ^u)
	return append(k, b[8-n:]...)
}

// appendKeyAddr orders absent, IPv4, IPv6; the zone of an IPv6 address follows.
func appendKeyAddr(k Key, a netip.Addr) Key {
	switch {
	case !a.IsValid():
		return append(k, 0)
	case a.Is4():
		b := a.As4()
		return append(append(k, 4), b[:]...)
	}
	b := a.As16()
	return appendKeyString(append(append(k, 16), b[:]...), a.Zone())
}
