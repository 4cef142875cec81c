package api

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// A login gives two cookies. JSESSIONID is the secret: 256 random bits, out of reach of scripts, stored as a hash only.
// sessionkey is derived from it; scripts may read it, and a request shows it once more, as a parameter or as the cookie.
// A parameter cannot come from a foreign page, which does not know it. A cookie alone can, so such requests must come
// from our own origin.
const (
	sessionCookie = "JSESSIONID"
	keyCookie     = "sessionkey"
	keyParameter  = "sessionkey"
)

// NewSession makes a secret and the row that stands for it.
func NewSession(user cloud.ID, now time.Time, timeout time.Duration) (secret string, row *cloud.Session) {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand aborts the program instead
	secret = hex.EncodeToString(b[:])
	return secret, &cloud.Session{
		ID: sessionID(secret), UserID: user, Created: now, LastUsed: now, Timeout: uint32(timeout / time.Second),
	}
}

func sessionID(secret string) cloud.ID {
	sum := sha256.Sum256([]byte("wisp session\x00" + secret))
	return cloud.ID(sum[:16])
}

// SessionKey is the key that belongs to a secret: unreserved characters only, because one client encodes it twice.
func SessionKey(secret string) string {
	sum := sha256.Sum256([]byte("wisp session key\x00" + secret))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// SetSessionCookies tells them to the client, or with an empty secret takes them back.
func SetSessionCookies(x *Exchange, secret string) {
	key, age := "", -1
	if secret != "" {
		key, age = SessionKey(secret), 0
	}
	for _, c := range []*http.Cookie{
		{Name: sessionCookie, Value: secret, HttpOnly: true},
		{Name: keyCookie, Value: key},
	} {
		c.Path, c.MaxAge, c.SameSite, c.Secure = "/client", age, http.SameSiteLaxMode, x.Request.TLS != nil
		x.Header.Add("Set-Cookie", c.String())
	}
}

// SessionOf is the row ID of the session a request shows, not checked; for logout.
func SessionOf(r *http.Request) (cloud.ID, bool) {
	c, err := r.Cookie(sessionCookie)
	if err != nil || c.Value == "" {
		return cloud.ID{}, false
	}
	return sessionID(c.Value), true
}

var errSession = cloud.Errorf(cloud.BadCredentials, "unable to verify user credentials and/or request signature")

// sessionUser finds who is logged in.
func sessionUser(r *http.Request, v Values, at store.Reader, now time.Time) (*cloud.Session, error) {
	c, err := r.Cookie(sessionCookie)
	if err != nil || c.Value == "" {
		return nil, errSession
	}
	row, ok := tables.Sessions.Get(at, sessionID(c.Value))
	if !ok || now.Sub(row.LastUsed) > time.Duration(row.Timeout)*time.Second {
		return nil, errSession
	}
	want := SessionKey(c.Value)
	if sameKey(v.Get(keyParameter), want) {
		return row, nil
	}
	for _, k := range r.CookiesNamed(keyCookie) {
		if !sameKey(k.Value, want) {
			continue
		}
		if !sameOrigin(r) {
			return nil, cloud.Errorf(cloud.BadCredentials, "the request comes from another site and shows no sessionkey parameter")
		}
		return row, nil
	}
	return nil, errSession
}

func sameKey(got, want string) bool {
	return subtle.ConstantTimeCompare([]byte(got), []byte(want)) == 1
}

// sameOrigin tells whether a browser says that a request was made by one of our own pages, or by its user. Programs that
// are no browsers say nothing and cannot be tricked into a request.
func sameOrigin(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
	default:
		return false
	}
	for _, h := range []string{"Origin", "Referer"} {
		from := r.Header.Get(h)
		if from == "" {
			continue
		}
		u, err := url.Parse(from)
		return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
	}
	return true
}
