package tinyguest_test

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/wispcloud/wisp/images/internal/hosttool/hosttooltest"
	"github.com/wispcloud/wisp/images/tinyguest"
)

func base64Of(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// sharedCache is where wisp-image keeps packages and images too, so that tests
// rarely download or build.
func sharedCache() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, "wisp", "images")
}

// imageForTest builds the image unless the cache has it.
func imageForTest(t testing.TB) string {
	t.Helper()
	return build(t, t.TempDir(), sharedCache())
}

// build returns the path of the image.
func build(t testing.TB, out, cache string) string {
	t.Helper()
	if _, err := tinyguest.Build(t.Context(), out, cache); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(out, tinyguest.ImageFile)
}

// TestBuildReproducible builds again from scratch, on another day, in other directories
// and with another environment, and compares bytes.
func TestBuildReproducible(t *testing.T) {
	if os.Getenv(inLab) != "" {
		t.Skip("runs outside the lab")
	}
	image := imageForTest(t) // fetches the packages
	out, cache := t.TempDir(), filepath.Join(t.TempDir(), "another", "cache")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(cache, "debs"), os.DirFS(filepath.Join(sharedCache(), "debs"))); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TZ", "Pacific/Auckland")
	t.Setenv("LC_ALL", "tr_TR.UTF-8")
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv("GOFLAGS", "-mod=mod -ldflags=-X=main.x=y")
	hosttooltest.AnotherDay(t, tinyguest.Tools())
	begin := time.Now()
	build(t, out, cache)
	first := time.Since(begin)

	want, err := tinyguest.Check(filepath.Dir(image))
	if err != nil {
		t.Fatal(err)
	}
	got, err := tinyguest.Check(out)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the second build differs (-first +second):\n%s", diff)
	}

	begin = time.Now()
	build(t, out, cache)
	again := time.Since(begin)
	t.Logf("build %.1f s, again %.2f s, %d bytes, sha256 %s", first.Seconds(), again.Seconds(), got.Size, got.SHA256)
	if again > first/2 {
		t.Errorf("a build that is cached took %s, from scratch %s", again, first)
	}
}

// TestBuildRepairs damages the output and the cache.
func TestBuildRepairs(t *testing.T) {
	if os.Getenv(inLab) != "" {
		t.Skip("runs outside the lab")
	}
	image := imageForTest(t)
	dir := filepath.Dir(image)
	want, err := tinyguest.Check(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(image, []byte("damaged"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := tinyguest.Check(dir); err == nil {
		t.Error("a damaged image passed the check")
	}
	build(t, dir, sharedCache())
	got, err := tinyguest.Check(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("after the repair (-want +got):\n%s", diff)
	}
}
