package cloud

import (
	"crypto/sha1" //nolint:gosec // RFC 9562 version 5 names, not security
	"encoding/hex"
	"errors"
)

// ID is a UUID (RFC 9562). The zero ID means "none".
type ID [16]byte

// String gives the lower-case dashed form that clients require; the zero ID gives "".
func (id ID) String() string {
	if id.IsZero() {
		return ""
	}
	b := make([]byte, 36)
	hex.Encode(b[0:8], id[0:4])
	b[8] = '-'
	hex.Encode(b[9:13], id[4:6])
	b[13] = '-'
	hex.Encode(b[14:18], id[6:8])
	b[18] = '-'
	hex.Encode(b[19:23], id[8:10])
	b[23] = '-'
	hex.Encode(b[24:36], id[10:16])
	return string(b)
}

// IsZero tells whether id is "none".
func (id ID) IsZero() bool { return id == ID{} }

// MarshalText implements encoding.TextMarshaler, so that JSON answers carry the string form.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; the empty text is the zero ID.
func (id *ID) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*id = ID{}
		return nil
	}
	v, err := ParseID(string(b))
	*id = v
	return err
}

// ErrBadID says that a text is no UUID.
var ErrBadID = errors.New("not a UUID of the form 8-4-4-4-12 hexadecimal digits")

// ParseID reads the dashed form, in either case.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return id, ErrBadID
	}
	for i, part := range [...][2]int{{0, 8}, {9, 13}, {14, 18}, {19, 23}, {24, 36}} {
		at := [...]int{0, 4, 6, 8, 10}[i]
		if _, err := hex.Decode(id[at:], []byte(s[part[0]:part[1]])); err != nil {
			return ID{}, ErrBadID
		}
	}
	return id, nil
}

// NameID derives the ID of something that is known by its name alone (a setting, a built-in OS type): the version 5
// UUID of kind and name, the same on every machine.
func NameID(kind, name string) ID {
	h := sha1.New() //nolint:gosec // see above
	// The namespace is Wisp's own, a fixed random UUID.
	h.Write([]byte{0x6f, 0x1a, 0x93, 0xd2, 0x5c, 0x0e, 0x4b, 0x7a, 0x9a, 0x41, 0x1e, 0x77, 0xc3, 0x05, 0x2d, 0x88})
	h.Write([]byte(kind))
	h.Write([]byte{0})
	h.Write([]byte(name))
	var id ID
	copy(id[:], h.Sum(nil))
	id[6] = id[6]&0x0f | 0x50
	id[8] = id[8]&0x3f | 0x80
	return id
}
