package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFindMissing(t *testing.T) {
	has := func(pattern string) bool { return pattern == "/sbin/ip" || pattern == "/usr/bin/python3" }
	all := []dependency{
		{files: []string{"/usr/sbin/ip", "/sbin/ip"}, packages: []string{"iproute2"}},
		{files: []string{"/usr/bin/virsh"}, packages: []string{"libvirt-clients"}},
		{files: []string{"/usr/bin/python3"}, packages: []string{"python3"}},
	}
	var got []string
	for _, d := range findMissing(all, has) {
		got = append(got, d.packages[0])
	}
	if diff := cmp.Diff([]string{"libvirt-clients"}, got); diff != "" {
		t.Errorf("missing (-want +got):\n%s", diff)
	}
}

func TestChoose(t *testing.T) {
	tests := []struct {
		name    string
		known   []string
		missing []dependency
		want    []string
		err     string
	}{
		{
			name:    "newer release splits a package",
			known:   []string{"libvirt-daemon", "libvirt-daemon-log"},
			missing: []dependency{{packages: []string{"libvirt-daemon-log", "libvirt-daemon"}}},
			want:    []string{"libvirt-daemon-log"},
		},
		{
			name:  "older release has both in one, named once",
			known: []string{"libvirt-daemon", "cpio"},
			missing: []dependency{
				{packages: []string{"libvirt-daemon"}},
				{packages: []string{"cpio"}},
				{packages: []string{"libvirt-daemon-log", "libvirt-daemon"}},
			},
			want: []string{"cpio", "libvirt-daemon"},
		},
		{
			name:    "unknown to the archive",
			missing: []dependency{{packages: []string{"a", "b"}, why: "reasons"}},
			err:     "find package a or b (reasons): the archive has none of this name",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			known := map[string]bool{}
			for _, k := range tt.known {
				known[k] = true
			}
			got, err := choose(tt.missing, func(name string) bool { return known[name] })
			text := ""
			if err != nil {
				text = err.Error()
			}
			if text != tt.err {
				t.Errorf("error %q, want %q", text, tt.err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("packages (-want +got):\n%s", diff)
			}
		})
	}
}

func TestForbidServices(t *testing.T) {
	tests := []struct {
		name   string
		before string
		during string
		after  string
	}{
		{name: "none of the machine's own", during: policy},
		{name: "left by a killed run", before: policy, during: policy},
		{name: "the machine's own", before: "#!/bin/sh\nexit 0\n", during: "#!/bin/sh\nexit 0\n", after: "#!/bin/sh\nexit 0\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "policy-rc.d")
			if tt.before != "" {
				if err := os.WriteFile(path, []byte(tt.before), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			undo, err := forbidServices(path)
			if err != nil {
				t.Fatal(err)
			}
			if got := read(t, path); got != tt.during {
				t.Errorf("while installing: %q, want %q", got, tt.during)
			}
			if info, err := os.Stat(path); tt.during == policy && (err != nil || info.Mode().Perm() != 0o755) {
				t.Errorf("policy is not executable: %v, %v", info, err)
			}
			undo()
			if got := read(t, path); got != tt.after {
				t.Errorf("afterwards: %q, want %q", got, tt.after)
			}
		})
	}
}

// read returns "" for a file that is not there.
func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(text)
}
