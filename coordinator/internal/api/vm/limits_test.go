package vm_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/compute"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// exact compares every counter of a state with what its rows add up to, and with the limits.
func exact(r store.Reader) error {
	domains := map[cloud.ID]identity.Tally{}
	for a := range tables.Accounts.All(r) {
		n := identity.Recounted(r, a.ID)
		for i := range n {
			t := cloud.ResourceType(i)
			if got := identity.Counted(r, a.ID, t); got != n[i] {
				return fmt.Errorf("account %s counts %d %s and has %d", a.Name, got, identity.Kinds[i].Name, n[i])
			}
			if most := identity.Limit(r, a, t); most != identity.Unlimited && n[i] > most {
				return fmt.Errorf("account %s has %d %s, its limit is %d", a.Name, n[i], identity.Kinds[i].Name, most)
			}
		}
		for id := a.DomainID; !id.IsZero(); {
			d, ok := tables.Domains.Get(r, id)
			if !ok {
				break
			}
			sum := domains[id]
			for i := range n {
				sum[i] += n[i]
			}
			domains[id], id = sum, d.ParentID
		}
	}
	for id, n := range domains {
		for i := range n {
			t := cloud.ResourceType(i)
			if got := identity.Counted(r, id, t); got != n[i] {
				return fmt.Errorf("domain %s counts %d %s and has %d", id, got, identity.Kinds[i].Name, n[i])
			}
			if most := identity.DomainLimit(r, id, t); most != identity.Unlimited && n[i] > most {
				return fmt.Errorf("domain %s has %d %s, its limit is %d", id, n[i], identity.Kinds[i].Name, most)
			}
		}
	}
	return nil
}

// CVE-2025-69233: whatever callers do at the same time, no limit is exceeded in any state, counters agree with the rows
// in every state, no address and no host name is given twice; and what limits allow is given.
func TestCVE_2025_69233_ConcurrentLimits(t *testing.T) {
	w := newWorld(t)
	accounts := []*cloud.Account{w.Users["a-user"].Account, w.Users["a-other"].Account, w.Users["x-user"].Account}
	networks := map[cloud.ID]*cloud.Network{}
	w.Update(func(tx *store.Tx) error {
		errs := []error{
			identity.SetLimit(tx, accounts[0].ID, cloud.ID{}, cloud.ResourceVM, 4),
			identity.SetLimit(tx, accounts[1].ID, cloud.ID{}, cloud.ResourceMemory, 3*512),
			identity.SetLimit(tx, accounts[2].ID, cloud.ID{}, cloud.ResourcePrimaryStorage, 5),
			identity.SetLimit(tx, cloud.ID{}, w.Domains["ROOT/a"].ID, cloud.ResourceCPU, 7),
		}
		for i, a := range accounts {
			n := &cloud.Network{ID: id(byte(100 + i)), Name: "n", ZoneID: id(1), AccountID: a.ID, DomainID: a.DomainID, Number: uint64(100 + i)}
			networks[a.ID] = n
			errs = append(errs, tables.Networks.Put(tx, n), identity.Count(tx, a.ID, cloud.ResourceNetwork, 1))
		}
		// The world's own networks were written beside the counters.
		for _, u := range []string{"a-user", "b-user"} {
			errs = append(errs, identity.Count(tx, w.Users[u].Account.ID, cloud.ResourceNetwork, 1))
		}
		return errors.Join(errs...)
	})
	deploy := func(a *cloud.Account, name string) error {
		return w.Replica.Update(t.Context(), func(tx *store.Tx) error {
			zone, _ := tables.Zones.Get(tx, id(1))
			template, _ := tables.Templates.Get(tx, id(7))
			offering, _ := tables.ServiceOfferings.Get(tx, id(8))
			_, err := w.area.Deploy(tx, &compute.Deployment{
				Account: a, Zone: zone, Template: template, Offering: offering, Name: name,
				Networks: []compute.NetworkRequest{{Network: networks[a.ID], NICRequest: compute.NICRequest{Default: true}}},
			})
			return err
		})
	}
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(worker), 1))
			for range 40 {
				a := accounts[random.IntN(len(accounts))]
				var err error
				if random.IntN(3) > 0 {
					err = deploy(a, fmt.Sprintf("vm%d", random.IntN(6)))
				} else {
					err = w.Replica.Update(t.Context(), func(tx *store.Tx) error {
						for vm := range tables.VMs.By(tx, "account", store.K(a.ID)) {
							return w.area.Destroy(tx, vm, random.IntN(2) > 0)
						}
						return nil
					})
				}
				var refusal *cloud.Error
				if err != nil && (!errors.As(err, &refusal) || refusal.Code != cloud.LimitExceeded && refusal.Code != cloud.Invalid) {
					t.Error(err)
				}
				if err := exact(w.Read()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	// The rest is free: with nothing at stake in parallel, exactly up to the limit is given. The domain's may bind
	// first, hence once more without it.
	give := func(name string, want int64) {
		var given int64
		for i := range 10 {
			if deploy(accounts[0], fmt.Sprintf("%s%d", name, i)) == nil {
				given++
			}
		}
		if given != want {
			t.Errorf("%s: %d VMs were given where the limits leave %d", name, given, want)
		}
	}
	left := func() int64 { return 4 - identity.Counted(w.Read(), accounts[0].ID, cloud.ResourceVM) }
	give("both", min(left(), 7-identity.Counted(w.Read(), w.Domains["ROOT/a"].ID, cloud.ResourceCPU)))
	w.Update(func(tx *store.Tx) error {
		return identity.SetLimit(tx, cloud.ID{}, w.Domains["ROOT/a"].ID, cloud.ResourceCPU, -1)
	})
	give("own", left())
	if err := exact(w.Read()); err != nil {
		t.Error(err)
	}
}

// Of calls that make something of one name at the same time, exactly one succeeds.
func TestOneOfEachName(t *testing.T) {
	w := newWorld(t)
	for _, x := range [][]string{
		{"createInstanceGroup", "name", "n"},
		{"createAffinityGroup", "name", "n"},
		{"registerUserData", "name", "n", "userdata", "eA"},
		{"registerSSHKeyPair", "name", "n", "publickey", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUd0Jw8Y5VvHcb2w1sBS7BdOMnUAGWuq2nCGgYx5o9p"},
		{"deployVirtualMachine", "name", "n", "startvm", "false", "zoneid", w.zone, "templateid", w.template, "serviceofferingid", w.tiny, "networkids", w.network},
	} {
		var wg sync.WaitGroup
		var mu sync.Mutex
		made := 0
		for range 8 {
			wg.Go(func() {
				a := w.Call("a-user", x[0], x[1:]...)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case a.Status == 200:
					made++
				case a.Status != 431:
					t.Errorf("%s: %s", x[0], a.Raw)
				}
			})
		}
		wg.Wait()
		if made != 1 {
			t.Errorf("%s made %d of one name", x[0], made)
		}
	}
}
