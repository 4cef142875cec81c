package tables

import (
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// InstanceGroups keeps cloud.InstanceGroup rows.
var InstanceGroups = store.Define(store.Def[cloud.InstanceGroup]{
	Name:    "instance_group",
	ID:      func(r *cloud.InstanceGroup) cloud.ID { return r.ID },
	Deleted: DropAttached,
	Indexes: []store.Index[cloud.InstanceGroup]{
		{Name: "account", Unique: true, Key: func(r *cloud.InstanceGroup) store.Key { return store.K(r.AccountID, r.Name) }},
	},
})

// AffinityGroups keeps cloud.AffinityGroup rows. The owner in the index is the account, or the domain of a group without one.
var AffinityGroups = store.Define(store.Def[cloud.AffinityGroup]{
	Name: "affinity_group",
	ID:   func(r *cloud.AffinityGroup) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.AffinityGroup]{
		{Name: "account", Unique: true, Key: func(r *cloud.AffinityGroup) store.Key {
			if r.AccountID.IsZero() {
				return store.K(r.DomainID, r.Name)
			}
			return store.K(r.AccountID, r.Name)
		}},
	},
})

// AffinityMembers keeps cloud.AffinityMember rows.
var AffinityMembers = store.Define(store.Def[cloud.AffinityMember]{
	Name: "affinity_member",
	ID:   func(r *cloud.AffinityMember) cloud.ID { return r.ID },
	Indexes: []store.Index[cloud.AffinityMember]{
		{Name: "group", Unique: true, Key: func(r *cloud.AffinityMember) store.Key { return store.K(r.GroupID, r.VMID) }},
		{Name: "vm", Key: func(r *cloud.AffinityMember) store.Key { return store.K(r.VMID) }},
	},
})

// UserDatas keeps cloud.UserData rows.
var UserDatas = store.Define(store.Def[cloud.UserData]{
	Name:    "user_data",
	ID:      func(r *cloud.UserData) cloud.ID { return r.ID },
	Deleted: DropAttached,
	Indexes: []store.Index[cloud.UserData]{
		{Name: "account", Unique: true, Key: func(r *cloud.UserData) store.Key { return store.K(r.AccountID, r.Name) }},
	},
})
