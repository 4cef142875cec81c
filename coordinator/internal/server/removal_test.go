package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/replica"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// owners counts what each account has, by the kinds of what accounts own.
func owners(r store.Reader, kinds []identity.Owned) map[cloud.ID]int {
	n := map[cloud.ID]int{}
	for a := range tables.Accounts.All(r) {
		for _, k := range kinds {
			for range k.IDs(r, a.ID) {
				n[a.ID]++
			}
		}
	}
	return n
}

// countEstate counts what estates write without counting.
func (w *world) countEstate(account cloud.ID) {
	w.t.Helper()
	w.update(func(tx *store.Tx) error {
		for _, x := range []cloud.ResourceType{
			cloud.ResourceVM, cloud.ResourceVolume, cloud.ResourceNetwork, cloud.ResourcePublicIP, cloud.ResourceTemplate,
			cloud.ResourceSecondaryStorage, cloud.ResourcePrimaryStorage, cloud.ResourceCPU, cloud.ResourceMemory,
		} {
			if err := identity.Count(tx, account, x, 1); err != nil {
				return err
			}
		}
		return nil
	})
}

var errCut = errors.New("cut")

// Every step of a removal runs twice, the first time undone as by a crash before its commit, and each kind that is left
// is seen after each commit to be the account's own: others' rows stay as they are.
func TestRemovalInSteps(t *testing.T) {
	w := newWorld(t)
	w.estates()
	kinds := w.areas.owned()
	victim := w.callers["user"].AccountID
	w.countEstate(victim)
	before := owners(w.read(), kinds)
	if before[victim] < 5 {
		t.Fatalf("the account has %d things only", before[victim])
	}
	w.update(func(tx *store.Tx) error {
		a, _ := tables.Accounts.Get(tx, victim)
		return identity.BeginRemoval(tx, a)
	})
	done := false
	for step := 0; !done; step++ {
		if step > 50 {
			t.Fatalf("not done: %v left", owners(w.read(), kinds)[victim])
		}
		err := w.replica.Update(t.Context(), func(tx *store.Tx) error {
			if _, err := identity.RemoveAccount(tx, kinds, victim); err != nil {
				return err
			}
			return errCut
		})
		if !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		w.update(func(tx *store.Tx) error {
			p, err := identity.RemoveAccount(tx, kinds, victim)
			done = p.Done
			return err
		})
		after := owners(w.read(), kinds)
		for id, n := range before {
			if id != victim && after[id] != n {
				t.Fatalf("step %d: account %s had %d things and has %d", step, id, n, after[id])
			}
		}
	}
	r := w.read()
	if tables.Accounts.Has(r, victim) || tables.Users.Count(r, "account", store.K(victim)) > 0 || tables.ResourceCounts.Count(r, "account", store.K(victim)) > 0 {
		t.Error("the account left something")
	}
}

// cutter is a cluster whose engine dies at every commit: each of its lives gets as far as one transaction, which is
// undone as by a crash before the commit in every other life, and kept, with nobody told, in the rest.
type cutter struct {
	*replica.Replica
	mu      sync.Mutex
	dead    bool
	undo    bool
	die     context.CancelFunc
	commits *int
}

// Update implements job.Cluster.
func (c *cutter) Update(ctx context.Context, f func(tx *store.Tx) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return errCut
	}
	wrote := false
	err := c.Replica.Update(ctx, func(tx *store.Tx) error {
		err := f(tx)
		if wrote = err == nil; wrote && c.undo {
			return errCut
		}
		return err
	})
	if !wrote {
		return err // a step that found nothing to do
	}
	c.dead = true
	*c.commits++
	c.die()
	return errCut
}

