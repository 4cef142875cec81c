package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{}, {"build"}, {"build", "other"}, {"destroy", "tinyguest"}, {"build", "tinyguest"}, {"build", "tinyguest", "-o", "x", "y"}} {
		var out, errOut bytes.Buffer
		if err := run(t.Context(), args, &out, &errOut); !errors.Is(err, errUsage) {
			t.Errorf("%v: %v", args, err)
		}
		if diff := cmp.Diff(usage, errOut.String()); diff != "" || out.Len() > 0 {
			t.Errorf("%v: output %q, message (-want +got):\n%s", args, out.String(), diff)
		}
	}
}

func TestPackages(t *testing.T) {
	for image, want := range map[string]string{
		"tinyguest": "apt dosfstools dpkg e2fsprogs libext2fs2 mtools qemu-utils syslinux syslinux-common zlib1g",
		"systemvm":  "apt dosfstools dpkg mtools qemu-utils squashfs-tools syslinux syslinux-common zlib1g",
	} {
		var out, errOut bytes.Buffer
		if err := run(t.Context(), []string{"packages", image}, &out, &errOut); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, strings.Join(strings.Fields(out.String()), " ")); diff != "" {
			t.Errorf("packages of %s (-want +got):\n%s", image, diff)
		}
	}
}

// TestMissing is a machine without the tools: nothing is built, and the message
// says what to install.
func TestMissing(t *testing.T) {
	t.Setenv("PATH", "/nonexistent")
	for _, image := range []string{"tinyguest", "systemvm"} {
		var out, errOut bytes.Buffer
		err := run(t.Context(), []string{"build", image, "-o", t.TempDir(), "-cache", t.TempDir(), "-version", "v1"}, &out, &errOut)
		if err == nil || !strings.Contains(err.Error(), "install the Debian packages: apt-get install") {
			t.Errorf("build %s: error %v", image, err)
		}
	}
}
