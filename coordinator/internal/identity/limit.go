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
	Type cloud.ResourceType
	Name string // as sentences and resourcetypename say it
	// Account, Project and Domain are the limits of those that have none of their own; nil is no limit.
	Account, Project, Domain *settings.Def
}

// defaults defines the settings of a kind: max.account.<name> and so on. An empty value makes no setting.
func defaults(t cloud.ResourceType, kind, name, what, account, project, domain string) ResourceKind {
	def := func(level, category, value, whose string) *settings.Def {
		if value == "" {
			return nil
		}
		return settings.Define(settings.Def{
			Name: "max." + level + "." + name, Category: category, Type: settings.Integer, Default: value, Min: -1, Max: 1 << 40,
			Doc: "Most " + what + " that " + whose + " may have which has no limit of its own; -1 is no limit.",
		})
	}
	return ResourceKind{
		Type: t, Name: kind,
		Account: def("account", "Account Defaults", account, "an account"),
		Project: def("project", "Project Defaults", project, "a project"),
		Domain:  def("domain", "Domain Defaults", domain, "a domain with all below it (ROOT aside)"),
	}
}

// Kinds lists everything that is counted, by its number.
var Kinds = []ResourceKind{
	defaults(cloud.ResourceVM, "user_vm", "user.vms", "virtual machines", "20", "20", "40"),
	defaults(cloud.ResourcePublicIP, "public_ip", "public.ips", "public addresses", "20", "20", "40"),
	defaults(cloud.ResourceVolume, "volume", "volumes", "volumes", "20", "20", "40"),
	defaults(cloud.ResourceSnapshot, "snapshot", "snapshots", "snapshots", "20", "20", "40"),
	defaults(cloud.ResourceTemplate, "template", "templates", "templates and ISOs", "20", "20", "40"),
	defaults(cloud.ResourceProject, "project", "projects", "projects", "10", "", "50"),
	defaults(cloud.ResourceNetwork, "network", "networks", "guest networks", "20", "20", "40"),
	defaults(cloud.ResourceVPC, "vpc", "vpcs", "VPCs", "20", "20", "40"),
	defaults(cloud.ResourceCPU, "cpu", "cpus", "virtual processors", "40", "40", "80"),
	defaults(cloud.ResourceMemory, "memory", "memory", "MiB of memory", "40960", "40960", "81920"),
	defaults(cloud.ResourcePrimaryStorage, "primary_storage", "primary.storage", "GiB of primary storage", "200", "200", "400"),
	defaults(cloud.ResourceSecondaryStorage, "secondary_storage", "secondary.storage", "GiB of secondary storage", "400", "400", "800"),
}

// Settings lists the settings of this package.
func Settings() []*settings.Def {
	all := []*settings.Def{cleanupInterval, minLength, minUpper, minLower, minDigits, minSpecial, withUsername}
	for _, k := range Kinds {
		for _, d := range []*settings.Def{k.Account, k.Project, k.Domain} {
			if d != nil {
				all = append(all, d)
			}
		}
	}
	return all
}

// Limit is how much of a resource an account may have, its domains aside. Root admins' accounts have no limit.
func Limit(r store.Reader, a *cloud.Account, t cloud.ResourceType) int64 {
	if a.Type == cloud.RootAdminAccount {
		return Unlimited
	}
	if l, ok := tables.ResourceLimits.First(r, "account", store.K(a.ID, t)); ok {
		return l.Max
	}
	def := Kinds[t].Account
	if a.Type == cloud.ProjectAccount {
		def = Kinds[t].Project
	}
	return valueOf(r, def)
}

func valueOf(r store.Reader, d *settings.Def) int64 {
	if d == nil {
		return Unlimited
	}
	return max(d.Int(r), Unlimited)
}

