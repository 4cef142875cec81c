package api

import (
	"net/http"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// caller is who makes a request. Its rows may be those of other calls, too: nobody changes them.
type caller struct {
	user    *cloud.User
	account *cloud.Account
	domain  *cloud.Domain
	session *cloud.Session // nil with an API key
}

// errCredentials is told for every reason alike.
var errCredentials = cloud.Errorf(cloud.BadCredentials, "unable to verify user credentials and/or request signature")

// authenticate finds the caller by API key and signature, or by session. A request with an API key is judged by its
// signature alone, whatever cookies it brings.
func (s *Server) authenticate(r *http.Request, v Values, at *store.View, now time.Time) (*caller, error) {
	if !v.Has("apikey") && !v.Has("signature") {
		session, err := sessionUser(r, v, at, now)
		if err != nil {
			return nil, err
		}
		c, err := load(at, session.UserID)
		if err != nil {
			return nil, err
		}
		c.session = session
		return c, nil
	}
	key, signature := v.Get("apikey"), v.Get("signature")
	if key == "" || signature == "" || expired(v, now) {
		return nil, errCredentials
	}
	h, err := s.holder(at, key)
	if err != nil || !h.signer.verify(v, signature) {
		return nil, errCredentials
	}
	return h.caller, nil
}

// holder is who has an API key. It is shared by the calls of that key.
type holder struct {
	caller *caller
	signer *signer
}

// mostHolders bounds the bytes of kept holders, each counted as holderSize.
const (
	mostHolders = 32 << 20
	holderSize  = 2 << 10
)

// holders keeps those whose keys were used, each until its user, account or domain changes: reading the three and opening
// the secret costs more than the signature.
func newHolders() *store.Memo[string, *holder] {
	return store.NewMemo[string](mostHolders, func(*holder) int { return holderSize })
}

// holder finds who has an API key and may make calls; errCredentials where nobody does.
func (s *Server) holder(at *store.View, key string) (h *holder, err error) {
	s.holders.Look(at, []string{key}, func(_ int, kept *holder) { h = kept })
	if h != nil {
		return h, nil
	}
	from := store.Record(at)
	user, ok := tables.Users.First(from, "apikey", store.K(key))
	if !ok || user.APIKey != key {
		return nil, errCredentials
	}
	secret, err := s.cfg.Seal.Open(user.SecretKey)
	if err != nil || secret == "" {
		s.cfg.Log.Error("cannot open a user's secret key", "user", user.ID, "error", err)
		return nil, errCredentials
	}
	who, err := with(from, user)
	if err != nil {
		return nil, err
	}
	h = &holder{who, newSigner(secret)}
	s.holders.Keep(at, []store.Made[string, *holder]{{Key: key, Value: h, From: from}})
	return h, nil
}

// load reads a user with account and domain, all of which must be in use. The system account makes no calls.
func load(at store.Reader, user cloud.ID) (*caller, error) {
	u, ok := tables.Users.Get(at, user)
	if !ok {
		return nil, errCredentials
	}
	return with(at, u)
}

// with adds account and domain to a user.
func with(at store.Reader, u *cloud.User) (*caller, error) {
	if u.State != cloud.Enabled {
		return nil, errCredentials
	}
	a, ok := tables.Accounts.Get(at, u.AccountID)
	if !ok || a.State != cloud.Enabled || a.System || RoleOf(a.Type) == 0 {
		return nil, errCredentials
	}
	d, ok := tables.Domains.Get(at, a.DomainID)
	if !ok || d.State != cloud.Enabled {
		return nil, errCredentials
	}
	return &caller{user: u, account: a, domain: d}, nil
}
