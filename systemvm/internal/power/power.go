// Package power hears the power button, by which a hypervisor asks a machine to switch itself off: an input device
// that the kernel's ACPI button driver makes (modules button and evdev).
package power

import (
	"encoding/binary"
	"errors"
	"io"
)

// struct input_event on 64-bit machines: two 64-bit words of time, type, code, value (linux/input.h).
const (
	eventSize = 24
	typeAt    = 16
	codeAt    = 18
	valueAt   = 20

	evKey    = 1
	keyPower = 116
	pressed  = 1
)

// Pressed reads the events of one input device until the power button is pressed; it returns an error when the device
// goes away before.
func Pressed(device io.Reader) error {
	var b [eventSize]byte
	for {
		if _, err := io.ReadFull(device, b[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return io.ErrUnexpectedEOF
			}
			return err
		}
		if isPress(b[:]) {
			return nil
		}
	}
}

func isPress(event []byte) bool {
	return binary.NativeEndian.Uint16(event[typeAt:]) == evKey &&
		binary.NativeEndian.Uint16(event[codeAt:]) == keyPower &&
		binary.NativeEndian.Uint32(event[valueAt:]) == pressed
}
