// Package hostlink is the agent's end of the link to the coordinators: joining, renewing its certificate, taking specs,
// sending observations, fetching images.
//
// The agent dials; nothing on a host listens for a coordinator. Before it has a certificate it trusts exactly one
// thing, the authority whose SHA-256 stands in the join token. Afterwards it trusts that authority only and shows its
// own certificate. Losing every coordinator changes nothing on the host; the link just keeps trying.
package hostlink

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"
)

// Token is a join token: wisp1.<host:port[,host:port]>.<base64url id and secret>.<hex SHA-256 of the authority>.
type Token struct {
	text      string
	Addresses []string
	Pin       [sha256.Size]byte
}

// ErrToken says that a text is no join token.
var ErrToken = errors.New("not a join token")

// String hides the secret.
func (t Token) String() string { return "join token for " + strings.Join(t.Addresses, ",") }

// GoString hides the secret.
func (t Token) GoString() string { return t.String() }

// ParseToken reads a token. Its errors never repeat the text.
func ParseToken(text string) (Token, error) {
	text = strings.TrimSpace(text)
	rest, ok := strings.CutPrefix(text, "wisp1.")
	if !ok {
		return Token{}, fmt.Errorf("%w: it does not begin with \"wisp1.\"", ErrToken)
	}
	// Addresses have dots in them, so the parts are counted from the end.
	rest, pin, ok1 := cutLast(rest)
	addresses, secret, ok2 := cutLast(rest)
	if !ok1 || !ok2 {
		return Token{}, fmt.Errorf("%w: it has too few parts", ErrToken)
	}
	t := Token{text: text}
	sum, err := hex.DecodeString(pin)
	if err != nil || len(sum) != sha256.Size {
		return Token{}, fmt.Errorf("%w: its last part is not a SHA-256 in hexadecimal", ErrToken)
	}
	copy(t.Pin[:], sum)
	if _, err := base64.RawURLEncoding.DecodeString(secret); err != nil || secret == "" {
		return Token{}, fmt.Errorf("%w: its secret is damaged", ErrToken)
	}
	for _, a := range strings.Split(addresses, ",") {
		if err := checkAddress(a); err != nil {
			return Token{}, fmt.Errorf("%w: an address in it is not host:port", ErrToken)
		}
		t.Addresses = append(t.Addresses, a)
	}
	return t, nil
}

func checkAddress(a string) error {
	host, port, err := net.SplitHostPort(a)
	if err != nil {
		return err
	}
	if host == "" || port == "" {
		return errors.New("host or port is missing")
	}
	return nil
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '.')
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}
