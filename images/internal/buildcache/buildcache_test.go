package buildcache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func hasFile(dir string) error {
	_, err := os.Stat(filepath.Join(dir, "f"))
	return err
}

func writeFile(text string, count *int) func(context.Context, string) error {
	return func(_ context.Context, dir string) error {
		*count++
		return os.WriteFile(filepath.Join(dir, "f"), []byte(text), 0o644)
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var n []string
	for _, d := range list {
		n = append(n, d.Name())
	}
	return n
}

func TestGet(t *testing.T) {
	c := Cache{Dir: filepath.Join(t.TempDir(), "c")}
	n := 0
	for range 3 {
		entry, err := c.Get(t.Context(), "k", hasFile, writeFile("x", &n))
		if err != nil || entry != filepath.Join(c.Dir, "k") {
			t.Fatalf("entry %s, %v", entry, err)
		}
	}
	if n != 1 {
		t.Errorf("built %d times, want once", n)
	}
	// A damaged entry is built again; what a killed build left is removed.
	if err := errors.Join(os.Remove(filepath.Join(c.Dir, "k", "f")), os.Mkdir(filepath.Join(c.Dir, workPrefix+"old"), 0o755)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(t.Context(), "k", hasFile, writeFile("x", &n)); err != nil || n != 2 {
		t.Errorf("built %d times, %v; want twice", n, err)
	}
	if diff := cmp.Diff([]string{"k", "lock"}, names(t, c.Dir)); diff != "" {
		t.Errorf("cache (-want +got):\n%s", diff)
	}
}

func TestGetFails(t *testing.T) {
	c := Cache{Dir: t.TempDir()}
	broken := errors.New("broken")
	if _, err := c.Get(t.Context(), "k", hasFile, func(context.Context, string) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if _, err := c.Get(t.Context(), "k", hasFile, func(context.Context, string) error { return nil }); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a build that made nothing: %v", err)
	}
	if diff := cmp.Diff([]string{"lock"}, names(t, c.Dir)); diff != "" {
		t.Errorf("cache (-want +got):\n%s", diff)
	}
}

func TestGetWaits(t *testing.T) {
	c := Cache{Dir: t.TempDir()}
	n := 0
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := c.Get(t.Context(), "k", hasFile, writeFile("x", &n)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n != 1 {
		t.Errorf("built %d times, want once", n)
	}
	_, err := c.Get(t.Context(), "other", hasFile, func(context.Context, string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Millisecond)
		defer cancel()
		_, err := c.Get(ctx, "third", hasFile, writeFile("x", &n))
		return err
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for the lock ended with %v", err)
	}
}

func TestPrune(t *testing.T) {
	c := Cache{Dir: t.TempDir()}
	n := 0
	for i := range keep + 2 {
		key := fmt.Sprint("k", i)
		if _, err := c.Get(t.Context(), key, hasFile, writeFile("x", &n)); err != nil {
			t.Fatal(err)
		}
		old := time.Now().Add(time.Duration(i-100) * time.Hour)
		if err := os.Chtimes(filepath.Join(c.Dir, key), old, old); err != nil {
			t.Fatal(err)
		}
		if i == 1 { // used again: becomes the youngest for now
			if _, err := c.Get(t.Context(), "k0", hasFile, writeFile("x", &n)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if diff := cmp.Diff([]string{"k0", "k3", "k4", "k5", "lock"}, names(t, c.Dir)); diff != "" {
		t.Errorf("cache (-want +got):\n%s", diff)
	}
}

func TestPlace(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "new", "to")
	if err := os.WriteFile(from, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Place(from, to); err != nil {
			t.Fatal(err)
		}
	}
	a, err := Sum(from)
	b, err2 := Sum(to)
	if a != b || err != nil || err2 != nil || a != "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881" {
		t.Errorf("sums %s %s, %v %v", a, b, err, err2)
	}
	if diff := cmp.Diff([]string{"to"}, names(t, filepath.Dir(to))); diff != "" {
		t.Errorf("directory (-want +got):\n%s", diff)
	}
}