// finish steps a job with one engine after the other, each of which dies at its first commit.
func (w *world) finish(id cloud.ID, after func(commits int)) *cloud.Job {
	w.t.Helper()
	commits := 0
	for life := range 1000 {
		if j, ok := tables.Jobs.Get(w.read(), id); !ok || j.Status != cloud.JobPending {
			return j
		}
		ctx, die := context.WithTimeout(w.t.Context(), time.Minute)
		c := &cutter{Replica: w.replica, undo: life%2 == 0, die: die, commits: &commits}
		engine := job.New(job.Config{
			Cluster: c, Kinds: w.registry.JobKinds(w.Server.settings, w.seal), Seal: w.seal, Failure: api.JobFailure,
			Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		})
		err := engine.Run(ctx)
		timeout := errors.Is(ctx.Err(), context.DeadlineExceeded)
		die()
		if err != nil || timeout {
			w.t.Fatalf("life %d, after %d commits: %v, idle for a minute: %v", life, commits, err, timeout)
		}
		after(commits)
	}
	w.t.Fatalf("the job is not done after %d commits", commits)
	return nil
}

// removed runs a command that removes owners, with a coordinator that dies at each commit of its job. In the end nothing
// of what is gone is left, and at no moment was anything of others touched. What is left of the project counts of others
// is theirs.
func (w *world) removed(least int, gone map[cloud.ID]bool, caller, command string, params ...string) {
	w.t.Helper()
	kinds := slices.DeleteFunc(w.areas.owned(), func(k identity.Owned) bool { return k.Kind == identity.OwnedMembership.Kind })
	count := func() map[cloud.ID]int {
		n := owners(w.read(), kinds)
		for m := range tables.ProjectMembers.All(w.read()) {
			if !gone[m.OwnerID] { // the part in a project ends with it
				n[m.AccountID]++
			}
		}
		return n
	}
	before := count()
	var had int
	for id := range gone {
		had += before[id]
	}
	if had < 10 {
		w.t.Fatalf("what goes has %d things only", had)
	}
	a := w.must(caller, command, params...)
	id, err := cloud.ParseID(a.object["jobid"].(string))
	if err != nil {
		w.t.Fatal(err)
	}
	cuts := 0
	j := w.finish(id, func(commits int) {
		cuts = commits
		now := count()
		for account, n := range before {
			if !gone[account] && now[account] != n {
				w.t.Fatalf("after %d commits account %s, which stays, has %d things of %d", commits, account, now[account], n)
			}
		}
	})
	if j == nil || j.Status != cloud.JobSucceeded || cuts < least {
		w.t.Errorf("the job is %v after %d commits", j, cuts)
	}
	w.t.Logf("%d commits, each of them tried twice", cuts)
	w.nothingOf(gone)
}

// dedicate sets a public range and VLANs aside for an account, or with a zero account for a domain.
func (w *world) dedicate(account, domain cloud.ID, n int) {
	w.t.Helper()
	w.update(func(tx *store.Tx) error {
		return errors.Join(
			tables.VLANRanges.Put(tx, &cloud.VLANRange{ID: tx.NewID(), AccountID: account, DomainID: domain}),
			tables.GuestVLANRanges.Put(tx, &cloud.GuestVLANRange{ID: tx.NewID(), AccountID: account, DomainID: domain, Start: uint32(3000 + n), End: uint32(3000 + n)}),
		)
	})
}

// projectOf gives a caller's project something of everything.
func (w *world) projectOf(caller string, n uint64, infra estate) *cloud.Project {
	w.t.Helper()
	p, ok := tables.Projects.First(w.read(), "name", store.K(w.callers[caller].DomainID, "project of "+caller))
	if !ok {
		w.t.Fatalf("%s has no project", caller)
	}
	w.belongings(p.Name, holder{p.AccountID, p.DomainID, w.callers[caller].ID}, n, infra)
	return p
}

