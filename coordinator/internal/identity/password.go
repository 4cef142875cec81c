package identity

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// The cost of a password's hash: 19 MiB, 2 passes, 1 lane, which OWASP lists as argon2id's least. More memory would let
// a few logins at once push a small coordinator out of its own.
const (
	hashMemory = 19 * 1024 // KiB
	hashTime   = 2
	hashLanes  = 1
	hashSalt   = 16
	hashSize   = 32
)

var b64 = base64.RawStdEncoding

// HashPassword makes the PHC string that is stored. The password is an opaque text: that some old clients send the MD5
// of what a person typed makes that MD5 the password, and nothing else is accepted for it. Accepting the MD5 of a
// password in its place would make every leaked MD5 a password.
func HashPassword(p cloud.Secret) string {
	salt := make([]byte, hashSalt)
	_, _ = rand.Read(salt) // never fails: crypto/rand aborts the program instead
	sum := argon2.IDKey([]byte(p), salt, hashTime, hashMemory, hashLanes, hashSize)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, hashMemory, hashTime, hashLanes, b64.EncodeToString(salt), b64.EncodeToString(sum))
}

// Hashers bounds how many passwords are hashed at once; each takes 19 MiB for the time.
type Hashers struct{ slots chan struct{} }

// hashers is how many hash at once where nobody says otherwise.
const hashers = 2

// NewHashers makes a bound, which all who hash share.
func NewHashers() *Hashers { return &Hashers{slots: make(chan struct{}, hashers)} }

// Do runs f when its turn comes; it does not where ctx ends before.
func (h *Hashers) Do(ctx context.Context, f func() error) error {
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
		return f()
	case <-ctx.Done():
		return fmt.Errorf("wait to hash a password: %w", ctx.Err())
	}
}

// Hash is HashPassword when its turn comes.
func (h *Hashers) Hash(ctx context.Context, p cloud.Secret) (hash string, err error) {
	err = h.Do(ctx, func() error {
		hash = HashPassword(p)
		return nil
	})
	return hash, err
}

// decoy is checked where there is no user, so that the time of an answer does not tell.
var decoy = fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, hashMemory, hashTime, hashLanes, b64.EncodeToString(make([]byte, hashSalt)), b64.EncodeToString(make([]byte, hashSize)))

// CheckPassword tells whether a password is the one hashed. The empty password is nobody's; an empty hash takes as long
// as any other and matches nothing.
func CheckPassword(hash string, p cloud.Secret) bool {
	known := hash != ""
	if !known {
		hash = decoy
	}
	parts := strings.Split(hash, "$")
	if len(parts) != 6 || parts[1] != "argon2id" {
		return false
	}
	var v, m, t, lanes int
	if _, err := fmt.Sscanf(parts[2], "v=%d", &v); err != nil || v != argon2.Version {
		return false
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &m, &t, &lanes); err != nil || m < 8 || m > 1<<20 || t < 1 || t > 16 || lanes < 1 || lanes > 16 {
		return false
	}
	salt, err1 := b64.DecodeString(parts[4])
	want, err2 := b64.DecodeString(parts[5])
	if err1 != nil || err2 != nil || len(want) < 16 {
		return false
	}
	got := argon2.IDKey([]byte(p), salt, uint32(t), uint32(m), uint8(lanes), uint32(len(want)))
	return subtle.ConstantTimeCompare(got, want) == 1 && known && p != ""
}

// randomText is n random bytes in unreserved characters.
func randomText(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand aborts the program instead
	return base64.RawURLEncoding.EncodeToString(b)
}

// NewPassword makes a random password of 144 bits.
func NewPassword() cloud.Secret { return cloud.Secret(randomText(18)) }

// NewKeys makes an API key and a secret key: 64 random bytes each, as long as clients expect them to be.
func NewKeys() (key string, secret cloud.Secret) {
	return randomText(64), cloud.Secret(randomText(64))
}
