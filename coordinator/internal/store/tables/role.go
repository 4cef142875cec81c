package tables

import (
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// Roles keeps cloud.Role rows.
var Roles = store.Define(store.Def[cloud.Role]{
	Name: "role",
	ID:   func(r *cloud.Role) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.Role]{
		{Name: "name", Unique: true, Key: func(r *cloud.Role) store.Key { return store.K(strings.ToLower(r.Name)) }},
	},
})

// RolePermissions keeps cloud.RolePermission rows.
var RolePermissions = store.Define(store.Def[cloud.RolePermission]{
	Name: "role_permission",
	ID:   func(r *cloud.RolePermission) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.RolePermission]{
		{Name: "role", Key: func(r *cloud.RolePermission) store.Key { return store.K(r.RoleID, r.Position) }},
		{Name: "rule", Unique: true, Key: func(r *cloud.RolePermission) store.Key { return store.K(r.RoleID, strings.ToLower(r.Rule)) }},
	},
})

// LDAPServers keeps cloud.LDAPServer rows.
var LDAPServers = store.Define(store.Def[cloud.LDAPServer]{
	Name: "ldap_server",
	ID:   func(r *cloud.LDAPServer) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.LDAPServer]{
		{Name: "address", Unique: true, Key: func(r *cloud.LDAPServer) store.Key {
			return store.K(strings.ToLower(r.Hostname), r.Port, r.DomainID)
		}},
		{Name: "domain", Key: func(r *cloud.LDAPServer) store.Key { return store.K(r.DomainID) }},
	},
})

// LDAPLinks keeps cloud.LDAPLink rows. A domain has at most one of its own and one for each account, and a group or
// organizational unit leads to one place.
var LDAPLinks = store.Define(store.Def[cloud.LDAPLink]{
	Name: "ldap_link",
	ID:   func(r *cloud.LDAPLink) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.LDAPLink]{
		{Name: "owner", Unique: true, Key: func(r *cloud.LDAPLink) store.Key { return store.K(r.DomainID, r.AccountID) }},
		{Name: "account", Key: func(r *cloud.LDAPLink) store.Key { return store.K(r.AccountID) }},
		{Name: "name", Unique: true, Key: func(r *cloud.LDAPLink) store.Key { return store.K(r.DomainID, strings.ToLower(r.DN)) }},
	},
})