// A domain goes with the one below, their accounts, and their projects with something of everything.
func TestDomainRemovalCutAtEachCommit(t *testing.T) {
	w := newWorld(t)
	first := w.callers["user"].DomainID
	w.update(func(tx *store.Tx) error {
		below, err := identity.CreateDomain(tx, first, "below", "")
		if err != nil {
			return err
		}
		return w.person(tx, "user below", cloud.UserAccount, below)
	})
	mine, _ := w.estates()
	infra := mine["root"]
	w.estateOf("user below", 150, infra)
	w.projectOf("user", 160, infra)
	w.projectOf("user below", 161, infra)
	gone := map[cloud.ID]bool{} // the domains, and what has ids of theirs
	top, _ := tables.Domains.Get(w.read(), first)
	for _, d := range identity.Subtree(w.read(), top) {
		gone[d.ID] = true
	}
	w.update(func(tx *store.Tx) error {
		for z := range tables.Zones.All(tx) { // they are released first
			if gone[z.DomainID] {
				if err := tables.Zones.Delete(tx, z.ID); err != nil {
					return err
				}
			}
		}
		return nil
	})
	for a := range tables.Accounts.All(w.read()) {
		if gone[a.DomainID] {
			gone[a.ID] = true
			w.countEstate(a.ID)
		}
	}
	w.dedicate(w.callers["user below"].AccountID, w.callers["user below"].DomainID, 1)
	w.dedicate(cloud.ID{}, first, 2)
	w.removed(20, gone, "root", "deleteDomain", "id", first.String(), "cleanup", "true")
}

// An account goes; what its project, which another one has taken over, has stays.
func TestAccountRemovalCutAtEachCommit(t *testing.T) {
	w := newWorld(t)
	mine, _ := w.estates()
	p := w.projectOf("user", 160, mine["root"])
	victim := w.callers["user"].AccountID
	w.countEstate(victim)
	w.dedicate(victim, w.callers["user"].DomainID, 1)
	w.update(func(tx *store.Tx) error {
		heir, _ := tables.Accounts.Get(tx, w.callers["domain admin"].AccountID)
		// What the project has is the user's doing no more.
		return errors.Join(identity.AddMember(tx, p, heir.ID, cloud.ID{}, identity.Part{}), identity.ChangeOwner(tx, p, heir))
	})
	w.removed(8, map[cloud.ID]bool{victim: true}, "root", "deleteAccount", "id", victim.String())
	if m, ok := identity.OwnerOf(w.read(), p); !ok || m.AccountID != w.callers["domain admin"].AccountID {
		t.Errorf("the project's admin is %v", m)
	}
}

// A project goes with what it has; its admin's account stays with what that has.
func TestProjectRemovalCutAtEachCommit(t *testing.T) {
	w := newWorld(t)
	mine, _ := w.estates()
	p := w.projectOf("user", 160, mine["root"])
	w.countEstate(p.AccountID)
	w.dedicate(p.AccountID, p.DomainID, 1)
	before := identity.Counted(w.read(), w.callers["user"].AccountID, cloud.ResourceProject)
	w.removed(8, map[cloud.ID]bool{p.AccountID: true}, "user", "deleteProject", "id", p.ID.String())
	if now := identity.Counted(w.read(), w.callers["user"].AccountID, cloud.ResourceProject); now != before-1 {
		t.Errorf("its admin has %d projects counted, %d before", now, before)
	}
	for m := range tables.ProjectMembers.All(w.read()) {
		if m.ProjectID == p.ID {
			t.Errorf("account %s is still a member", m.AccountID)
		}
	}
}

