package systemvm_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/wispcloud/wisp/images/internal/hosttool/hosttooltest"
	"github.com/wispcloud/wisp/images/systemvm"
)

func diffManifests(t *testing.T, want, got systemvm.Manifest) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("manifests differ (-want +got):\n%s", diff)
	}
}

// copyCheckout copies the files git knows of this checkout, as they are.
func copyCheckout(t *testing.T) string {
	t.Helper()
	list, err := exec.CommandContext(t.Context(), "git", "-C", checkout, "ls-files", "-z", "--cached", "--others", "--exclude-standard",
		"go.mod", "go.sum", "proto/*.go", "netsvc/*.go", "systemvm/*.go").Output()
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "another", "place")
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		b, err := os.ReadFile(filepath.Join(checkout, name))
		if os.IsNotExist(err) {
			continue // deleted, but not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// TestBuildReproducible builds again from scratch: on another day, from a
// checkout in another place, with another cache and environment, and compares
// bytes.
func TestBuildReproducible(t *testing.T) {
	first := t.TempDir()
	want := build(t, first, sharedCache(), checkout) // fetches the packages
	out, cache := t.TempDir(), filepath.Join(t.TempDir(), "another", "cache")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(cache, "debs"), os.DirFS(filepath.Join(sharedCache(), "debs"))); err != nil {
		t.Fatal(err)
	}
	source := copyCheckout(t)
	t.Setenv("TZ", "Pacific/Auckland")
	t.Setenv("LC_ALL", "tr_TR.UTF-8")
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv("GOFLAGS", "-ldflags=-X=main.version=other")
	t.Setenv("GOAMD64", "v3")
	t.Setenv("SOURCE_DATE_EPOCH", "1")
	defer syscall.Umask(syscall.Umask(0o077))
	hosttooltest.AnotherDay(t, systemvm.Tools())
	begin := time.Now()
	got := build(t, out, cache, source)
	scratch := time.Since(begin)
	diffManifests(t, want, got)
	for _, name := range []string{systemvm.BundleFile(testVersion), systemvm.DiskFile(testVersion), systemvm.ManifestFile(testVersion)} {
		a, err := os.ReadFile(filepath.Join(first, name))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(out, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("%s differs", name)
		}
	}
	begin = time.Now()
	build(t, out, cache, source)
	t.Logf("build %.1f s, again %.2f s, %s", scratch.Seconds(), time.Since(begin).Seconds(), got.Bundle.SHA256)
}

// TestBuildRepairs damages each file of the output.
func TestBuildRepairs(t *testing.T) {
	dir := t.TempDir()
	want := build(t, dir, sharedCache(), checkout)
	for _, name := range []string{systemvm.BundleFile(testVersion), systemvm.DiskFile(testVersion), systemvm.ManifestFile(testVersion)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("damaged"), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := systemvm.Check(dir, testVersion); err == nil {
			t.Errorf("a damaged %s passed the check", name)
		}
		build(t, dir, sharedCache(), checkout)
		got, err := systemvm.Check(dir, testVersion)
		if err != nil {
			t.Fatal(err)
		}
		diffManifests(t, want, got)
	}
}

// TestBuildRefuses versions that would leave the directory or become flags.
func TestBuildRefuses(t *testing.T) {
	for _, version := range []string{"", "../x", "a b", "-x", "a/b", "v1'"} {
		_, err := systemvm.Build(t.Context(), t.TempDir(), t.TempDir(), systemvm.Options{Source: checkout, Version: version})
		if err == nil || !strings.Contains(err.Error(), "is not one of letters") {
			t.Errorf("version %q: %v", version, err)
		}
	}
}

// TestContents holds what the root has and has not. The listing is the tool's
// that made it.
func TestContents(t *testing.T) {
	f := imageForTest(t)
	out, err := exec.CommandContext(t.Context(), "unsquashfs", "-ll", f.root).Output()
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	var programs []string
	for line := range strings.Lines(string(out)) {
		_, p, _ := strings.Cut(line, "squashfs-root")
		p, _, _ = strings.Cut(strings.TrimSpace(p), " -> ")
		have[p] = true
		if mode := line[:min(10, len(line))]; strings.ContainsAny(mode, "sS") {
			t.Errorf("set-user-id or set-group-id: %s", strings.TrimSpace(line))
		} else if mode[0] == '-' && strings.Contains(mode, "x") && !strings.Contains(filepath.Base(p), ".so") {
			programs = append(programs, p)
		}
	}
	// All that can be run by itself. busybox is the debug console's; names that lead to these are links.
	slices.Sort(programs)
	if diff := cmp.Diff([]string{
		"/usr/bin/busybox", "/usr/lib/ipsec/charon", "/usr/sbin/conntrack", "/usr/sbin/haproxy", "/usr/sbin/ipset", "/usr/sbin/swanctl",
		"/usr/sbin/wisp-init", "/usr/sbin/wisp-netsvc", "/usr/sbin/xtables-nft-multi",
	}, programs); diff != "" {
		t.Errorf("programs (-want +got):\n%s", diff)
	}
	for _, p := range []string{
		"/usr/sbin/wisp-init", "/usr/sbin/wisp-netsvc", "/usr/sbin/modprobe", "/usr/sbin/iptables-restore", "/usr/sbin/ip6tables-restore",
		"/usr/sbin/iptables-save", "/usr/sbin/ipset", "/usr/sbin/conntrack", "/usr/sbin/haproxy", "/usr/lib/ipsec/charon", "/usr/sbin/swanctl",
		"/usr/lib/ipsec/plugins/libstrongswan-openssl.so", "/usr/lib/ipsec/plugins/libstrongswan-vici.so", "/etc/wisp/version",
	} {
		if !have[p] {
			t.Errorf("%s is missing", p)
		}
	}
	for p := range have {
		switch filepath.Base(p) {
		case "sh", "bash", "dash", "sshd", "dropbear", "perl", "python3", "apt", "dpkg", "shadow", "ca-certificates.crt":
			t.Errorf("%s does not belong into the image", p)
		}
	}
}
