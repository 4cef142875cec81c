// Package seal encrypts the secrets that are part of rows.
//
// Rows travel in the raft log, in snapshots and in backups, so a secret is encrypted (AES-256-GCM, a random nonce each)
// under the cluster's key before it becomes part of one. The key lives in one file of mode 0600 in every coordinator's
// data directory and never in the replicated state: whoever has a backup alone has no secrets. All coordinators of a
// cluster need the same file; a coordinator that joins is given it by the operator before its first start, or fetches
// it over the mutually authenticated join. A lost key file loses the sealed secrets (API secret keys have to be made
// anew) and nothing else.
package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// keySize is that of AES-256.
const keySize = 32

// version is the first byte of a sealed text; it is authenticated too.
const version = 1

// Keeper seals and opens. It is safe for concurrent use.
type Keeper struct {
	aead cipher.AEAD
	key  []byte
}

// New makes a keeper of a 32-byte key.
func New(key []byte) (*Keeper, error) {
	if len(key) != keySize {
		return nil, fmt.Errorf("the seal key has %d bytes, not %d", len(key), keySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("use seal key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("use seal key: %w", err)
	}
	return &Keeper{aead, bytes.Clone(key)}, nil
}

// Generate makes a new key.
func Generate() []byte {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails: crypto/rand aborts the program instead
	return key
}

// Seal encrypts a secret; the empty secret stays empty.
func (k *Keeper) Seal(secret string) cloud.Sealed {
	if secret == "" {
		return nil
	}
	out := make([]byte, 1+k.aead.NonceSize(), 1+k.aead.NonceSize()+len(secret)+k.aead.Overhead())
	out[0] = version
	_, _ = rand.Read(out[1:])
	return k.aead.Seal(out, out[1:], []byte(secret), out[:1])
}

// Derive makes a key of n bytes for another use (HKDF-SHA256): all holders of the cluster's key get the same one, and it
// tells nothing of the cluster's key or of those for other uses.
func (k *Keeper) Derive(use string, n int) ([]byte, error) {
	b, err := hkdf.Key(sha256.New, k.key, nil, "wisp "+use, n)
	if err != nil {
		return nil, fmt.Errorf("derive key for %s: %w", use, err)
	}
	return b, nil
}

// String hides the key where a keeper is printed by mistake.
func (k *Keeper) String() string { return "***" }

// GoString is String for %#v.
func (k *Keeper) GoString() string { return "***" }

// ErrSealed says that a text was not sealed under this key, or was changed.
var ErrSealed = errors.New("the secret cannot be opened: another key has sealed it, or it is damaged")

// Open decrypts what Seal made.
func (k *Keeper) Open(s cloud.Sealed) (string, error) {
	if len(s) == 0 {
		return "", nil
	}
	n := 1 + k.aead.NonceSize()
	if len(s) < n || s[0] != version {
		return "", ErrSealed
	}
	b, err := k.aead.Open(nil, s[1:n], s[n:], s[:1])
	if err != nil {
		return "", ErrSealed
	}
	return unsafe.String(unsafe.SliceData(b), len(b)), nil // nobody else has b
}

// Load reads the key file. A file that others can read is refused.
func Load(path string) (*Keeper, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read seal key: %w", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("read seal key: %s has mode %04o; it must not be readable by others (0600)", path, st.Mode().Perm())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read seal key: %w", err)
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(b)))
	if err != nil {
		return nil, fmt.Errorf("read seal key %s: it does not hold 64 hexadecimal digits", path)
	}
	return New(key)
}

// Create writes a new key file; it is on disk when Create returns. An existing file is an error.
func Create(path string) error {
	return Store(path, Generate())
}

// Store writes a key file. The file appears whole or not at all.
func Store(path string, key []byte) error {
	if len(key) != keySize {
		return fmt.Errorf("the seal key has %d bytes, not %d", len(key), keySize)
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".seal-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write seal key: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.WriteString(hex.EncodeToString(key) + "\n")
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Link(f.Name(), path) // unlike Rename, never replaces
	}
	if err != nil {
		return fmt.Errorf("write seal key: %w", err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("write seal key: %w", err)
	}
	defer func() { _ = d.Close() }()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("write seal key: %w", err)
	}
	return nil
}
