package identity

import (
	"fmt"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Unlimited is the limit that is none.
const Unlimited = -1

// ResourceKind describes what is counted.
type ResourceKind struct {
	Type  cloud.ResourceType
	Name  string        // as sentences and resourcetypename say it
	Limit *settings.Def // of an account without a limit of its own
}

func limit(name string, value, what string) *settings.Def {
	return settings.Define(settings.Def{
		Name: name, Category: "Account Defaults", Type: settings.Integer, Default: value, Min: -1, Max: 1 << 40,
		Doc: "Most " + what + " that an account may have which has no limit of its own; -1 is no limit.",
	})
}

// Kinds lists everything that is counted, by its number.
var Kinds = []ResourceKind{
	{Type: cloud.ResourceVM, Name: "user_vm", Limit: limit("max.account.user.vms", "20", "virtual machines")},
	{Type: cloud.ResourcePublicIP, Name: "public_ip", Limit: limit("max.account.public.ips", "20", "public addresses")},
	{Type: cloud.ResourceVolume, Name: "volume", Limit: limit("max.account.volumes", "20", "volumes")},
	{Type: cloud.ResourceSnapshot, Name: "snapshot", Limit: limit("max.account.snapshots", "20", "snapshots")},
	{Type: cloud.ResourceTemplate, Name: "template", Limit: limit("max.account.templates", "20", "templates and ISOs")},
	{Type: cloud.ResourceProject, Name: "project"},
	{Type: cloud.ResourceNetwork, Name: "network", Limit: limit("max.account.networks", "20", "guest networks")},
	{Type: cloud.ResourceVPC, Name: "vpc"},
	{Type: cloud.ResourceCPU, Name: "cpu", Limit: limit("max.account.cpus", "40", "virtual processors")},
	{Type: cloud.ResourceMemory, Name: "memory", Limit: limit("max.account.memory", "40960", "MiB of memory")},
	{Type: cloud.ResourcePrimaryStorage, Name: "primary_storage", Limit: limit("max.account.primary.storage", "200", "GiB of primary storage")},
	{Type: cloud.ResourceSecondaryStorage, Name: "secondary_storage", Limit: limit("max.account.secondary.storage", "400", "GiB of secondary storage")},
}

// Settings lists the settings of this package.
func Settings() []*settings.Def {
	var all []*settings.Def
	for _, k := range Kinds {
		if k.Limit != nil {
			all = append(all, k.Limit)
		}
	}
	return all
}

// Limit is how much of a resource an account may have, its domains aside. Root admins' accounts have no limit unless
// one was set for them.
func Limit(r store.Reader, a *cloud.Account, t cloud.ResourceType) int64 {
	if l, ok := tables.ResourceLimits.First(r, "account", store.K(a.ID, t)); ok {
		return l.Max
	}
	if a.Type == cloud.RootAdminAccount || Kinds[t].Limit == nil {
		return Unlimited
	}
	return Kinds[t].Limit.Int(r)
}

// DomainLimit is the limit set on a domain, or Unlimited.
func DomainLimit(r store.Reader, domain cloud.ID, t cloud.ResourceType) int64 {
	if l, ok := tables.ResourceLimits.First(r, "domain", store.K(domain, t)); ok {
		return l.Max
	}
	return Unlimited
}

func countID(owner cloud.ID, t cloud.ResourceType) cloud.ID {
	return cloud.NameID("resource_count", fmt.Sprintf("%s/%d", owner, t))
}

// Counted is how much of a resource an account, or a domain with all below it, has.
func Counted(r store.Reader, owner cloud.ID, t cloud.ResourceType) int64 {
	if c, ok := tables.ResourceCounts.Get(r, countID(owner, t)); ok {
		return c.Count
	}
	return 0
}

// Count adds delta to what an account has, and to what its domains have, all in the caller's transaction. Growing
// beyond a limit of the account or of a domain above it is refused (LimitExceeded); shrinking always succeeds.
func Count(tx *store.Tx, account cloud.ID, t cloud.ResourceType, delta int64) error {
	if int(t) >= len(Kinds) {
		return fmt.Errorf("count resource type %d: there is none", t)
	}
	a, ok := tables.Accounts.Get(tx, account)
	if !ok {
		return fmt.Errorf("count %s of account %s: there is none", Kinds[t].Name, account)
	}
	if max := Limit(tx, a, t); delta > 0 && max != Unlimited && Counted(tx, a.ID, t)+delta > max {
		return cloud.Errorf(cloud.LimitExceeded, "Maximum number of resources of type '%s' for account name=%s in domain id=%s has been exceeded.", Kinds[t].Name, a.Name, a.DomainID)
	}
	if err := add(tx, a.ID, t, delta); err != nil {
		return err
	}
	for id := a.DomainID; !id.IsZero(); {
		d, ok := tables.Domains.Get(tx, id)
		if !ok {
			break
		}
		max := DomainLimit(tx, d.ID, t)
		if delta > 0 && a.Type != cloud.RootAdminAccount && max != Unlimited && Counted(tx, d.ID, t)+delta > max {
			return cloud.Errorf(cloud.LimitExceeded, "Maximum number of resources of type '%s' for domain id=%s has been exceeded.", Kinds[t].Name, d.ID)
		}
		if err := add(tx, d.ID, t, delta); err != nil {
			return err
		}
		id = d.ParentID
	}
	return nil
}

// add changes one counter. A domain's counter stands in the same table under the domain's ID.
func add(tx *store.Tx, owner cloud.ID, t cloud.ResourceType, delta int64) error {
	c := &cloud.ResourceCount{ID: countID(owner, t), AccountID: owner, Type: t, Count: Counted(tx, owner, t) + delta}
	if c.Count < 0 {
		return fmt.Errorf("count %s of %s: it would become %d", Kinds[t].Name, owner, c.Count)
	}
	if err := tables.ResourceCounts.Put(tx, c); err != nil {
		return fmt.Errorf("count %s of %s: %w", Kinds[t].Name, owner, err)
	}
	return nil
}
