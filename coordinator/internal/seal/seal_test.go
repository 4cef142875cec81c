package seal_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/seal"
)

func TestSealAndOpen(t *testing.T) {
	key := seal.Generate()
	k, err := seal.New(key)
	if err != nil {
		t.Fatal(err)
	}
	other, err := seal.New(seal.Generate())
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"", "x", "a secret", strings.Repeat("long ", 10000), "\x00\xff"} {
		s := k.Seal(secret)
		if got, err := k.Open(s); err != nil || got != secret {
			t.Errorf("%.10q became %.10q %v", secret, got, err)
		}
		if secret == "" {
			if len(s) != 0 {
				t.Error("the empty secret is something")
			}
			continue
		}
		if bytes.Equal(s, k.Seal(secret)) {
			t.Error("the same secret is sealed alike twice")
		}
		if len(secret) > 1 && bytes.Contains(s, []byte(secret)) {
			t.Error("the secret is in the clear")
		}
		if _, err := other.Open(s); !errors.Is(err, seal.ErrSealed) {
			t.Errorf("another key opens it: %v", err)
		}
		for i := 0; i < len(s); i += 1 + len(s)/64 {
			bad := bytes.Clone(s)
			bad[i] ^= 1
			if _, err := k.Open(bad); !errors.Is(err, seal.ErrSealed) {
				t.Errorf("byte %d changed: %v", i, err)
			}
			if _, err := k.Open(s[:i]); i > 0 && !errors.Is(err, seal.ErrSealed) {
				t.Errorf("cut to %d: %v", i, err)
			}
		}
		if printed := fmt.Sprintf("%v %s %#v", s, s, k); printed != "*** *** ***" {
			t.Errorf("it prints as %q", printed)
		}
	}
	if _, err := seal.New(key[1:]); err == nil {
		t.Error("a short key is taken")
	}
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seal.key")
	if err := seal.Create(path); err != nil {
		t.Fatal(err)
	}
	a, err := seal.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := seal.Create(path); err == nil {
		t.Error("a key was written over")
	}
	b, err := seal.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := b.Open(a.Seal("x")); err != nil || got != "x" {
		t.Errorf("the key read again is another: %v", err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v %v", st.Mode(), err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("files are left: %v %v", entries, err)
	}
	for name, content := range map[string]string{"empty": "", "short": "00ff", "no hex": strings.Repeat("zz", 32)} {
		p := filepath.Join(t.TempDir(), "k")
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := seal.Load(p); err == nil {
			t.Errorf("%s: taken for a key", name)
		}
	}
}

// All holders of a key derive the same keys, different ones for different uses, and none of them the key itself.
func TestDerive(t *testing.T) {
	key := bytes.Repeat([]byte{3}, 32)
	a, _ := seal.New(key)
	b, _ := seal.New(key)
	x, _ := a.Derive("x", 32)
	again, _ := b.Derive("x", 32)
	y, _ := a.Derive("y", 32)
	if !bytes.Equal(x, again) || bytes.Equal(x, y) || bytes.Equal(x, key) || len(x) != 32 {
		t.Errorf("%x %x %x", x, again, y)
	}
}
