package tables

import (
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// Domains keeps cloud.Domain rows.
var Domains = store.Define(store.Def[cloud.Domain]{
	Name:    "domain",
	ID:      func(r *cloud.Domain) cloud.ID { return r.ID },
	Deleted: DropAttached,
	Indexes: []store.Index[cloud.Domain]{
		{Name: "parent", Key: func(r *cloud.Domain) store.Key { return store.K(r.ParentID, r.Name) }},
		{Name: "path", Unique: true, Key: func(r *cloud.Domain) store.Key { return store.K(strings.ToLower(r.Path)) }},
	},
})

// Accounts keeps cloud.Account rows.
var Accounts = store.Define(store.Def[cloud.Account]{
	Name: "account",
	ID:   func(r *cloud.Account) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.Account]{
		{Name: "name", Unique: true, Key: func(r *cloud.Account) store.Key { return store.K(r.DomainID, strings.ToLower(r.Name)) }},
		{Name: "number", Unique: true, Key: func(r *cloud.Account) store.Key { return store.K(r.Number) }},
		{Name: "role", Key: func(r *cloud.Account) store.Key {
			if r.RoleID.IsZero() {
				return nil
			}
			return store.K(r.RoleID)
		}},
		{Name: "removing", Key: func(r *cloud.Account) store.Key {
			if !r.Removing {
				return nil
			}
			return store.K(r.ID)
		}},
	},
})

// Users keeps cloud.User rows.
var Users = store.Define(store.Def[cloud.User]{
	Name: "user",
	ID:   func(r *cloud.User) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.User]{
		{Name: "account", Key: func(r *cloud.User) store.Key { return store.K(r.AccountID, strings.ToLower(r.Username)) }},
		{Name: "username", Unique: true, Key: func(r *cloud.User) store.Key { return store.K(r.DomainID, strings.ToLower(r.Username)) }},
		{Name: "apikey", Unique: true, Key: func(r *cloud.User) store.Key {
			if r.APIKey == "" {
				return nil
			}
			return store.K(r.APIKey)
		}},
	},
})

// Sessions keeps cloud.Session rows.
var Sessions = store.Define(store.Def[cloud.Session]{
	Name: "session",
	ID:   func(r *cloud.Session) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.Session]{
		{Name: "user", Key: func(r *cloud.Session) store.Key { return store.K(r.UserID) }},
	},
})

// Settings keeps cloud.Setting rows.
var Settings = store.Define(store.Def[cloud.Setting]{
	Name: "setting",
	ID:   func(r *cloud.Setting) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.Setting]{
		{Name: "name", Unique: true, Key: func(r *cloud.Setting) store.Key { return store.K(r.Name, r.ScopeID) }},
		{Name: "scope", Key: func(r *cloud.Setting) store.Key {
			if r.ScopeID.IsZero() {
				return nil
			}
			return store.K(r.ScopeID)
		}},
	},
})

// ResourceCounts keeps cloud.ResourceCount rows.
var ResourceCounts = store.Define(store.Def[cloud.ResourceCount]{
	Name: "resource_count",
	ID:   func(r *cloud.ResourceCount) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.ResourceCount]{
		{Name: "account", Unique: true, Key: func(r *cloud.ResourceCount) store.Key { return store.K(r.AccountID, r.Type) }},
	},
})

// ResourceLimits keeps cloud.ResourceLimit rows.
var ResourceLimits = store.Define(store.Def[cloud.ResourceLimit]{
	Name: "resource_limit",
	ID:   func(r *cloud.ResourceLimit) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.ResourceLimit]{
		{Name: "account", Unique: true, Key: func(r *cloud.ResourceLimit) store.Key {
			if r.AccountID.IsZero() {
				return nil
			}
			return store.K(r.AccountID, r.Type)
		}},
		{Name: "domain", Unique: true, Key: func(r *cloud.ResourceLimit) store.Key {
			if r.DomainID.IsZero() {
				return nil
			}
			return store.K(r.DomainID, r.Type)
		}},
	},
})

// Sequences keeps cloud.Sequence rows.
var Sequences = store.Define(store.Def[cloud.Sequence]{
	Name: "sequence",
	ID:   func(r *cloud.Sequence) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.Sequence]{
		{Name: "name", Unique: true, Key: func(r *cloud.Sequence) store.Key { return store.K(r.Name) }},
	},
})

// SSHKeyPairs keeps cloud.SSHKeyPair rows.
var SSHKeyPairs = store.Define(store.Def[cloud.SSHKeyPair]{
	Name:    "ssh_key_pair",
	ID:      func(r *cloud.SSHKeyPair) cloud.ID { return r.ID },
	Deleted: DropAttached,
	Indexes: []store.Index[cloud.SSHKeyPair]{
		{Name: "account", Unique: true, Key: func(r *cloud.SSHKeyPair) store.Key { return store.K(r.AccountID, r.Name) }},
	},
})
