package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/agent/internal/desired"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// qemuImg makes an image and returns its content.
func qemuImg(t *testing.T, args ...string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	full := append([]string{"create", "-q"}, args...)
	for i, a := range full {
		if a == "IMAGE" {
			full[i] = path
		}
	}
	if out, err := exec.Command("qemu-img", full...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %v: %v\n%s", full, err, out)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func plain(t *testing.T) []byte { return qemuImg(t, "-f", "qcow2", "IMAGE", "8M") }

// with changes bytes of an image.
func with(data []byte, offset int, value ...byte) []byte {
	out := bytes.Clone(data)
	copy(out[offset:], value)
	return out
}

func be32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
func be64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// None of these may get the name of an image; QEMU's own faults with images are among them.
func TestCVE_2024_45219_CVE_2024_50386_HostileImages(t *testing.T) {
	good := plain(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	backed := qemuImg(t, "-f", "qcow2", "-u", "-b", "/etc/shadow", "-F", "raw", "IMAGE", "8M")
	tests := []struct {
		name   string
		format string
		data   []byte
		want   string
	}{
		{"backing file", "qcow2", backed, "backing file"},
		{"backing file by json", "qcow2", qemuImg(t, "-f", "qcow2", "-u", "-b", `json:{"driver":"raw","file":{"driver":"file","filename":"/etc/shadow"}}`, "-F", "raw", "IMAGE", "8M"), "backing file"},
		{"backing file over the network", "qcow2", qemuImg(t, "-f", "qcow2", "-u", "-b", "nbd://127.0.0.1:1/x", "-F", "raw", "IMAGE", "8M"), "backing file"},
		{"data file", "qcow2", qemuImg(t, "-f", "qcow2", "-o", "data_file="+secret+",data_file_raw=on", "IMAGE", "1M"), "data file"},
		{"data file bit without a name", "qcow2", with(good, 72, be64(incompatDataFile)...), "data file"},
		{"unknown feature", "qcow2", with(good, 72, be64(1<<40)...), "features"},
		{"marked corrupt", "qcow2", with(good, 72, be64(incompatCorrupt)...), "corrupt"},
		{"huge L1", "qcow2", with(good, 36, be32(0x7fffffff)...), "L1 table"},
		{"L1 larger than the disk needs", "qcow2", with(good, 36, be32(1<<20)...), "L1 table"},
		{"huge disk", "qcow2", with(good, 24, be64(1<<60)...), "virtual size"},
		{"no disk", "qcow2", with(good, 24, be64(0)...), "virtual size"},
		{"encrypted", "qcow2", with(good, 32, be32(1)...), "encrypted"},
		{"snapshots", "qcow2", with(good, 60, be32(4)...), "snapshots"},
		{"clusters too small", "qcow2", with(good, 20, be32(3)...), "cluster size"},
		{"clusters too large", "qcow2", with(good, 20, be32(60)...), "cluster size"},
		{"version", "qcow2", with(good, 4, be32(9)...), "version"},
		{"name far away", "qcow2", with(good, 8, append(be64(1<<50), be32(5)...)...), "outside the header"},
		{"name too long", "qcow2", with(good, 8, append(be64(512), be32(1<<30)...)...), "outside the header"},
		{"header length", "qcow2", with(good, 100, be32(1<<31)...), "header length"},
		{"cut off", "qcow2", good[:60], "not qcow2"},
		{"empty", "qcow2", nil, "not qcow2"},
		{"vmdk called qcow2", "qcow2", append([]byte("# Disk DescriptorFile\nRW 1 FLAT \"/etc/shadow\" 0\n"), make([]byte, 512)...), "not qcow2"},
		{"script called qcow2", "qcow2", bytes.Repeat([]byte("#!/bin/sh\nreboot\n"), 60), "not qcow2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := fetch(t, newCache(tt.data), t.TempDir(), describe(tt.data, tt.format))
			if err == nil || !strings.Contains(err.Error(), tt.want) || !desired.IsPermanent(err) {
				t.Errorf("permanent %t: %v; want a permanent error with %q", desired.IsPermanent(err), err, tt.want)
			}
		})
	}
}

// TestRawStaysRaw: a raw image whose content is a qcow2 header is raw and nothing else.
func TestRawStaysRaw(t *testing.T) {
	data := qemuImg(t, "-f", "qcow2", "-u", "-b", "/etc/shadow", "-F", "raw", "IMAGE", "8M")
	data = append(data, make([]byte, 512-len(data)%512)...)
	if err := fetch(t, newCache(data), t.TempDir(), describe(data, "raw")); err != nil {
		t.Error(err)
	}
}

// source serves one content, and may break off or lie.
type source struct {
	data    []byte
	offsets []uint64
	// Break off after so many bytes, once.
	cut int
}

func (s *source) Fetch(_ context.Context, _ string, offset uint64, w io.Writer) (uint64, error) {
	s.offsets = append(s.offsets, offset)
	rest := s.data[min(offset, uint64(len(s.data))):]
	if s.cut > 0 && s.cut < len(rest) {
		n := s.cut
		s.cut = 0
		if _, err := w.Write(rest[:n]); err != nil {
			return 0, err
		}
		return uint64(len(s.data)), errors.New("connection lost")
	}
	_, err := w.Write(rest)
	return uint64(len(s.data)), err
}

type testCache struct {
	*Cache
	source *source
	now    time.Time
}

func newCache(data []byte) *testCache {
	c := &testCache{source: &source{data: data}, now: time.Unix(1_700_000_000, 0)}
	c.Cache = New(c.source, time.Hour, func() time.Time { return c.now }, slog.New(slog.DiscardHandler))
	return c
}

func describe(data []byte, format string) *hostspec.Image {
	sum := sha256.Sum256(data)
	return &hostspec.Image{Sha256: hex.EncodeToString(sum[:]), SizeBytes: uint64(len(data)), Format: format}
}

func fetch(t *testing.T, c *testCache, dir string, want *hostspec.Image) error {
	t.Helper()
	pool := &hostspec.StoragePool{Id: "p", Path: dir}
	err := c.Fetch(t.Context(), pool, want, func(uint64) {})
	has, herr := c.Has(pool, want)
	if herr != nil {
		t.Fatal(herr)
	}
	if has != (err == nil) {
		t.Fatalf("fetch says %v, but the image is there: %t", err, has)
	}
	return err
}

func TestFetchGoesOn(t *testing.T) {
	data := plain(t)
	c, dir := newCache(data), t.TempDir()
	c.source.cut = 1000
	if err := fetch(t, c, dir, describe(data, "qcow2")); err == nil {
		t.Fatal("a broken stream made an image")
	}
	if err := fetch(t, c, dir, describe(data, "qcow2")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]uint64{0, 1000}, c.source.offsets); diff != "" {
		t.Errorf("offsets (-want +got):\n%s", diff)
	}
	info, err := os.Stat(filepath.Join(dir, "images", describe(data, "qcow2").GetSha256()+".qcow2"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o444 {
		t.Errorf("mode %s, want read-only", info.Mode())
	}
}

func TestLies(t *testing.T) {
	data := plain(t)
	tests := []struct {
		name string
		data []byte
		want string
	}{
		{"other content", with(data, 500, 1), "verify image"},
		{"longer", append(bytes.Clone(data), 0), "longer than its"},
		{"shorter", data[:len(data)-1], "of"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, dir := newCache(tt.data), t.TempDir()
			err := fetch(t, c, dir, describe(data, "qcow2"))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want one with %q", err, tt.want)
			}
			c.source.data = data
			for range 2 {
				if err = fetch(t, c, dir, describe(data, "qcow2")); err == nil {
					return
				}
			}
			t.Errorf("an honest source afterwards: %v", err)
		})
	}
}

func TestSweep(t *testing.T) {
	data := plain(t)
	c, dir := newCache(data), t.TempDir()
	want := describe(data, "qcow2")
	if err := fetch(t, c, dir, want); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(dir, "images", "notes.txt")
	if err := os.WriteFile(foreign, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	pool := &hostspec.StoragePool{Id: "p", Path: dir}
	sweep := func(keep map[string]bool, after time.Duration) bool {
		t.Helper()
		c.now = c.now.Add(after)
		if err := c.Sweep(pool, keep); err != nil {
			t.Fatal(err)
		}
		has, err := c.Has(pool, want)
		if err != nil {
			t.Fatal(err)
		}
		return has
	}
	used := map[string]bool{want.GetSha256(): true}
	got := []bool{
		sweep(nil, 0), sweep(nil, 59*time.Minute), sweep(used, 2*time.Minute), sweep(nil, 0), sweep(nil, 59*time.Minute), sweep(nil, 2*time.Minute),
	}
	if diff := cmp.Diff([]bool{true, true, true, true, true, false}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Errorf("a file of somebody else: %v", err)
	}
}

// FuzzReadHeader parses anything; what Judge lets pass names no other file and fits in memory.
func FuzzReadHeader(f *testing.F) {
	header := make([]byte, 512)
	copy(header, be32(qcowMagic))
	copy(header[4:], be32(3))
	copy(header[20:], be32(16))
	copy(header[24:], be64(8<<20))
	copy(header[36:], be32(1))
	copy(header[100:], be32(104))
	f.Add(header)
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := ReadHeader(bytes.NewReader(data))
		if err != nil || h.Judge() != nil {
			return
		}
		if h.Backing != "" || h.DataFile || h.L1Entries > 4<<20 || h.VirtualSize > maxVirtualBytes {
			t.Fatalf("let pass: %+v", h)
		}
	})
}
