package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestRootUUID(t *testing.T) {
	const want = "\x7e\x57\xc1\x0d\x00\x00\x40\x00\x80\x00\x00\x00\x00\x00\x00\x01"
	got, err := rootUUID("console=ttyS0 quiet wisp.root=7e57c10d-0000-4000-8000-000000000001 panic=10\n")
	if err != nil || got != want {
		t.Errorf("UUID %x, %v", got, err)
	}
	for _, bad := range []string{"", "quiet", "wisp.root=", "wisp.root=7e57", "wisp.root=/dev/vda2"} {
		if got, err := rootUUID(bad); err == nil {
			t.Errorf("%q gave %x", bad, got)
		}
	}
}

func TestIsRoot(t *testing.T) {
	const uuid = "0123456789abcdef"
	super := make([]byte, 2048)
	super[1024+56], super[1024+57] = 0x53, 0xef
	copy(super[1024+104:], uuid)
	other := append([]byte{}, super...)
	other[1024+104] = 'x'
	for name, tc := range map[string]struct {
		data []byte
		want bool
	}{"root": {super, true}, "another": {other, false}, "short": {super[:1500], false}, "zeros": {make([]byte, 2048), false}} {
		path := filepath.Join(t.TempDir(), "device")
		if err := os.WriteFile(path, tc.data, 0o644); err != nil {
			t.Fatal(err)
		}
		if got := isRoot(path, uuid); got != tc.want {
			t.Errorf("%s: %t, want %t", name, got, tc.want)
		}
	}
}

func TestVirtio(t *testing.T) {
	for modalias, want := range map[string]bool{
		"pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00": true, "virtio:d00000002v00001AF4": true,
		"pci:v00008086d00007010sv00001AF4sd00001100bc01sc01i80": false, "": false,
	} {
		if got := virtio(modalias); got != want {
			t.Errorf("%s: %t, want %t", modalias, got, want)
		}
	}
}
