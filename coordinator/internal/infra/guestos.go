package infra

import (
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// AddOSType adds a guest operating system to those that every cloud knows.
func AddOSType(tx *store.Tx, category cloud.ID, name string) (*cloud.OSType, error) {
	if _, there := tables.OSTypes.First(tx, "description", store.K(name)); there {
		return nil, cloud.Errorf(cloud.Invalid, "The guest OS %s is already in the list", name)
	}
	t := &cloud.OSType{ID: tx.NewID(), CategoryID: category, Description: name, UserDefined: true}
	return t, wrap("add", "OS type", t.ID, tables.OSTypes.Put(tx, t))
}

// added reads a guest operating system that an administrator added: the others are the same in every cloud.
func added(r store.Reader, id cloud.ID) (*cloud.OSType, error) {
	t, ok := tables.OSTypes.Get(r, id)
	if !ok {
		return nil, &store.NotFound{Table: "os_type", ID: id}
	}
	if !t.UserDefined {
		return nil, cloud.Errorf(cloud.Invalid, "Unable to modify system defined guest OS %s", t.Description)
	}
	return t, nil
}

// UpdateOSType renames a guest operating system that was added; a zero category keeps its own.
func UpdateOSType(tx *store.Tx, id, category cloud.ID, name string) (*cloud.OSType, error) {
	t, err := added(tx, id)
	if err != nil {
		return nil, err
	}
	if o, there := tables.OSTypes.First(tx, "description", store.K(name)); there && o.ID != id {
		return nil, cloud.Errorf(cloud.Invalid, "The guest OS %s is already in the list", name)
	}
	t.Description = name
	if !category.IsZero() {
		t.CategoryID = category
	}
	return t, wrap("update", "OS type", id, tables.OSTypes.Put(tx, t))
}

// RemoveOSType removes one that was added and that no template has.
func RemoveOSType(tx *store.Tx, id cloud.ID) error {
	t, err := added(tx, id)
	if err != nil {
		return err
	}
	for x := range tables.Templates.All(tx) {
		if x.OSTypeID == id && x.Removed.IsZero() {
			return cloud.Errorf(cloud.InUse, "Guest OS %s cannot be removed: template %s has it", t.Description, x.Name)
		}
	}
	return wrap("remove", "OS type", id, tables.OSTypes.Delete(tx, id))
}
