package network_test

import (
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/alloc"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// BenchmarkAllocateNIC takes the last free addresses of a network that has 60000 guests.
func BenchmarkAllocateNIC(b *testing.B) {
	w := newWorld(b, 1)
	var n *cloud.Network
	w.do(func(tx *store.Tx) (err error) {
		q := w.request("large")
		q.Root, q.Gateway, q.Netmask = true, addr("10.2.0.1"), "255.255.0.0"
		n, err = w.area.CreateGuest(tx, q)
		return err
	})
	const guests = 60000
	w.do(func(tx *store.Tx) error {
		for i := range uint64(guests) {
			err := tables.NICs.Put(tx, &cloud.NIC{
				ID: tx.NewID(), NetworkID: n.ID, VMID: id(6, 1), IP: alloc.Address(alloc.Number(n.StartIP) + 1 + i), MAC: 1<<40 | i,
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	vm := &cloud.VM{ID: id(6, 2), ZoneID: w.zone.ID, AccountID: w.account.ID}
	b.ResetTimer()
	w.do(func(tx *store.Tx) error {
		for range b.N {
			nic, err := w.area.AllocateNIC(tx, vm, n, network.NICRequest{})
			if err == nil {
				err = tables.NICs.Delete(tx, nic.ID)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}
