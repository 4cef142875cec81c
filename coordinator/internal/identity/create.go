package identity

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// RootName is the name and the path of the domain at the top.
const RootName = "ROOT"

// Root is the domain at the top; nil before Bootstrap.
func Root(r store.Reader) *cloud.Domain {
	d, _ := tables.Domains.First(r, "path", store.K(strings.ToLower(RootName)))
	return d
}

// Path finds a domain by a path as people and clients write it: "/", "a/b", "/a/b/", "ROOT/a/b".
func Path(r store.Reader, path string) (*cloud.Domain, bool) {
	path = strings.Trim(path, "/")
	if first, rest, _ := strings.Cut(path, "/"); strings.EqualFold(first, RootName) {
		path = rest
	}
	full := strings.ToLower(RootName)
	if path != "" {
		full += "/" + strings.ToLower(path)
	}
	for d := range tables.Domains.By(r, "path", store.K(full)) {
		return d, true
	}
	return nil, false
}

// next hands out the next number of a sequence, from 1.
func next(tx *store.Tx, name string) (uint64, error) {
	s, ok := tables.Sequences.Get(tx, cloud.NameID("sequence", name))
	if !ok {
		s = &cloud.Sequence{ID: cloud.NameID("sequence", name), Name: name}
	}
	s.Last++
	return s.Last, tables.Sequences.Put(tx, s)
}

// checkName refuses names that would not survive a path, a log line or an envelope.
func checkName(what, name string) error {
	if name == "" || len(name) > 255 || strings.TrimSpace(name) != name {
		return cloud.Errorf(cloud.Invalid, "The %s name must have 1 to 255 characters and neither begin nor end with a space", what)
	}
	for _, r := range name {
		if r == '/' || unicode.IsControl(r) || r == unicode.ReplacementChar {
			return cloud.Errorf(cloud.Invalid, "The %s name %q holds a character that is not allowed", what, name)
		}
	}
	return nil
}

// CreateDomain makes a domain below parent.
func CreateDomain(tx *store.Tx, parent cloud.ID, name, network string) (*cloud.Domain, error) {
	return CreateDomainAs(tx, cloud.ID{}, parent, name, network)
}

// CreateDomainAs is CreateDomain with an id of the caller's choice; zero is none.
func CreateDomainAs(tx *store.Tx, id, parent cloud.ID, name, network string) (*cloud.Domain, error) {
	if err := checkName("domain", name); err != nil {
		return nil, err
	}
	p, ok := tables.Domains.Get(tx, parent)
	if !ok {
		return nil, cloud.Errorf(cloud.Invalid, "Unable to find parent domain %s", parent)
	}
	if p.State != cloud.Enabled {
		return nil, cloud.Errorf(cloud.Invalid, "Domain %s is being removed", p.Name)
	}
	if err := CheckNetworkDomain(network); err != nil {
		return nil, err
	}
	d := &cloud.Domain{
		ID: orNew(tx, id), Name: name, ParentID: parent, Path: p.Path + "/" + name, Level: p.Level + 1, Network: network,
		Created: tx.Now(),
	}
	err := tables.Domains.Put(tx, d)
	var taken *store.Conflict
	if errors.As(err, &taken) {
		return nil, cloud.Errorf(cloud.Invalid, "Domain with name %s already exists for the parent id=%s", name, parent)
	}
	if err != nil {
		return nil, fmt.Errorf("create domain %s: %w", name, err)
	}
	return d, nil
}

// orNew is the id that was asked for, or else a new one.
func orNew(tx *store.Tx, id cloud.ID) cloud.ID {
	if id.IsZero() {
		return tx.NewID()
	}
	return id
}

// AccountSpec is what CreateAccount needs.
type AccountSpec struct {
	ID            cloud.ID // zero: a new one
	Name          string
	Type          cloud.AccountType
	DomainID      cloud.ID
	NetworkDomain string
	System        bool
	Role          *cloud.Role // nil: that of Type
	Details       map[string]string
}

// CreateAccount makes an account.
func CreateAccount(tx *store.Tx, s AccountSpec) (*cloud.Account, error) {
	if err := checkName("account", s.Name); err != nil {
		return nil, err
	}
	d, ok := tables.Domains.Get(tx, s.DomainID)
	if !ok {
		return nil, cloud.Errorf(cloud.Invalid, "Unable to find domain %s", s.DomainID)
	}
	if d.State != cloud.Enabled {
		return nil, cloud.Errorf(cloud.Invalid, "Domain %s is being removed", d.Name)
	}
	if s.Type == cloud.RootAdminAccount && Root(tx).ID != s.DomainID {
		return nil, cloud.Errorf(cloud.Invalid, "A root admin's account can be in the ROOT domain only")
	}
	if err := CheckNetworkDomain(s.NetworkDomain); err != nil {
		return nil, err
	}
	n, err := next(tx, "account")
	if err != nil {
		return nil, fmt.Errorf("create account %s: %w", s.Name, err)
	}
	a := &cloud.Account{
		ID: orNew(tx, s.ID), Name: s.Name, Type: s.Type, DomainID: s.DomainID, NetworkDomain: s.NetworkDomain, Created: tx.Now(),
		Number: n, System: s.System, Details: s.Details,
	}
	if s.Role != nil {
		if err := SetRole(tx, a, s.Role); err != nil {
			return nil, err
		}
	}
	err = tables.Accounts.Put(tx, a)
	var taken *store.Conflict
	if errors.As(err, &taken) {
		return nil, cloud.Errorf(cloud.Invalid, "The specified account: %s already exists", s.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("create account %s: %w", s.Name, err)
	}
	return a, nil
}

// UserSpec is what CreateUser needs.
type UserSpec struct {
	ID                  cloud.ID // zero: a new one
	AccountID           cloud.ID
	Username            string
	PasswordHash        string
	FirstName, LastName string
	Email, Timezone     string
	Directory           bool // no password of its own
}

// CreateUser makes a user of an account.
func CreateUser(tx *store.Tx, s UserSpec) (*cloud.User, error) {
	if err := checkName("user", s.Username); err != nil {
		return nil, err
	}
	a, ok := tables.Accounts.Get(tx, s.AccountID)
	if !ok {
		return nil, cloud.Errorf(cloud.Invalid, "Unable to find account %s", s.AccountID)
	}
	u := &cloud.User{
		ID: orNew(tx, s.ID), AccountID: a.ID, DomainID: a.DomainID, Username: s.Username, PasswordHash: s.PasswordHash,
		FirstName: s.FirstName, LastName: s.LastName, Email: s.Email, Timezone: s.Timezone, Created: tx.Now(),
		Directory: s.Directory,
	}
	err := tables.Users.Put(tx, u)
	var taken *store.Conflict
	if errors.As(err, &taken) {
		return nil, cloud.Errorf(cloud.Invalid, "The user %s already exists in domain %s", s.Username, a.DomainID)
	}
	if err != nil {
		return nil, fmt.Errorf("create user %s: %w", s.Username, err)
	}
	return u, nil
}
