package power

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
)

func event(kind, code uint16, value uint32) []byte {
	b := make([]byte, eventSize)
	binary.NativeEndian.PutUint16(b[typeAt:], kind)
	binary.NativeEndian.PutUint16(b[codeAt:], code)
	binary.NativeEndian.PutUint32(b[valueAt:], value)
	return b
}

func TestPressed(t *testing.T) {
	press := event(evKey, keyPower, pressed)
	tests := []struct {
		name   string
		events [][]byte
		want   error
	}{
		{"pressed", [][]byte{press}, nil},
		{"among others", [][]byte{event(evKey, 30, pressed), event(0, 0, 0), press}, nil},
		{"released only", [][]byte{event(evKey, keyPower, 0)}, io.ErrUnexpectedEOF},
		{"another kind", [][]byte{event(2, keyPower, pressed)}, io.ErrUnexpectedEOF},
		{"half an event", [][]byte{press[:10]}, io.ErrUnexpectedEOF},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := Pressed(bytes.NewReader(bytes.Join(tt.events, nil))); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}
