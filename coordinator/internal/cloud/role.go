package cloud

import "time"

// Role says which commands the accounts that have it may call, within those that its type may. The roles that every
// cloud has are no rows: see package identity.
type Role struct {
	ID          ID          `row:"1"`
	Name        string      `row:"2"`
	Description string      `row:"3"`
	Type        AccountType `row:"4"`
	State       Lifecycle   `row:"5"` // Enabled or Disabled: a disabled role allows nothing
	Private     bool        `row:"6"` // shown to root admins only
	Created     time.Time   `row:"7"`
	Unknown     Unknown
}

// RolePermission is one rule of a role. Of a role's rules the first that fits a command's name decides.
type RolePermission struct {
	ID          ID     `row:"1"`
	RoleID      ID     `row:"2"`
	Position    uint32 `row:"3"` // ascending; not dense
	Rule        string `row:"4"` // a command's name; * stands for any letters
	Allow       bool   `row:"5"`
	Description string `row:"6"`
	Unknown     Unknown
}

// LDAPServer is a directory that knows users' passwords.
type LDAPServer struct {
	ID       ID     `row:"1"`
	Hostname string `row:"2"`
	Port     uint16 `row:"3"`
	DomainID ID     `row:"4"` // whose users it knows, with those of the domains below; zero: everybody's
	// What ldapConfig says for its server alone; empty: the ldap.* settings.
	SearchBase   string    `row:"5"`
	QueryFilter  string    `row:"6"` // %u is the user's name, %e its mail address, %n its full name
	BindDN       string    `row:"7"`
	BindPassword Sealed    `row:"8"`
	TLS          bool      `row:"9"`
	Authorities  string    `row:"10"` // PEM; whom to believe about its certificate instead of the machine's list
	Single       bool      `row:"11"` // made by ldapConfig, which replaces it
	Created      time.Time `row:"12"`
	StartTLS     bool      `row:"13"` // TLS begins on a plain connection; only with TLS, so that who knows no StartTLS sends nothing in plain text
	Unknown      Unknown
}

// LDAPLink lets users of a group or an organizational unit of a domain's directories log in to the domain: who is not
// known yet is made a user at the first login. In a domain with links directories let in nobody else.
type LDAPLink struct {
	ID        ID     `row:"1"`
	DomainID  ID     `row:"2"`
	AccountID ID     `row:"3"` // whose users they become; zero: each of an account of its own
	Group     bool   `row:"4"` // DN is a group's, and not an organizational unit's
	DN        string `row:"5"`
	// AccountType is that of the accounts that are made; where AccountID says which, it has one already.
	AccountType AccountType `row:"6"`
	Created     time.Time   `row:"7"`
	Unknown     Unknown
}
