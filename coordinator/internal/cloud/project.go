package cloud

import "time"

// ProjectState is the state of a project as the API shows it.
type ProjectState uint8

// Project states. A Disabled project is being removed.
const (
	ProjectActive ProjectState = iota
	ProjectSuspended
	ProjectDisabled
)

func (s ProjectState) String() string { return [...]string{"Active", "Suspended", "Disabled"}[s] }

// Project is what accounts work on together. Its resources belong to an account of its own, of type ProjectAccount,
// which has no user.
type Project struct {
	ID          ID           `row:"1"`
	Name        string       `row:"2"`
	DisplayText string       `row:"3"`
	DomainID    ID           `row:"4"`
	AccountID   ID           `row:"5"` // the project's own account
	State       ProjectState `row:"6"`
	Created     time.Time    `row:"7"`
	Unknown     Unknown
}

// ProjectRole is what a member may do with its project.
type ProjectRole uint8

// Project roles. Admins change the project and its members.
const (
	ProjectRegular ProjectRole = iota
	ProjectAdmin
)

func (r ProjectRole) String() string { return [...]string{"Regular", "Admin"}[r] }

// ProjectMember is an account that works on a project, or one user of it only.
type ProjectMember struct {
	ID        ID          `row:"1"`
	ProjectID ID          `row:"2"`
	AccountID ID          `row:"3"`
	UserID    ID          `row:"4"` // zero: every user of the account
	Role      ProjectRole `row:"5"`
	// OwnerID is the project's own account, so that access to a row is one look.
	OwnerID ID        `row:"6"`
	Created time.Time `row:"7"`
	// CustomRoleID is a CustomProjectRole that takes commands from a Regular member; zero: none.
	CustomRoleID ID `row:"8"`
	Unknown      Unknown
}

// CustomProjectRole is a role of a project's own: its rules, rows of RolePermission, deny commands to members that have
// it, on what belongs to the project.
type CustomProjectRole struct {
	ID          ID        `row:"1"`
	ProjectID   ID        `row:"2"`
	Name        string    `row:"3"`
	Description string    `row:"4"`
	Created     time.Time `row:"5"`
	Unknown     Unknown
}

// InvitationState is the state of an invitation as the API shows it. A Pending one that was not taken up in time is
// shown as Expired.
type InvitationState uint8

// Invitation states.
const (
	InvitationPending InvitationState = iota
	InvitationCompleted
	InvitationExpired
	InvitationDeclined
)

func (s InvitationState) String() string {
	return [...]string{"Pending", "Completed", "Expired", "Declined"}[s]
}

// ProjectInvitation asks an account, or whoever gets a mail, to join a project.
type ProjectInvitation struct {
	ID        ID          `row:"1"`
	ProjectID ID          `row:"2"`
	DomainID  ID          `row:"3"` // the project's
	AccountID ID          `row:"4"` // who is invited, or
	Email     string      `row:"5"`
	UserID    ID          `row:"6"` // one user of AccountID only
	Role      ProjectRole `row:"7"`
	// Token is the SHA-256 of what the mail holds; the token itself is kept nowhere.
	Token   string          `row:"8"`
	State   InvitationState `row:"9"`
	Created time.Time       `row:"10"`
	Expires time.Time       `row:"11"`
	// Mail is the token, sealed, until the mail with it was sent.
	Mail Sealed `row:"12"`
	// CustomRoleID is the role of the project's own that whoever takes the invitation up gets; zero: none.
	CustomRoleID ID `row:"13"`
	Unknown      Unknown
}

// Tag is a pair of texts at a resource. It goes with its resource.
type Tag struct {
	ID           ID        `row:"1"`
	ResourceType string    `row:"2"` // as the API names it: "UserVm"
	ResourceID   ID        `row:"3"`
	Key          string    `row:"4"`
	Value        string    `row:"5"`
	Customer     string    `row:"6"`
	AccountID    ID        `row:"7"` // the resource's owner; zero for infrastructure
	DomainID     ID        `row:"8"`
	Created      time.Time `row:"9"`
	Unknown      Unknown
}
