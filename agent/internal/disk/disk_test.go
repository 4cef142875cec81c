package disk

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/agent/internal/desired"
	"github.com/wispcloud/wisp/agent/internal/image"
	"github.com/wispcloud/wisp/agent/internal/ledger"
	"github.com/wispcloud/wisp/proto/hostspec"
)

const volumeID = "00000000-0000-4000-8000-000000000001"

type bench struct {
	t     *testing.T
	files *ledger.Memory
	pool  *hostspec.StoragePool
	disks *Disks
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, files: &ledger.Memory{}}
	b.pool = &hostspec.StoragePool{
		Id: "p", Type: hostspec.PoolType_POOL_TYPE_LOCAL, Path: filepath.Join(t.TempDir(), "pool"),
	}
	if _, err := Open(t.Context(), b.pool); err != nil {
		t.Fatal(err)
	}
	b.restart()
	return b
}

func (b *bench) restart() {
	facts, _, err := ledger.OpenFacts[ledger.VolumeFacts](b.files, "volumes")
	if err != nil {
		b.t.Fatal(err)
	}
	b.disks = New(facts, slog.New(slog.DiscardHandler))
}

// addImage puts a template into the pool.
func (b *bench) addImage(sum string) string {
	b.t.Helper()
	path := image.Path(b.pool, sum, "qcow2")
	if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", path, "4M").CombinedOutput(); err != nil {
		b.t.Fatalf("make template: %v\n%s", err, out)
	}
	return path
}

func (b *bench) present(want *hostspec.Volume) bool {
	b.t.Helper()
	s, err := b.disks.Observe(b.pool, want)
	if err != nil {
		b.t.Fatal(err)
	}
	return s.Present
}

func TestVolumes(t *testing.T) {
	b := newBench(t)
	sum := strings.Repeat("ab", 32)
	backing := b.addImage(sum)
	tests := []struct {
		name    string
		want    *hostspec.Volume
		header  image.Header
		backing string
	}{
		{"blank", &hostspec.Volume{Id: volumeID, SizeBytes: 3 << 20}, image.Header{VirtualSize: 3 << 20}, ""},
		{
			"of an image", &hostspec.Volume{Id: volumeID, SizeBytes: 8 << 20, ImageSha256: sum, ImageFormat: "qcow2"},
			image.Header{VirtualSize: 8 << 20, Backing: backing},
			backing,
		},
		{
			"as large as its image", &hostspec.Volume{Id: volumeID, ImageSha256: sum, ImageFormat: "qcow2"},
			image.Header{VirtualSize: 4 << 20, Backing: backing},
			backing,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if b.present(tt.want) {
				t.Fatal("it is there before it was made")
			}
			if err := b.disks.Create(t.Context(), b.pool, tt.want, tt.backing); err != nil {
				t.Fatal(err)
			}
			if !b.present(tt.want) {
				t.Fatal("it is not there")
			}
			got, err := image.ReadFileHeader(Path(b.pool, volumeID))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.header, image.Header{VirtualSize: got.VirtualSize, Backing: got.Backing}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			for range 2 {
				if err := b.disks.Delete(b.pool, volumeID); err != nil {
					t.Fatal(err)
				}
			}
			if b.present(tt.want) {
				t.Error("it is there after it was deleted")
			}
		})
	}
	left, err := os.ReadDir(filepath.Join(b.pool.GetPath(), "volumes"))
	if err != nil || len(left) != 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

func TestNeverReplaces(t *testing.T) {
	b := newBench(t)
	want := &hostspec.Volume{Id: volumeID, SizeBytes: 1 << 20}
	path := Path(b.pool, volumeID)
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.disks.Create(t.Context(), b.pool, want, ""); err == nil {
		t.Error("made a volume over a file")
	}
	data, err := os.ReadFile(path)
	if err != nil || string(data) != "precious" {
		t.Errorf("content is %q, %v", data, err)
	}
}

// TestLost: what was made and is gone must not come back empty, also after the agent's restart.
func TestLost(t *testing.T) {
	b := newBench(t)
	want := &hostspec.Volume{Id: volumeID, SizeBytes: 1 << 20}
	if err := b.disks.Create(t.Context(), b.pool, want, ""); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(Path(b.pool, volumeID)); err != nil {
		t.Fatal(err)
	}
	b.restart()
	if _, err := b.disks.Observe(b.pool, want); !desired.IsPermanent(err) || !strings.Contains(err.Error(), "not made anew") {
		t.Errorf("error %v", err)
	}
}

// TestCrashWhileMaking: a half-made file is thrown away and the volume is made.
func TestCrashWhileMaking(t *testing.T) {
	b := newBench(t)
	want := &hostspec.Volume{Id: volumeID, SizeBytes: 1 << 20}
	if err := os.WriteFile(Path(b.pool, volumeID)+".new", []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.restart()
	if b.present(want) {
		t.Fatal("a half-made volume is taken for one")
	}
	if err := b.disks.Create(t.Context(), b.pool, want, ""); err != nil {
		t.Fatal(err)
	}
	if !b.present(want) {
		t.Error("it is not there")
	}
}

func TestSymlinkIsNoVolume(t *testing.T) {
	b := newBench(t)
	if err := os.Symlink("/etc/passwd", Path(b.pool, volumeID)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.disks.Observe(b.pool, &hostspec.Volume{Id: volumeID}); !desired.IsPermanent(err) {
		t.Errorf("error %v", err)
	}
	if err := b.disks.Delete(b.pool, volumeID); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/etc/passwd"); err != nil {
		t.Fatal(err)
	}
}

func TestBacking(t *testing.T) {
	b := newBench(t)
	sum := strings.Repeat("cd", 32)
	want := &hostspec.Volume{Id: volumeID, ImageSha256: sum, ImageFormat: "qcow2"}
	if err := b.disks.Create(t.Context(), b.pool, want, b.addImage(sum)); err != nil {
		t.Fatal(err)
	}
	got, err := Backing(b.pool)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]bool{sum: true}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPools(t *testing.T) {
	dir := t.TempDir()
	tests := []struct {
		name string
		pool *hostspec.StoragePool
		want string
	}{
		{"local is made", &hostspec.StoragePool{Type: hostspec.PoolType_POOL_TYPE_LOCAL, Path: filepath.Join(dir, "a/b")}, ""},
		{"shared must be there", &hostspec.StoragePool{Type: hostspec.PoolType_POOL_TYPE_SHARED_MOUNT, Path: filepath.Join(dir, "none")}, "no such file"},
		{"shared is there", &hostspec.StoragePool{Type: hostspec.PoolType_POOL_TYPE_SHARED_MOUNT, Path: dir}, ""},
		{"nfs nobody serves", &hostspec.StoragePool{Type: hostspec.PoolType_POOL_TYPE_NFS, Path: filepath.Join(dir, "n"), Source: "127.0.0.1:/none"}, "mount pool"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Open(t.Context(), tt.pool)
			switch {
			case tt.want == "" && (err != nil || c.Bytes == 0 || c.Used > c.Bytes):
				t.Errorf("capacity %+v, %v", c, err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}
