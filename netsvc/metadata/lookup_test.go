package metadata

import (
	"strings"
	"testing"

	"github.com/wispcloud/wisp/proto/netspec"
)

func TestLookup(t *testing.T) {
	g := &netspec.GuestData{UserData: []byte("\x1f\x8bbinary"), MetaData: map[string]string{
		"instance-id": "vm-1", "local-ipv4": "10.1.1.11", "public-keys": "ssh-rsa AAAA me", "availability-zone": "",
	}}
	const keys = "availability-zone\ninstance-id\nlocal-ipv4\npublic-keys\n"
	for path, want := range map[string]string{
		"/":                               versions,
		"":                                versions,
		"/latest":                         "meta-data\nuser-data\n",
		"/latest/":                        "meta-data\nuser-data\n",
		"/latest/user-data":               "\x1f\x8bbinary",
		"/latest/user-data/":              "\x1f\x8bbinary",
		"//latest//user-data":             "\x1f\x8bbinary",
		"/user-data":                      "\x1f\x8bbinary",
		"/1.0/user-data":                  "\x1f\x8bbinary",
		"/2009-04-04/user-data":           "\x1f\x8bbinary",
		"/2025-99-99/user-data":           "\x1f\x8bbinary",
		"/latest/meta-data":               keys,
		"/latest/meta-data/":              keys,
		"/meta-data":                      keys,
		"/latest/meta-data/local-ipv4":    "10.1.1.11",
		"/meta-data/local-ipv4":           "10.1.1.11",
		"/latest/local-ipv4":              "10.1.1.11",
		"/latest/availability-zone":       "",
		"/latest/meta-data/public-keys":   "ssh-rsa AAAA me",
		"/latest/meta-data/public-keys/":  "ssh-rsa AAAA me",
		"/latest/public-keys":             "ssh-rsa AAAA me",
		"/latest/meta-data/public-keys/0": "openssh-key\n",
		"/latest/meta-data/public-keys/0/openssh-key": "ssh-rsa AAAA me",
	} {
		if b, ok := lookup(g, path); !ok || string(b.bytes) != want {
			t.Errorf("%q: %q, %v, want %q", path, b.bytes, ok, want)
		}
	}
	for _, path := range []string{
		"/latest/nothing", "/latest/meta-data/nothing", "/nothing", "/latest/user-data/more", "/latest/meta-data/local-ipv4/more",
		"/latest/meta-data/public-keys/1", "/latest/meta-data/public-keys/0/rsa", "/latest/meta-data/public-keys/0/openssh-key/x",
		"/latest/../latest/user-data", "/2009-04-4x/user-data", "/latest/api/token",
	} {
		if b, ok := lookup(g, path); ok {
			t.Errorf("%q: found %q", path, b.bytes)
		}
	}
	if b, ok := lookup(&netspec.GuestData{}, "/latest/user-data"); !ok || len(b.bytes) != 0 {
		t.Errorf("without user-data: %q, %v", b.bytes, ok)
	}
}

// FuzzLookup: whatever the path, a guest gets nothing but its own values, the lists and fixed texts.
func FuzzLookup(f *testing.F) {
	for _, path := range []string{"/", "/latest/user-data", "/latest/meta-data/public-keys/0/openssh-key", "/2009-04-04//x/../y"} {
		f.Add(path)
	}
	g := &netspec.GuestData{UserData: []byte("U"), MetaData: map[string]string{"k": "V", "public-keys": "P"}}
	fixed := []string{"U", "V", "P", versions, "meta-data\nuser-data\n", "k\npublic-keys\n", "openssh-key\n"}
	f.Fuzz(func(t *testing.T, path string) {
		b, ok := lookup(g, path)
		if !ok {
			return
		}
		for _, text := range fixed {
			if string(b.bytes) == text {
				return
			}
		}
		t.Fatalf("%s: %q", strings.ToValidUTF8(path, "?"), b.bytes)
	})
}
