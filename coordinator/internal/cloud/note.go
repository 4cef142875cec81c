package cloud

import "time"

// Annotation is a remark that a user leaves at something.
type Annotation struct {
	ID         ID        `row:"1"`
	EntityType string    `row:"2"` // as the API names it: "VM"
	EntityID   ID        `row:"3"`
	Text       string    `row:"4"`
	UserID     ID        `row:"5"` // who left it
	Username   string    `row:"6"` // kept, since users go
	AccountID  ID        `row:"7"` // of that user
	DomainID   ID        `row:"8"`
	AdminsOnly bool      `row:"9"` // only root admins see it
	Created    time.Time `row:"10"`
	Unknown    Unknown
}

// ResourceDetail is a pair of texts that root admins keep at a resource for programs.
type ResourceDetail struct {
	ID           ID     `row:"1"`
	ResourceType string `row:"2"` // as the API names it: "UserVm"
	ResourceID   ID     `row:"3"`
	Key          string `row:"4"`
	Value        string `row:"5"`
	// Hidden details are shown to root admins alone.
	Hidden  bool `row:"6"`
	Unknown Unknown
}
