package vm_test

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// edits are all the ways in which what a list of VMs shows can change. A name is new each time.
func edits(w *world, r *rand.Rand) []func(tx *store.Tx, name string) error {
	vm := func(tx *store.Tx) *cloud.VM { return pick(r, tables.VMs.All(tx)) }
	owners := []*cloud.Account{w.Users["a-user"].Account, w.Users["b-user"].Account}
	return []func(tx *store.Tx, name string) error{
		func(tx *store.Tx, name string) error {
			v := vm(tx)
			v.State, v.DisplayName, v.HostID = []cloud.VMState{cloud.VMStopped, cloud.VMRunning, cloud.VMError}[r.IntN(3)], name, id(byte(3*r.IntN(2)))
			if r.IntN(4) == 0 {
				v.GroupID, v.UserDataID, v.OfferingID = id(20), id(21), id(byte(22*r.IntN(2)))
			}
			return tables.VMs.Put(tx, v)
		},
		func(tx *store.Tx, name string) error {
			v, o := vm(tx), owners[r.IntN(2)]
			v.AccountID, v.DomainID, v.Name = o.ID, o.DomainID, name
			return tables.VMs.Put(tx, v)
		},
		func(tx *store.Tx, _ string) error {
			nic := pick(r, tables.NICs.All(tx))
			nic.VMID, nic.IP, nic.Default, nic.NetworkID = vm(tx).ID, netip.AddrFrom4([4]byte{10, 9, byte(r.IntN(250)), byte(r.IntN(250))}), r.IntN(2) == 0, id(byte(9+r.IntN(2)))
			return tables.NICs.Put(tx, nic)
		},
		func(tx *store.Tx, name string) error {
			if r.IntN(3) == 0 {
				if t := pick(r, tables.Tags.All(tx)); t != nil {
					return tables.Tags.Delete(tx, t.ID)
				}
			}
			v := vm(tx)
			return tables.Tags.Put(tx, &cloud.Tag{ID: tx.NewID(), ResourceID: v.ID, ResourceType: "UserVm", Key: name, Value: name, AccountID: v.AccountID, DomainID: v.DomainID})
		},
		func(tx *store.Tx, _ string) error {
			if m := pick(r, tables.AffinityMembers.All(tx)); m != nil && r.IntN(2) == 0 {
				return tables.AffinityMembers.Delete(tx, m.ID)
			}
			v := vm(tx)
			if tables.AffinityMembers.Count(tx, "group", store.K(id(24), v.ID)) > 0 {
				return nil
			}
			return tables.AffinityMembers.Put(tx, &cloud.AffinityMember{ID: tx.NewID(), GroupID: id(24), VMID: v.ID})
		},
		func(tx *store.Tx, _ string) error {
			return tables.PublicIPs.Put(tx, &cloud.PublicIP{ID: id(25), Address: netip.MustParseAddr("192.0.2.7"), VMID: vm(tx).ID, StaticNAT: true})
		},
		func(tx *store.Tx, name string) error { return rename(tx, r, name) },
		func(tx *store.Tx, name string) error {
			return tables.Zones.Edit(tx, id(1), func(z *cloud.Zone) error { z.Name = name; return nil })
		},
		func(tx *store.Tx, name string) error {
			return tables.Templates.Edit(tx, id(7), func(t *cloud.Template) error { t.Name, t.UserDataID = name, id(byte(21*r.IntN(2))); return nil })
		},
		func(tx *store.Tx, name string) error {
			return tables.ServiceOfferings.Put(tx, &cloud.ServiceOffering{ID: id(22), Name: name})
		},
		func(tx *store.Tx, name string) error {
			return tables.OSTypes.Edit(tx, id(6), func(o *cloud.OSType) error { o.Description = name; return nil })
		},
		func(tx *store.Tx, name string) error {
			return tables.Networks.Edit(tx, id(byte(9+r.IntN(2))), func(n *cloud.Network) error {
				n.Name, n.Segment, n.Isolation = name, r.Uint32N(1<<23), "VXLAN"
				return nil
			})
		},
		func(tx *store.Tx, name string) error {
			return tables.Accounts.Edit(tx, owners[r.IntN(2)].ID, func(a *cloud.Account) error { a.Name = name; return nil })
		},
		func(tx *store.Tx, name string) error {
			return tables.Domains.Edit(tx, owners[r.IntN(2)].DomainID, func(d *cloud.Domain) error { d.Name, d.Path = name, "ROOT/"+name; return nil })
		},
		func(tx *store.Tx, name string) error {
			if tables.InstanceGroups.Has(tx, id(20)) && r.IntN(2) == 0 {
				return tables.InstanceGroups.Delete(tx, id(20))
			}
			return tables.InstanceGroups.Put(tx, &cloud.InstanceGroup{ID: id(20), Name: name})
		},
		func(tx *store.Tx, name string) error {
			return tables.UserDatas.Put(tx, &cloud.UserData{ID: id(21), Name: name})
		},
		func(tx *store.Tx, name string) error {
			return tables.AffinityGroups.Put(tx, &cloud.AffinityGroup{ID: id(24), Name: name, AccountID: owners[0].ID, DomainID: owners[0].DomainID})
		},
		func(tx *store.Tx, _ string) error {
			if a := pick(r, tables.Annotations.All(tx)); a != nil && r.IntN(3) > 0 {
				a.AdminsOnly = !a.AdminsOnly
				if r.IntN(2) == 0 {
					return tables.Annotations.Delete(tx, a.ID)
				}
				return tables.Annotations.Put(tx, a)
			}
			return tables.Annotations.Put(tx, &cloud.Annotation{ID: tx.NewID(), EntityType: "VM", EntityID: vm(tx).ID, AdminsOnly: r.IntN(2) == 0})
		},
		func(*store.Tx, string) error {
			for v := range tables.VMs.All(w.Replica.DB().Current()) {
				if delete(w.usage, v.ID); r.IntN(2) == 0 {
					w.usage[v.ID] = &hostspec.VmUsage{CpuPercent: r.Float64(), MemoryKib: uint64(r.IntN(3))}
				}
			}
			return nil
		},
	}
}

