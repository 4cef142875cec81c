package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Marks around the keys that came from metadata: lines outside are the owner's
// and stay.
const (
	keysBegin = "# begin keys from metadata, replaced at each boot"
	keysEnd   = "# end keys from metadata"
)

// installKeys makes the metadata's keys the ones root may log in with.
func installKeys(path, value string) (int, error) {
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("install ssh keys: %w", err)
	}
	keys := publicKeys(value)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return 0, fmt.Errorf("install ssh keys: %w", err)
	}
	if err := writeFile(path, []byte(mergeKeys(string(old), keys)), 0o600); err != nil {
		return 0, fmt.Errorf("install ssh keys: %w", err)
	}
	return len(keys), nil
}

// publicKeys picks the lines that are keys: a type, then base64.
func publicKeys(value string) []string {
	var keys []string
	for line := range strings.Lines(value) {
		f := strings.Fields(line)
		if len(f) >= 2 && (strings.HasPrefix(f[0], "ssh-") || strings.HasPrefix(f[0], "ecdsa-") || strings.HasPrefix(f[0], "sk-")) {
			keys = append(keys, printable(strings.TrimSpace(line)))
		}
	}
	return keys
}

func mergeKeys(old string, keys []string) string {
	var b strings.Builder
	inside := false
	for line := range strings.Lines(old) {
		switch strings.TrimSpace(line) {
		case keysBegin:
			inside = true
		case keysEnd:
			inside = false
		default:
			if !inside {
				b.WriteString(strings.TrimRight(line, "\n") + "\n")
			}
		}
	}
	if len(keys) > 0 {
		fmt.Fprintf(&b, "%s\n%s\n%s\n", keysBegin, strings.Join(keys, "\n"), keysEnd)
	}
	return b.String()
}

// setRootPassword does what chpasswd does, which busybox-static lacks: mkpasswd
// reads the password from its standard input and the hash goes to /etc/shadow.
func (g *guest) setRootPassword(password string) error {
	hash, err := g.procs.output(password+"\n", "/usr/bin/busybox", "mkpasswd", "-m", "sha512", "-P", "0")
	if err != nil {
		return fmt.Errorf("set root password: %w", err)
	}
	hash = strings.TrimSpace(hash)
	if !strings.HasPrefix(hash, "$6$") {
		return errors.New("set root password: mkpasswd gave no hash")
	}
	shadow, err := os.ReadFile("/etc/shadow")
	if err != nil {
		return fmt.Errorf("set root password: %w", err)
	}
	changed, err := withHash(string(shadow), "root", hash)
	if err != nil {
		return fmt.Errorf("set root password: %w", err)
	}
	if err := writeFile("/etc/shadow", []byte(changed), 0o600); err != nil {
		return fmt.Errorf("set root password: %w", err)
	}
	return nil
}

// withHash replaces the second field of an account's line, see shadow(5).
func withHash(shadow, account, hash string) (string, error) {
	var b strings.Builder
	found := false
	for line := range strings.Lines(shadow) {
		f := strings.SplitN(line, ":", 3)
		if len(f) == 3 && f[0] == account {
			line = f[0] + ":" + hash + ":" + f[2]
			found = true
		}
		b.WriteString(line)
	}
	if !found {
		return "", fmt.Errorf("no account %s in /etc/shadow", account)
	}
	return b.String(), nil
}
