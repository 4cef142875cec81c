package cloud

import "time"

// AccountType is the role of an account (CloudStack 4.1: 0 user, 1 root admin, 2 domain admin).
type AccountType uint8

// Account types, with the numbers that clients see.
const (
	UserAccount                AccountType = 0
	RootAdminAccount           AccountType = 1
	DomainAdminAccount         AccountType = 2
	ResourceDomainAdminAccount AccountType = 3
	ProjectAccount             AccountType = 5
)

// Lifecycle is the state of an account, user or domain.
type Lifecycle uint8

// States of accounts, users and domains.
const (
	Enabled Lifecycle = iota
	Disabled
	Locked
	Inactive // a domain being removed
)

func (s Lifecycle) String() string {
	return [...]string{"enabled", "disabled", "locked", "inactive"}[s]
}

// Domain is a node of the tree of domains. ROOT has no parent.
type Domain struct {
	ID       ID        `row:"1"`
	Name     string    `row:"2"`
	ParentID ID        `row:"3"`
	Path     string    `row:"4"` // "ROOT/a/b"
	Level    uint32    `row:"5"` // ROOT is 0
	State    Lifecycle `row:"6"`
	Network  string    `row:"7"` // DNS domain of its guest networks
	Created  time.Time `row:"8"`
	Unknown  Unknown
}

// Account owns resources.
type Account struct {
	ID            ID          `row:"1"`
	Name          string      `row:"2"`
	Type          AccountType `row:"3"`
	DomainID      ID          `row:"4"`
	State         Lifecycle   `row:"5"`
	NetworkDomain string      `row:"6"`
	DefaultZoneID ID          `row:"7"`
	Created       time.Time   `row:"8"`
	// Number is small and unique: the second number of instance names ("i-2-15-VM").
	Number uint64 `row:"9"`
	System bool   `row:"10"` // owns routers and system VMs; nobody logs in to it
	// RoleID is the account's role; zero is the one that comes with its type.
	RoleID  ID                `row:"11"`
	Details map[string]string `row:"12"`
	// Removing is true from the call that removes the account until its row goes, after all that it owns.
	Removing bool `row:"13"`
	// InviteMails is how many invitations by mail the account asked for in the day from InviteMailsSince.
	InviteMails      uint64    `row:"14"`
	InviteMailsSince time.Time `row:"15"`
	Unknown          Unknown
}

// User logs in and acts for its account.
type User struct {
	ID           ID        `row:"1"`
	AccountID    ID        `row:"2"`
	DomainID     ID        `row:"3"`
	Username     string    `row:"4"`
	PasswordHash string    `row:"5"` // argon2id or bcrypt, PHC string
	FirstName    string    `row:"6"`
	LastName     string    `row:"7"`
	Email        string    `row:"8"`
	Timezone     string    `row:"9"`
	State        Lifecycle `row:"10"`
	APIKey       string    `row:"11"`
	SecretKey    Sealed    `row:"12"`
	Created      time.Time `row:"13"`
	// Directory tells that the password is the directory's (LDAP); none is kept here.
	Directory bool `row:"14"`
	Unknown   Unknown
}

// Session is a login. Its ID is derived from the SHA-256 of the session key, which is not stored.
type Session struct {
	ID       ID        `row:"1"`
	UserID   ID        `row:"2"`
	Created  time.Time `row:"3"`
	LastUsed time.Time `row:"4"` // written at most once a minute
	Timeout  uint32    `row:"5"` // seconds of idleness
	Unknown  Unknown
}

// Setting is a global setting whose value differs from its default.
type Setting struct {
	ID      ID     `row:"1"` // of Name and ScopeID
	Name    string `row:"2"`
	Value   string `row:"3"`
	Sealed  Sealed `row:"4"` // instead of Value where the setting is a secret
	ScopeID ID     `row:"5"` // the zone, cluster, pool, account, ... it holds for; zero: everywhere
	Unknown Unknown
}

// ResourceType numbers what limits and counts speak of, as in the API.
type ResourceType uint8

// Resource types, with the numbers that clients see.
const (
	ResourceVM ResourceType = iota
	ResourcePublicIP
	ResourceVolume
	ResourceSnapshot
	ResourceTemplate
	ResourceProject
	ResourceNetwork
	ResourceVPC
	ResourceCPU
	ResourceMemory           // MiB
	ResourcePrimaryStorage   // GiB
	ResourceSecondaryStorage // GiB
)

// ResourceCount is how much of a resource an account has; maintained in the transaction that creates or removes it.
type ResourceCount struct {
	ID        ID           `row:"1"`
	AccountID ID           `row:"2"`
	Type      ResourceType `row:"3"`
	Count     int64        `row:"4"`
	Unknown   Unknown
}

// ResourceLimit is a limit set on an account or domain; absent means the global setting.
type ResourceLimit struct {
	ID        ID           `row:"1"`
	AccountID ID           `row:"2"` // or
	DomainID  ID           `row:"3"`
	Type      ResourceType `row:"4"`
	Max       int64        `row:"5"` // -1 is unlimited
	Unknown   Unknown
}

// Sequence hands out small numbers (instance numbers, account numbers).
type Sequence struct {
	ID      ID     `row:"1"` // NameID("sequence", Name)
	Name    string `row:"2"`
	Last    uint64 `row:"3"`
	Unknown Unknown
}

// SSHKeyPair is a public key that VMs of its account can be deployed with. The private key is never stored.
type SSHKeyPair struct {
	ID          ID        `row:"1"`
	AccountID   ID        `row:"2"`
	DomainID    ID        `row:"3"`
	Name        string    `row:"4"`
	PublicKey   string    `row:"5"` // authorized_keys form
	Fingerprint string    `row:"6"` // MD5, colon-separated, as clients show it
	Created     time.Time `row:"7"`
	Unknown     Unknown
}
