package domain

import (
	"strings"
	"testing"

	"github.com/wispcloud/wisp/proto/hostspec"
)

// A disk's bounds and cache mode reach libvirt, and one without any has no element for them.
func TestDiskBounds(t *testing.T) {
	plain := describeDisk(Disk{VolumeID: strings.Repeat("a", 32), Path: "/p", Direct: true, Spec: &hostspec.Disk{}}, "virtio", "vd")
	if plain.IOTune != nil || plain.Driver.Cache != "none" {
		t.Errorf("a plain disk has bounds %+v and cache %q", plain.IOTune, plain.Driver.Cache)
	}
	spec := &hostspec.Disk{ReadBytes: 1000, ReadBytesMax: 2000, ReadBytesMaxSeconds: 3, WriteIops: 40, Cache: "writeback"}
	bound := describeDisk(Disk{VolumeID: strings.Repeat("a", 32), Path: "/p", Direct: true, Spec: spec}, "virtio", "vd")
	text, err := bound.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"<read_bytes_sec>1000<", "<read_bytes_sec_max>2000<", "<read_bytes_sec_max_length>3<", "<write_iops_sec>40<", `cache="writeback"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	if strings.Contains(text, `io="native"`) {
		t.Errorf("native I/O needs cache none: %s", text)
	}
}
