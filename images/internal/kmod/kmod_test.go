package kmod

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/wispcloud/wisp/images/internal/tree"
)

// ko makes the least ELF file that has a .modinfo section: header, the section's
// data, section names, and three section headers.
func ko(info ...string) []byte {
	data := []byte(strings.Join(info, "\x00") + "\x00")
	names := []byte("\x00.modinfo\x00.shstrtab\x00")
	var b bytes.Buffer
	w := func(v ...any) {
		for _, x := range v {
			_ = binary.Write(&b, binary.LittleEndian, x)
		}
	}
	dataAt := uint64(64)
	namesAt := dataAt + uint64(len(data))
	headersAt := namesAt + uint64(len(names))
	w([]byte("\x7fELF\x02\x01\x01"), make([]byte, 9), uint16(1), uint16(62), uint32(1), uint64(0), uint64(0), headersAt,
		uint32(0), uint16(64), uint16(0), uint16(0), uint16(64), uint16(3), uint16(2))
	b.Write(data)
	b.Write(names)
	section := func(name, kind uint32, at, size uint64) {
		w(name, kind, uint64(0), uint64(0), at, size, uint32(0), uint32(0), uint64(1), uint64(0))
	}
	section(0, 0, 0, 0)
	section(1, 1, dataAt, uint64(len(data)))
	section(10, 3, namesAt, uint64(len(names)))
	return b.Bytes()
}

func testModules(t *testing.T, files map[string][]byte) *Modules {
	t.Helper()
	tr := tree.New()
	for p, b := range files {
		if err := tr.AddFile("usr/lib/modules/6.1/"+p, 0o644, b); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"6.1"}, Releases(tr)); diff != "" {
		t.Errorf("releases (-want +got):\n%s", diff)
	}
	m, err := Find(tr, "6.1")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

var files = map[string][]byte{
	"modules.builtin":              []byte("kernel/fs/ext4/ext4.ko\nkernel/lib/crc-16.ko\n"),
	"kernel/net/virtio_net.ko":     ko("license=GPL", "alias=virtio:d00000001v*", "depends=net_failover,virtio_ring,virtio", "name=virtio_net"),
	"kernel/net/net_failover.ko":   ko("depends=failover"),
	"kernel/net/failover.ko":       ko("depends="),
	"kernel/virtio/virtio.ko":      ko("depends=", "alias=acpi*:X:*"),
	"kernel/virtio/virtio_ring.ko": ko("depends=virtio"),
	"kernel/fs/isofs.ko":           ko("softdep=pre: nls-utf8 absent post: later", "alias=fs-iso9660"),
	"kernel/fs/nls-utf8.ko":        ko("depends=crc16"),
	"kernel/fs/later.ko":           ko(),
	"kernel/a.ko":                  ko("depends=b"),
	"kernel/b.ko":                  ko("depends=a"),
	"kernel/broken.ko":             []byte("not ELF"),
	"kernel/needs.ko":              ko("depends=nowhere"),
}

func TestInstallAt(t *testing.T) {
	files["modules.builtin"] = append(files["modules.builtin"], "kernel/lib/crc16.ko\n"...)
	m := testModules(t, files)
	list, err := m.Closure("virtio-net", "isofs", "ext4", "virtio_net")
	if err != nil {
		t.Fatal(err)
	}
	tr := tree.New()
	if err := m.InstallAt(tr, "lib/modules/6.1", list); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, e := range tr.All() {
		if e.Kind == tree.File {
			got.WriteString(e.Path + "\n")
		}
	}
	for _, p := range []string{"modules.dep", "modules.alias"} {
		e, err := tr.Get("lib/modules/6.1/" + p)
		if err != nil {
			t.Fatal(err)
		}
		got.WriteString("--- " + p + "\n" + string(e.Data))
	}
	want := `lib/modules/6.1/kernel/fs/isofs.ko
lib/modules/6.1/kernel/fs/nls-utf8.ko
lib/modules/6.1/kernel/net/failover.ko
lib/modules/6.1/kernel/net/net_failover.ko
lib/modules/6.1/kernel/net/virtio_net.ko
lib/modules/6.1/kernel/virtio/virtio.ko
lib/modules/6.1/kernel/virtio/virtio_ring.ko
lib/modules/6.1/modules.alias
lib/modules/6.1/modules.dep
--- modules.dep
kernel/net/failover.ko:
kernel/net/net_failover.ko: kernel/net/failover.ko
kernel/virtio/virtio.ko:
kernel/virtio/virtio_ring.ko: kernel/virtio/virtio.ko
kernel/net/virtio_net.ko: kernel/virtio/virtio_ring.ko kernel/virtio/virtio.ko kernel/net/net_failover.ko kernel/net/failover.ko
kernel/fs/nls-utf8.ko:
kernel/fs/isofs.ko: kernel/fs/nls-utf8.ko
--- modules.alias
alias acpi*:X:* virtio
alias virtio:d00000001v* virtio_net
alias fs-iso9660 isofs
`
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("installed (-want +got):\n%s", diff)
	}
}

