package compute

import (
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Small is a kind of what accounts keep under names beside VMs. It takes no room on a host, so no resource limit speaks of
// it; but every coordinator keeps it in memory, so an account, or a project, may have only so many.
type Small struct {
	limit *settings.Def
	count func(r store.Reader, account cloud.ID) int
	what  string
}

func small[R any](t *store.Table[R], name, most, what string) Small {
	return Small{
		what: what, count: func(r store.Reader, account cloud.ID) int { return t.Count(r, "account", store.K(account)) },
		limit: settings.Define(settings.Def{
			Name: "max.account." + name, Category: "Account Defaults", Type: settings.Integer, Default: most, Min: -1, Max: 1 << 40,
			Scopes: settings.Account, Doc: "Most " + what + " that an account, or a project, may have; -1 is no limit.",
		}),
	}
}

// The kinds.
var (
	KeyPairs       = small(tables.SSHKeyPairs, "ssh.keypairs", "1000", "SSH key pairs")
	InstanceGroups = small(tables.InstanceGroups, "instance.groups", "1000", "instance groups")
	AffinityGroups = small(tables.AffinityGroups, "affinity.groups", "1000", "affinity groups")
	KeptUserData   = small(tables.UserDatas, "userdata", "200", "kept user-data")
)

// Room refuses where an account has as many of a kind as it may. Errors: cloud.LimitExceeded.
func Room(r store.Reader, s Small, account *cloud.Account) error {
	most := s.limit.Int(r, account.ID)
	if n := s.count(r, account.ID); most >= 0 && int64(n) >= most {
		return cloud.Errorf(cloud.LimitExceeded, "Account %s has %d %s, and may have %d (setting %s)", account.Name, n, s.what, most, s.limit.Name)
	}
	return nil
}
