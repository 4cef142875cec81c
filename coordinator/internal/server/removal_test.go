package server

import (
	"errors"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
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