func TestMatch(t *testing.T) {
	m := testModules(t, files)
	got, err := m.Match("virtio_*", "virtio_net", "isofs")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"isofs", "virtio_net", "virtio_ring"}, got); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	for pattern, want := range map[string]string{"xt_*": "none of such a name", "[": "syntax error"} {
		if _, err := m.Match(pattern); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("match %s: %v, want %q", pattern, err, want)
		}
	}
}

func TestClosureRefuses(t *testing.T) {
	m := testModules(t, files)
	for name, want := range map[string]string{
		"absent": "has none of that name", "a": "depends on itself", "broken": "read module broken", "needs": "choose module nowhere",
	} {
		if _, err := m.Closure(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("closure of %s: %v, want %q", name, err, want)
		}
	}
	if _, err := Find(tree.New(), "6.1"); err == nil {
		t.Error("modules were found in an empty tree")
	}
}

// TestLean takes a signed module with droppable sections apart: what is left is the file without them, every section
// under its old number and with its old content.
func TestLean(t *testing.T) {
	sections := []struct {
		name, data string
		align      uint64
	}{
		{".text", "code", 16},
		{".orc_unwind_ip", "table", 1},
		{".rela.orc_unwind_ip", "relocations", 8},
		{".BTF", "types", 1},
		{".modinfo", "depends=a,b\x00", 1},
		{".rela.text", "more relocations", 8},
	}
	names := "\x00"
	var body bytes.Buffer
	body.Write(make([]byte, 64))
	headers := make([]byte, 64)
	add := func(name, data string, align uint64) {
		body.Write(make([]byte, (align-uint64(body.Len())%align)%align))
		h := make([]byte, 64)
		binary.LittleEndian.PutUint32(h, uint32(len(names)))
		binary.LittleEndian.PutUint32(h[4:], map[bool]uint32{true: 3, false: 1}[name == ".shstrtab"])
		binary.LittleEndian.PutUint64(h[24:], uint64(body.Len()))
		binary.LittleEndian.PutUint64(h[32:], uint64(len(data)))
		binary.LittleEndian.PutUint64(h[48:], align)
		headers = append(headers, h...)
		body.WriteString(data)
		names += name + "\x00"
	}
	for _, s := range sections {
		add(s.name, s.data, s.align)
	}
	names += ".shstrtab\x00"
	all := names
	names = strings.TrimSuffix(names, ".shstrtab\x00")
	add(".shstrtab", all, 1)
	file := append(body.Bytes(), headers...)
	copy(file, "\x7fELF\x02\x01\x01")
	for at, v := range map[int]uint16{16: 1, 18: 62, 20: 1, 52: 64, 58: 64, 60: uint16(len(sections) + 2), 62: uint16(len(sections) + 1)} {
		binary.LittleEndian.PutUint16(file[at:], v)
	}
	binary.LittleEndian.PutUint64(file[40:], uint64(body.Len()))
	signed := append(bytes.Clone(file), "PKCS#7s"+"\x00\x00\x02\x00\x00\x00\x00\x00"+"\x00\x00\x00\x07"+signatureEnd...)

	lean, err := Lean(signed)
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(bytes.NewReader(lean))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for i, s := range f.Sections {
		if s.Type == elf.SHT_NULL {
			continue
		}
		if s.Offset%s.Addralign != 0 {
			t.Errorf("%s lies at %d, not at a multiple of %d", s.Name, s.Offset, s.Addralign)
		}
		data, err := s.Data()
		if err != nil {
			t.Fatal(err)
		}
		got[fmt.Sprintf("%d %s", i, s.Name)] = string(data)
	}
	want := map[string]string{"1 .text": "code", "5 .modinfo": "depends=a,b\x00", "6 .rela.text": "more relocations", "7 .shstrtab": all}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sections (-want +got):\n%s", diff)
	}
	for _, gone := range []string{"table", "types", "PKCS#7", signatureEnd} {
		if bytes.Contains(lean, []byte(gone)) {
			t.Errorf("%q is still there", gone)
		}
	}
	if again, err := Lean(lean); err != nil || !bytes.Equal(again, lean) {
		t.Errorf("once more changes it: %v", err)
	}
	for name, bad := range map[string][]byte{
		"no ELF": []byte("not ELF"), "a signature longer than the file": []byte("\xff\xff\xff\xff" + "\xff\xff\xff\xff\xff\xff\xff\xff" + signatureEnd),
		"a signature cut short": []byte("x" + signatureEnd),
	} {
		if _, err := Lean(bad); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
