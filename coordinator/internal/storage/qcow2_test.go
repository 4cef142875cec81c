package storage

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const testCluster = 1 << 16

// goodQCOW2 is an empty image that stands alone.
func goodQCOW2(virtual uint64) []byte {
	b := make([]byte, 4*testCluster)
	be := binary.BigEndian
	copy(b, "QFI\xfb")
	be.PutUint32(b[4:], 3)
	be.PutUint32(b[20:], 16)
	be.PutUint64(b[24:], virtual)
	be.PutUint32(b[36:], uint32((virtual+testCluster/8*testCluster-1)/(testCluster/8*testCluster)))
	be.PutUint64(b[40:], 3*testCluster)
	be.PutUint64(b[48:], testCluster)
	be.PutUint32(b[56:], 1)
	be.PutUint32(b[96:], 4)
	be.PutUint32(b[100:], 104)
	be.PutUint64(b[testCluster:], 2*testCluster)
	for i := range 4 {
		be.PutUint16(b[2*testCluster+2*i:], 1)
	}
	return b
}

func put32(at int, v uint32) func([]byte) []byte {
	return func(b []byte) []byte { binary.BigEndian.PutUint32(b[at:], v); return b }
}

func put64(at int, v uint64) func([]byte) []byte {
	return func(b []byte) []byte { binary.BigEndian.PutUint64(b[at:], v); return b }
}

// extension puts a header extension behind the header.
func extension(kind uint32, data string) func([]byte) []byte {
	return func(b []byte) []byte {
		binary.BigEndian.PutUint32(b[104:], kind)
		binary.BigEndian.PutUint32(b[108:], uint32(len(data)))
		copy(b[112:], data)
		return b
	}
}

