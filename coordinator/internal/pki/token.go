package pki

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// Token lets an agent join. Its text form is
//
//	wisp1.<host:port[,host:port]>.<base64url of 16 bytes id and 32 bytes secret>.<hex SHA-256 of the authority's certificate>
//
// so it says where the coordinators are, proves the right to join, and pins whom to trust. Addresses may hold dots:
// the fields are counted from both ends.
type Token struct {
	Addresses []string
	ID        cloud.ID
	Secret    [32]byte
	Pin       [sha256.Size]byte
}

const tokenPrefix = "wisp1."

// ErrToken says that a text is no join token.
var ErrToken = errors.New("not a join token")

// NewToken makes a token with a fresh secret.
func NewToken(id cloud.ID, addresses []string, pin [sha256.Size]byte) (Token, error) {
	t := Token{Addresses: addresses, ID: id, Pin: pin}
	if len(addresses) == 0 {
		return t, errors.New("make join token: no coordinator address is known")
	}
	for _, a := range addresses {
		if host, port, err := net.SplitHostPort(a); err != nil || host == "" || port == "" {
			return t, fmt.Errorf("make join token: coordinator address %q is not host:port", a)
		}
	}
	if _, err := rand.Read(t.Secret[:]); err != nil {
		return t, fmt.Errorf("make join token: %w", err)
	}
	return t, nil
}

// Reveal gives the text of the token. It holds the secret: show it once, to who asked for it.
func (t Token) Reveal() string {
	both := append(append([]byte{}, t.ID[:]...), t.Secret[:]...)
	return tokenPrefix + strings.Join(t.Addresses, ",") + "." + base64.RawURLEncoding.EncodeToString(both) + "." +
		hex.EncodeToString(t.Pin[:])
}

// String hides the secret.
func (t Token) String() string { return "join token " + t.ID.String() }

// GoString hides the secret.
func (t Token) GoString() string { return t.String() }

// SecretHash is what the row of a token keeps.
func (t Token) SecretHash() []byte {
	h := sha256.Sum256(t.Secret[:])
	return h[:]
}

// Matches compares a token's secret with the hash a row keeps, in constant time.
func (t Token) Matches(hash []byte) bool {
	return subtle.ConstantTimeCompare(t.SecretHash(), hash) == 1
}

// ParseToken reads the text form. Its errors never repeat the text.
func ParseToken(s string) (Token, error) {
	var t Token
	rest, ok := strings.CutPrefix(strings.TrimSpace(s), tokenPrefix)
	if !ok {
		return t, fmt.Errorf("%w: it does not begin with %s", ErrToken, tokenPrefix)
	}
	rest, pin, ok := cutLast(rest)
	if !ok {
		return t, fmt.Errorf("%w: it has too few parts", ErrToken)
	}
	addresses, secret, ok := cutLast(rest)
	if !ok {
		return t, fmt.Errorf("%w: it has too few parts", ErrToken)
	}
	if b, err := hex.DecodeString(pin); err != nil || len(b) != len(t.Pin) || pin != strings.ToLower(pin) {
		return t, fmt.Errorf("%w: its last part is not a SHA-256 in lower-case hexadecimal", ErrToken)
	} else {
		copy(t.Pin[:], b)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(secret)
	if err != nil || len(b) != len(t.ID)+len(t.Secret) {
		return t, fmt.Errorf("%w: its secret is damaged", ErrToken)
	}
	copy(t.ID[:], b)
	copy(t.Secret[:], b[len(t.ID):])
	for _, a := range strings.Split(addresses, ",") {
		if host, port, err := net.SplitHostPort(a); err != nil || host == "" || port == "" {
			return t, fmt.Errorf("%w: an address in it is not host:port", ErrToken)
		}
		t.Addresses = append(t.Addresses, a)
	}
	return t, nil
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '.')
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}
