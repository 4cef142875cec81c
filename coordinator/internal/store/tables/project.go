package tables

import (
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// Projects keeps cloud.Project rows.
var Projects = store.Define(store.Def[cloud.Project]{
	Name:    "project",
	ID:      func(r *cloud.Project) cloud.ID { return r.ID },
	Deleted: DropAttached,
	Indexes: []store.Index[cloud.Project]{
		{Name: "name", Unique: true, Key: func(r *cloud.Project) store.Key { return store.K(r.DomainID, strings.ToLower(r.Name)) }},
		{Name: "account", Unique: true, Key: func(r *cloud.Project) store.Key { return store.K(r.AccountID) }},
	},
})

// ProjectMembers keeps cloud.ProjectMember rows.
var ProjectMembers = store.Define(store.Def[cloud.ProjectMember]{
	Name: "project_member",
	ID:   func(r *cloud.ProjectMember) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.ProjectMember]{
		{Name: "project", Unique: true, Key: func(r *cloud.ProjectMember) store.Key { return store.K(r.ProjectID, r.AccountID, r.UserID) }},
		{Name: "account", Key: func(r *cloud.ProjectMember) store.Key { return store.K(r.AccountID, r.OwnerID) }},
	},
})

// CustomProjectRoles keeps cloud.CustomProjectRole rows.
var CustomProjectRoles = store.Define(store.Def[cloud.CustomProjectRole]{
	Name: "custom_project_role",
	ID:   func(r *cloud.CustomProjectRole) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.CustomProjectRole]{
		{Name: "name", Unique: true, Key: func(r *cloud.CustomProjectRole) store.Key { return store.K(r.ProjectID, strings.ToLower(r.Name)) }},
	},
})

// ProjectInvitations keeps cloud.ProjectInvitation rows.
var ProjectInvitations = store.Define(store.Def[cloud.ProjectInvitation]{
	Name: "project_invitation",
	ID:   func(r *cloud.ProjectInvitation) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.ProjectInvitation]{
		{Name: "project", Key: func(r *cloud.ProjectInvitation) store.Key { return store.K(r.ProjectID, r.AccountID) }},
		{Name: "account", Key: func(r *cloud.ProjectInvitation) store.Key {
			if r.AccountID.IsZero() {
				return nil
			}
			return store.K(r.AccountID)
		}},
		{Name: "unmailed", Key: func(r *cloud.ProjectInvitation) store.Key {
			if len(r.Mail) == 0 {
				return nil
			}
			return store.K(r.Created)
		}},
		{Name: "token", Unique: true, Key: func(r *cloud.ProjectInvitation) store.Key {
			if r.Token == "" {
				return nil
			}
			return store.K(r.Token)
		}},
	},
})

// Tags keeps cloud.Tag rows.
var Tags = store.Define(store.Def[cloud.Tag]{
	Name: "tag",
	ID:   func(r *cloud.Tag) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.Tag]{
		{Name: "resource", Unique: true, Key: func(r *cloud.Tag) store.Key { return store.K(r.ResourceID, r.Key) }},
		{Name: "account", Key: func(r *cloud.Tag) store.Key { return store.K(r.AccountID) }},
	},
})

// DropAttached removes the tags, remarks and details of a resource. Tables of what can have them name it as Deleted; whoever
// gives a row up without deleting it (a public address, a template that VMs still need) calls it.
func DropAttached(tx *store.Tx, resource cloud.ID) error {
	for id := range Annotations.IDs(tx, "entity", store.K(resource)) {
		if err := Annotations.Delete(tx, id); err != nil {
			return err
		}
	}
	for id := range ResourceDetails.IDs(tx, "resource", store.K(resource)) {
		if err := ResourceDetails.Delete(tx, id); err != nil {
			return err
		}
	}
	for id := range Tags.IDs(tx, "resource", store.K(resource)) {
		if err := Tags.Delete(tx, id); err != nil {
			return err
		}
	}
	return nil
}

// MoveAttached gives the tags and details of a resource to the one that it is from now on, under another ID.
func MoveAttached(tx *store.Tx, from, to cloud.ID) error {
	for t := range Tags.By(tx, "resource", store.K(from)) {
		t.ResourceID = to
		if err := Tags.Put(tx, t); err != nil {
			return err
		}
	}
	for d := range ResourceDetails.By(tx, "resource", store.K(from)) {
		d.ResourceID = to
		if err := ResourceDetails.Put(tx, d); err != nil {
			return err
		}
	}
	return nil
}