// The corpus of images that must not reach QEMU.
func TestCVE_2024_45219_CVE_2024_50386_HostileImages(t *testing.T) {
	version2 := func(b []byte) []byte {
		clear(b[72:112])
		return put32(4, 2)(b)
	}
	all := func(fs ...func([]byte) []byte) func([]byte) []byte {
		return func(b []byte) []byte {
			for _, f := range fs {
				b = f(b)
			}
			return b
		}
	}
	for name, c := range map[string]struct {
		change func([]byte) []byte
		want   string // "" is admitted
	}{
		"good":                       {all(), ""},
		"good version 2":             {version2, ""},
		"good feature names":         {extension(0x6803f857, strings.Repeat("x", 48)), ""},
		"good compression zstd":      {all(put64(72, bitCompression), put32(100, 112), func(b []byte) []byte { b[104] = 1; return b }), ""},
		"backing file":               {all(put64(8, 1024), put32(16, 11), func(b []byte) []byte { copy(b[1024:], "/etc/passwd"); return b }), "backing file"},
		"backing file, version 2":    {all(version2, put64(8, 1024), put32(16, 11)), "backing file"},
		"backing name without place": {put32(16, 11), "backing file"},
		"backing place without name": {put64(8, 1024), "backing file"},
		"backing format":             {extension(extBackingFormat, "raw"), "backing file"},
		"json backing":               {all(put64(8, 1024), put32(16, 40), func(b []byte) []byte { copy(b[1024:], `json:{"driver":"file","filename":"/x"}`); return b }), "backing file"},
		"data file bit":              {put64(72, bitDataFile), "external data file"},
		"data file name":             {extension(extDataFile, "/etc/shadow"), "external data file"},
		"data file behind another": {func(b []byte) []byte {
			b = extension(0x6803f857, "12345678")(b)
			binary.BigEndian.PutUint32(b[120:], extDataFile)
			return b
		}, "external data file"},
		"encrypted AES":   {put32(32, 1), "encrypted"},
		"encrypted LUKS":  {put32(32, 2), "encrypted"},
		"LUKS extension":  {extension(extCrypto, strings.Repeat("\x00", 16)), "encrypted"},
		"snapshots":       {put32(60, 1), "snapshots"},
		"snapshot table":  {put64(64, testCluster), "snapshots"},
		"bitmaps":         {extension(extBitmaps, strings.Repeat("\x00", 24)), "bitmaps"},
		"corrupt":         {put64(72, bitCorrupt), "corrupt"},
		"dirty":           {put64(72, bitDirty), "not closed well"},
		"unknown feature": {put64(72, 1<<17), "unknown features"},
		"version 1":       {put32(4, 1), "version"},
		"version 4":       {put32(4, 4), "version"},
		"magic":           {func(b []byte) []byte { b[0] = 'X'; return b }, "no qcow2"},
		"VMDK": {func([]byte) []byte {
			return []byte("# Disk DescriptorFile\nversion=1\nRW 1 FLAT \"/etc/passwd\" 0\n" + strings.Repeat(" ", 200))
		}, "no qcow2"},
		"VMDK sparse":         {func(b []byte) []byte { copy(b, "KDMV"); return b }, "no qcow2"},
		"empty":               {func([]byte) []byte { return nil }, "no qcow2"},
		"cut header":          {func(b []byte) []byte { return b[:90] }, "cut off"},
		"cluster too small":   {put32(20, 8), "cluster size"},
		"cluster too big":     {put32(20, 22), "cluster size"},
		"cluster absurd":      {put32(20, 0xffffffff), "cluster size"},
		"size zero":           {put64(24, 0), "virtual size"},
		"size huge":           {put64(24, 1<<62), "virtual size"},
		"size wraps":          {put64(24, ^uint64(0)), "virtual size"},
		"L1 too small":        {put64(24, 1<<40), "too small"},
		"L1 huge":             {put32(36, 0xffffffff), "too big"},
		"L1 outside":          {put64(40, 1<<40), "outside"},
		"L1 at the end":       {put64(40, 4*testCluster), "outside"},
		"L1 wraps":            {put64(40, ^uint64(0)-testCluster+1), "outside"},
		"L1 not aligned":      {put64(40, 3*testCluster+8), "outside"},
		"L1 nowhere":          {put64(40, 0), "outside"},
		"refcounts outside":   {put64(48, 1<<40), "outside"},
		"refcounts huge":      {put32(56, 0xffffffff), "out of range"},
		"refcounts none":      {put32(56, 0), "out of range"},
		"refcount order":      {put32(96, 7), "out of range"},
		"header length short": {put32(100, 72), "header length"},
		"header length odd":   {put32(100, 105), "header length"},
		"header length huge":  {put32(100, 0xfffffff8), "header length"},
		"extension too long":  {put32(108, 0xffffff00), "longer than the header"},
		"extensions without end": {func(b []byte) []byte {
			for at := 104; at+8 < testCluster; at += 8 {
				binary.BigEndian.PutUint32(b[at:], 0x11111111)
			}
			return b
		}, "do not end"},
	} {
		b := c.change(goodQCOW2(1 << 30))
		if name == "extension too long" {
			binary.BigEndian.PutUint32(b[104:], 0x11111111)
		}
		virtual, err := CheckQCOW2(bytes.NewReader(b), int64(len(b)))
		switch {
		case c.want == "" && (err != nil || virtual != 1<<30):
			t.Errorf("%s: %d, %v", name, virtual, err)
		case c.want != "" && (!errors.Is(err, ErrHostileImage) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want a refusal with %q", name, err, c.want)
		}
	}
}

// TestQEMUAgrees shows that what is admitted is what qemu-img makes, and that its own backing and data files are not.
func TestQEMUAgrees(t *testing.T) {
	img, err := exec.LookPath("qemu-img")
	if err != nil {
		if os.Geteuid() == 0 {
			t.Fatal("qemu-img is not installed (make deps)")
		}
		t.Skip("qemu-img is not installed (make deps as root)")
	}
	dir := t.TempDir()
	base := filepath.Join(dir, "base.qcow2")
	for name, c := range map[string]struct {
		args []string
		good bool
	}{
		"base.qcow2":    {[]string{"-f", "qcow2", base, "64M"}, true},
		"v2.qcow2":      {[]string{"-f", "qcow2", "-o", "compat=0.10", filepath.Join(dir, "v2.qcow2"), "64M"}, true},
		"ext.qcow2":     {[]string{"-f", "qcow2", "-o", "extended_l2=on", filepath.Join(dir, "ext.qcow2"), "64M"}, true},
		"zstd.qcow2":    {[]string{"-f", "qcow2", "-o", "compression_type=zstd", filepath.Join(dir, "zstd.qcow2"), "64M"}, true},
		"small.qcow2":   {[]string{"-f", "qcow2", "-o", "cluster_size=512", filepath.Join(dir, "small.qcow2"), "64M"}, true},
		"backing.qcow2": {[]string{"-f", "qcow2", "-F", "raw", "-b", "/etc/hostname", filepath.Join(dir, "backing.qcow2"), "64M"}, false},
		"data.qcow2":    {[]string{"-f", "qcow2", "-o", "data_file=" + filepath.Join(dir, "data.raw"), filepath.Join(dir, "data.qcow2"), "64M"}, false},
	} {
		if out, err := exec.Command(img, append([]string{"create", "-q"}, c.args...)...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
		path := filepath.Join(dir, name)
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		st, _ := f.Stat()
		virtual, err := CheckQCOW2(f, st.Size())
		_ = f.Close()
		if (err == nil) != c.good || c.good && virtual != 64<<20 {
			t.Errorf("%s: %d, %v", name, virtual, err)
		}
		if err := QEMUInfo(context.Background(), path); (err == nil) != c.good {
			t.Errorf("%s: second opinion: %v", name, err)
		}
	}
	bad := filepath.Join(dir, "hello")
	if err := os.WriteFile(bad, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := QEMUInfo(context.Background(), bad); !errors.Is(err, ErrHostileImage) {
		t.Errorf("qemu-img reads a text: %v", err)
	}
}

func TestCheckRaw(t *testing.T) {
	for size, good := range map[int64]bool{0: false, -1: false, 511: false, 512: true, 1 << 30: true} {
		if _, err := CheckRaw(size); (err == nil) != good {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

func FuzzCheckQCOW2(f *testing.F) {
	f.Add(goodQCOW2(1 << 30)[:4096])
	f.Add([]byte("QFI\xfb"))
	f.Fuzz(func(t *testing.T, b []byte) {
		virtual, err := CheckQCOW2(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		if virtual == 0 || virtual > maxVirtualSize {
			t.Errorf("admitted with a size of %d", virtual)
		}
		if binary.BigEndian.Uint64(b[8:]) != 0 || binary.BigEndian.Uint32(b[16:]) != 0 {
			t.Error("admitted with a backing file")
		}
	})
}