// DomainLimit is how much of a resource a domain with all below it may have: the limit set on it, else that of the
// nearest domain above that has one, else the setting. ROOT has no limit.
func DomainLimit(r store.Reader, domain cloud.ID, t cloud.ResourceType) int64 {
	for id, depth := domain, 0; depth < maxDepth; depth++ {
		d, ok := tables.Domains.Get(r, id)
		if !ok || d.ParentID.IsZero() {
			if id == domain {
				return Unlimited
			}
			break
		}
		if l, ok := tables.ResourceLimits.First(r, "domain", store.K(id, t)); ok {
			return l.Max
		}
		id = d.ParentID
	}
	return valueOf(r, Kinds[t].Domain)
}

// maxDepth bounds walks up the tree of domains.
const maxDepth = 256

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
// beyond a limit of the account or of a domain above it is refused (LimitExceeded); shrinking always succeeds. What
// root admins have is counted, and never refused.
func Count(tx *store.Tx, account cloud.ID, t cloud.ResourceType, delta int64) error {
	if int(t) >= len(Kinds) {
		return fmt.Errorf("count resource type %d: there is none", t)
	}
	if delta == 0 {
		return nil
	}
	a, ok := tables.Accounts.Get(tx, account)
	if !ok {
		return fmt.Errorf("count %s of account %s: there is none", Kinds[t].Name, account)
	}
	if exceeds(tx, a.ID, t, delta, Limit(tx, a, t)) {
		whose := "account name=" + a.Name
		if p, ok := tables.Projects.First(tx, "account", store.K(a.ID)); ok {
			whose = "project name=" + p.Name
		}
		return cloud.Errorf(cloud.LimitExceeded, "Maximum number of resources of type '%s' for %s in domain id=%s has been exceeded.", Kinds[t].Name, whose, a.DomainID)
	}
	if err := add(tx, a.ID, t, delta); err != nil {
		return err
	}
	for id := a.DomainID; !id.IsZero(); {
		d, ok := tables.Domains.Get(tx, id)
		if !ok {
			break
		}
		if a.Type != cloud.RootAdminAccount && exceeds(tx, d.ID, t, delta, DomainLimit(tx, d.ID, t)) {
			return cloud.Errorf(cloud.LimitExceeded, "Maximum number of resources of type '%s' for domain id=%s has been exceeded.", Kinds[t].Name, d.ID)
		}
		if err := add(tx, d.ID, t, delta); err != nil {
			return err
		}
		id = d.ParentID
	}
	return nil
}

func exceeds(r store.Reader, owner cloud.ID, t cloud.ResourceType, delta, most int64) bool {
	return delta > 0 && most != Unlimited && Counted(r, owner, t)+delta > most
}

// add changes one counter. A domain's counter stands in the same table under the domain's ID.
func add(tx *store.Tx, owner cloud.ID, t cloud.ResourceType, delta int64) error {
	n := Counted(tx, owner, t) + delta
	if n < 0 {
		return fmt.Errorf("count %s of %s: it would become %d", Kinds[t].Name, owner, n)
	}
	return setCount(tx, owner, t, n)
}

func setCount(tx *store.Tx, owner cloud.ID, t cloud.ResourceType, n int64) error {
	c := &cloud.ResourceCount{ID: countID(owner, t), AccountID: owner, Type: t, Count: n}
	if err := tables.ResourceCounts.Put(tx, c); err != nil {
		return fmt.Errorf("count %s of %s: %w", Kinds[t].Name, owner, err)
	}
	return nil
}

// SetLimit gives an account, or a domain where account is zero, a limit of its own.
func SetLimit(tx *store.Tx, account, domain cloud.ID, t cloud.ResourceType, most int64) error {
	l := &cloud.ResourceLimit{AccountID: account, DomainID: domain, Type: t, Max: most}
	index, owner := "account", account
	if account.IsZero() {
		index, owner = "domain", domain
	} else {
		l.DomainID = cloud.ID{}
	}
	l.ID = tx.NewID()
	if old, ok := tables.ResourceLimits.First(tx, index, store.K(owner, t)); ok {
		l = old
		l.Max = most
	}
	if err := tables.ResourceLimits.Put(tx, l); err != nil {
		return fmt.Errorf("set limit of %s of %s: %w", Kinds[t].Name, owner, err)
	}
	return nil
}
