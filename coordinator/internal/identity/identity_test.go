package identity_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/replica"
	"github.com/wispcloud/wisp/coordinator/internal/replica/replicatest"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

func TestPassword(t *testing.T) {
	hash := identity.HashPassword("correct horse")
	if !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$") || hash == identity.HashPassword("correct horse") {
		t.Errorf("hash %s", hash)
	}
	for _, x := range []struct {
		hash string
		pass cloud.Secret
		want bool
	}{
		{hash, "correct horse", true},
		{hash, "correct horse ", false},
		{hash, "", false},
		{hash, cloud.Secret(hash), false},
		{"", "", false},
		{"", "anything", false},
		{identity.HashPassword(""), "", false},
		{"$argon2id$v=19$m=99999999,t=2,p=1$AAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAA", "x", false}, // would take all memory
		{"$argon2id$v=19$m=19456,t=0,p=0$AAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAA", "x", false},
		{"$2y$10$abcdefghijklmnopqrstuv", "x", false},
		{"plain", "plain", false},
		{"$argon2id$v=19$m=19456,t=2,p=1$$", "", false},
	} {
		if got := identity.CheckPassword(x.hash, x.pass); got != x.want {
			t.Errorf("%.40s with %q: %v", x.hash, string(x.pass), got)
		}
	}
}