// nothingOf looks for rows of accounts and domains that are gone. The audit log and jobs stay.
func (w *world) nothingOf(gone map[cloud.ID]bool) {
	w.t.Helper()
	r := w.read()
	left := func(what string, owner, domain cloud.ID) {
		if gone[owner] || gone[domain] {
			w.t.Errorf("a %s is left of account %s in domain %s", what, owner, domain)
		}
	}
	for x := range tables.Domains.All(r) {
		left("domain", x.ID, x.ParentID)
	}
	for x := range tables.Accounts.All(r) {
		left("account", x.ID, x.DomainID)
	}
	for x := range tables.Users.All(r) {
		left("user", x.AccountID, x.DomainID)
	}
	for x := range tables.Projects.All(r) {
		left("project", x.AccountID, x.DomainID)
	}
	for x := range tables.ProjectMembers.All(r) {
		left("member of a project", x.AccountID, cloud.ID{})
	}
	for x := range tables.ProjectInvitations.All(r) {
		left("invitation", x.AccountID, x.DomainID)
	}
	for x := range tables.ResourceLimits.All(r) {
		left("limit", x.AccountID, x.DomainID)
	}
	for x := range tables.ResourceCounts.All(r) {
		left("count", x.AccountID, cloud.ID{})
	}
	for x := range tables.VMs.All(r) {
		left("VM", x.AccountID, x.DomainID)
	}
	for x := range tables.Volumes.All(r) {
		left("volume", x.AccountID, x.DomainID)
	}
	for x := range tables.Networks.All(r) {
		left("network", x.AccountID, x.DomainID)
	}
	for x := range tables.Routers.All(r) {
		left("router", x.AccountID, x.DomainID)
	}
	for x := range tables.PublicIPs.All(r) {
		left("address", x.AccountID, x.DomainID)
	}
	for x := range tables.FirewallRules.All(r) {
		left("firewall rule", x.AccountID, x.DomainID)
	}
	for x := range tables.PortForwardingRules.All(r) {
		left("forwarding", x.AccountID, x.DomainID)
	}
	for x := range tables.Templates.All(r) {
		if x.State != cloud.TemplateRemoved { // whose files go, by a loop of its own, after the last volume made of it
			left("template", x.AccountID, x.DomainID)
		}
	}
	for x := range tables.SSHKeyPairs.All(r) {
		left("SSH key", x.AccountID, x.DomainID)
	}
	for x := range tables.InstanceGroups.All(r) {
		left("instance group", x.AccountID, x.DomainID)
	}
	for x := range tables.AffinityGroups.All(r) {
		left("affinity group", x.AccountID, x.DomainID)
	}
	for x := range tables.UserDatas.All(r) {
		left("user-data", x.AccountID, x.DomainID)
	}
	for x := range tables.Tags.All(r) {
		left("tag", x.AccountID, x.DomainID)
	}
	for x := range tables.VLANRanges.All(r) {
		left("dedicated public range", x.AccountID, x.DomainID)
	}
	for x := range tables.GuestVLANRanges.All(r) {
		left("dedicated guest range", x.AccountID, x.DomainID)
	}
	for x := range tables.ServiceOfferings.All(r) {
		for _, d := range x.DomainIDs {
			left("service offering", cloud.ID{}, d)
		}
	}
}

// What is dedicated to an account or a domain is released when it goes; a zone keeps it from going, since it would be
// everybody's.
func TestRemovalReleasesWhatIsDedicated(t *testing.T) {
	w := newWorld(t)
	infrastructure := w.infrastructure()
	user := w.callers["user"]
	dedicated := func(kind cloud.PlaceKind, entity string, to *cloud.Account) {
		w.update(func(tx *store.Tx) error {
			_, err := infra.Dedicate(tx, kind, infrastructure[entity], user.DomainID, to)
			return err
		})
	}
	account, _ := tables.Accounts.Get(w.read(), user.AccountID)
	dedicated(cloud.ClusterPlace, "cluster", account)
	dedicated(cloud.PodPlace, "pod", nil)
	for owner, kinds := range map[cloud.ID][]identity.Owned{user.AccountID: w.areas.owned(), user.DomainID: w.areas.ownedByDomains()} {
		if err := identity.Refused(w.read(), kinds, owner); err != nil {
			t.Error(err)
		}
		w.update(func(tx *store.Tx) error {
			_, err := identity.RemoveOwned(tx, kinds, owner)
			return err
		})
	}
	if n := tables.Dedications.Len(w.read()) + tables.AffinityGroups.Len(w.read()); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	dedicated(cloud.ZonePlace, "zone", account)
	if err := identity.Refused(w.read(), w.areas.owned(), user.AccountID); err == nil || !strings.Contains(err.Error(), "Zone zone is dedicated to the account; release or delete it first") {
		t.Errorf("an account with a zone: %v", err)
	}
}