func rename(tx *store.Tx, r *rand.Rand, name string) error {
	h := pick(r, tables.Hosts.All(tx))
	h.Name = name
	return tables.Hosts.Put(tx, h)
}

// pick is any row, nil where there is none.
func pick[R any](r *rand.Rand, rows iter.Seq[*R]) (out *R) {
	n := 0
	for row := range rows {
		if n++; r.IntN(n) == 0 {
			out = row
		}
	}
	return out
}

// What is kept of rows is what they would be encoded to now, whatever changes, for everybody. With userdata=true nothing
// is kept; no VM here has any.
func TestKeptRowsAreTheSame(t *testing.T) {
	w := newWorld(t)
	w.usage = map[cloud.ID]*hostspec.VmUsage{}
	w.fill(12)
	r := rand.New(rand.NewPCG(1, 2))
	kinds := edits(w, r)
	before := map[string]string{}
	changed := make([]bool, len(kinds))
	for n := range 16 * len(kinds) {
		kind := n % len(kinds)
		w.Update(func(tx *store.Tx) error { return kinds[kind](tx, fmt.Sprint("new-", n)) })
		for _, user := range []string{"root", "a-user", "b-user"} {
			for _, details := range []string{"all", "min", "stats"} {
				params := []string{"listall", "true", "details", details}
				got := string(w.Must(user, "listVirtualMachines", params...).Raw)
				want := string(w.Must(user, "listVirtualMachines", append(params, "userdata", "true")...).Raw)
				if d := cmp.Diff(want, got); d != "" {
					t.Fatalf("after edit %d of kind %d: %s, details=%s (-now +kept):\n%s", n, kind, user, details, d)
				}
				if before[user+details] != got {
					changed[kind] = true
				}
				before[user+details] = got
			}
		}
	}
	for kind, is := range changed {
		if !is {
			t.Errorf("edits of kind %d never showed", kind)
		}
	}
}