func newCloud(t *testing.T) (*replica.Replica, *seal.Keeper) {
	t.Helper()
	k, err := seal.New(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	r := replicatest.Single(t, tables.Schema()...)
	for i := range 2 {
		err := r.Update(context.Background(), func(tx *store.Tx) error {
			made, err := identity.Bootstrap(tx, identity.Admin{Username: "admin", APIKey: fmt.Sprint("key", i), Secret: "secret"}, k)
			if made != (i == 0) {
				return fmt.Errorf("bootstrap %d made the first rows: %v", i, made)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return r, k
}

func TestBootstrap(t *testing.T) {
	r, k := newCloud(t)
	at := r.DB().Current()
	if d, a, u := tables.Domains.Len(at), tables.Accounts.Len(at), tables.Users.Len(at); d != 1 || a != 2 || u != 1 {
		t.Errorf("%d domains, %d accounts, %d users", d, a, u)
	}
	for u := range tables.Users.All(at) {
		if a, _ := tables.Accounts.Get(at, u.AccountID); a.System || a.Type != cloud.RootAdminAccount || u.APIKey != "key0" {
			t.Errorf("user %+v of account %+v", u, a)
		}
		if bytes.Contains(u.SecretKey, []byte("secret")) {
			t.Error("the secret key is stored in the clear")
		}
		if s, err := k.Open(u.SecretKey); err != nil || s != "secret" {
			t.Errorf("the secret key is %q, %v", s, err)
		}
	}
	a, b := identity.NewAdmin(), identity.NewAdmin()
	if a.Password == b.Password || a.Secret == b.Secret || a.APIKey == b.APIKey || len(a.Password) < 22 || len(a.Secret) < 86 {
		t.Error("credentials are not random, or short")
	}
}

func TestPath(t *testing.T) {
	r, _ := newCloud(t)
	err := r.Update(context.Background(), func(tx *store.Tx) error {
		a, err := identity.CreateDomain(tx, identity.Root(tx).ID, "a", "")
		if err != nil {
			return err
		}
		if _, err := identity.CreateDomain(tx, a.ID, "B c", ""); err != nil {
			return err
		}
		for _, bad := range []string{"", "x/y", " x", "a\n", strings.Repeat("x", 256)} {
			if _, err := identity.CreateDomain(tx, a.ID, bad, ""); cloud.CodeOf(err) != cloud.Invalid {
				return fmt.Errorf("name %q: %w", bad, err)
			}
		}
		if _, err := identity.CreateDomain(tx, a.ID, "b C", ""); cloud.CodeOf(err) != cloud.Invalid || !strings.Contains(err.Error(), "already exists") {
			return fmt.Errorf("a name twice: %w", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"": "ROOT", "/": "ROOT", "ROOT": "ROOT", "/root/": "ROOT", "a": "ROOT/a", "/A/": "ROOT/a", "ROOT/a": "ROOT/a",
		"/a/b c": "ROOT/a/B c", "ROOT/a/B c/": "ROOT/a/B c", "b c": "", "/a/b": "", "//": "ROOT", "x": "",
	} {
		got := ""
		if d, ok := identity.Path(r.DB().Current(), path); ok {
			got = d.Path
		}
		if got != want {
			t.Errorf("%q is %q, want %q", path, got, want)
		}
	}
}

// The counters are what a recount of all that was granted gives, for accounts and for every domain above them; no limit
// is ever exceeded; and what is refused changes nothing.
func TestCountsAreARecount(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r, _ := newCloud(t)
		var accounts []*cloud.Account
		var domains []*cloud.Domain
		err := r.Update(context.Background(), func(tx *store.Tx) error {
			domains = []*cloud.Domain{identity.Root(tx)}
			accounts = nil
			for i := range 3 {
				d, err := identity.CreateDomain(tx, domains[i/2].ID, fmt.Sprint("d", i), "")
				if err != nil {
					return err
				}
				domains = append(domains, d)
				a, err := identity.CreateAccount(tx, identity.AccountSpec{Name: fmt.Sprint("a", i), DomainID: d.ID})
				if err != nil {
					return err
				}
				accounts = append(accounts, a)
			}
			limits := []cloud.ResourceLimit{
				{ID: tx.NewID(), AccountID: accounts[0].ID, Max: 4},
				{ID: tx.NewID(), DomainID: domains[1].ID, Max: 6},
				{ID: tx.NewID(), AccountID: accounts[1].ID, Max: identity.Unlimited},
			}
			var errs []error
			for i := range limits {
				errs = append(errs, tables.ResourceLimits.Put(tx, &limits[i]))
			}
			return errors.Join(errs...)
		})
		if err != nil {
			rt.Fatal(err)
		}
		granted := map[cloud.ID]int64{}
		for range rapid.IntRange(1, 40).Draw(rt, "calls") {
			a := rapid.SampledFrom(accounts).Draw(rt, "account")
			delta := rapid.Int64Range(-2, 3).Draw(rt, "delta")
			if delta < 0 && granted[a.ID]+delta < 0 {
				continue
			}
			err := r.Update(context.Background(), func(tx *store.Tx) error { return identity.Count(tx, a.ID, cloud.ResourceVM, delta) })
			switch {
			case err == nil:
				granted[a.ID] += delta
			case cloud.CodeOf(err) != cloud.LimitExceeded || delta <= 0:
				rt.Fatal(err)
			}
		}
		at := r.DB().Current()
		byDomain := map[cloud.ID]int64{}
		for _, a := range accounts {
			if got := identity.Counted(at, a.ID, cloud.ResourceVM); got != granted[a.ID] {
				rt.Fatalf("%s: counted %d, granted %d", a.Name, got, granted[a.ID])
			}
			if max := identity.Limit(at, a, cloud.ResourceVM); max != identity.Unlimited && granted[a.ID] > max {
				rt.Fatalf("%s has %d of %d", a.Name, granted[a.ID], max)
			}
			for id := a.DomainID; !id.IsZero(); {
				byDomain[id] += granted[a.ID]
				d, _ := tables.Domains.Get(at, id)
				id = d.ParentID
			}
		}
		for _, d := range domains {
			if got := identity.Counted(at, d.ID, cloud.ResourceVM); got != byDomain[d.ID] {
				rt.Fatalf("%s: counted %d, granted %d", d.Path, got, byDomain[d.ID])
			}
		}
		if byDomain[domains[1].ID] > 6 {
			rt.Fatalf("domain %s has %d of 6", domains[1].Path, byDomain[domains[1].ID])
		}
	})
}

// Taking away more than there is would hide a fault of ours: it fails.
func TestCountNeverNegative(t *testing.T) {
	r, _ := newCloud(t)
	err := r.Update(context.Background(), func(tx *store.Tx) error {
		a, err := identity.CreateAccount(tx, identity.AccountSpec{Name: "x", DomainID: identity.Root(tx).ID})
		if err != nil {
			return err
		}
		return identity.Count(tx, a.ID, cloud.ResourceVM, -1)
	})
	if err == nil || cloud.CodeOf(err) != cloud.Internal {
		t.Errorf("%v", err)
	}
}

// Who may read or replace whose keys (CVE-2024-42062, CVE-2025-47849, CVE-2025-47713, CVE-2016-6813).
func TestMayHoldKeys(t *testing.T) {
	me := &cloud.User{ID: cloud.NameID("u", "me"), AccountID: cloud.NameID("a", "mine")}
	mate := &cloud.User{ID: cloud.NameID("u", "mate"), AccountID: me.AccountID}
	other := &cloud.User{ID: cloud.NameID("u", "other"), AccountID: cloud.NameID("a", "other")}
	const user, root, dom = cloud.UserAccount, cloud.RootAdminAccount, cloud.DomainAdminAccount
	for _, x := range []struct {
		name   string
		caller cloud.AccountType
		of     *cloud.User
		kind   cloud.AccountType
		inside bool
		want   bool
	}{
		{"a user's own", user, me, user, true, true},
		{"another user of the account", user, mate, user, true, false},
		{"another account's", user, other, user, true, false},
		{"a domain admin of a user in its domain", dom, other, user, true, true},
		{"a domain admin of a user elsewhere", dom, other, user, false, false},
		{"a domain admin of another admin in its domain", dom, other, dom, true, false},
		{"a domain admin of a root admin in its domain", dom, other, root, true, false},
		{"a root admin of anybody", root, other, dom, true, true},
		{"a project's account of anybody", cloud.ProjectAccount, other, user, true, false},
	} {
		if got := identity.MayHoldKeys(me, x.caller, x.of, x.kind, x.inside); got != x.want {
			t.Errorf("%s: %v", x.name, got)
		}
	}
}

// A login that a disabled or locked user had stays dead when the user is enabled again.
func TestSessionsEndWithTheirUser(t *testing.T) {
	for _, state := range []cloud.Lifecycle{cloud.Disabled, cloud.Locked} {
		r, _ := newCloud(t)
		err := r.Update(t.Context(), func(tx *store.Tx) error {
			a, err := identity.CreateAccount(tx, identity.AccountSpec{Name: "x", DomainID: identity.Root(tx).ID})
			if err != nil {
				return err
			}
			u, err := identity.CreateUser(tx, identity.UserSpec{AccountID: a.ID, Username: "x"})
			if err != nil {
				return err
			}
			s := &cloud.Session{ID: cloud.NameID("session", "x"), UserID: u.ID}
			if err := tables.Sessions.Put(tx, s); err != nil {
				return err
			}
			if err := errors.Join(identity.SetUserState(tx, u, state), identity.SetUserState(tx, u, cloud.Enabled)); err != nil {
				return err
			}
			if _, alive := tables.Sessions.Get(tx, s.ID); alive {
				t.Errorf("after %v the login is alive", state)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
