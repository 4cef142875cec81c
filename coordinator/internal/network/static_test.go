package network_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/netspec"
)

// associate gives the network one more public address.
func (w *world) associate(n *cloud.Network) *cloud.PublicIP {
	w.t.Helper()
	var ip *cloud.PublicIP
	w.do(func(tx *store.Tx) (err error) { ip, err = w.area.Associate(tx, n, netip.Addr{}); return err })
	w.settle()
	ip, _ = tables.PublicIPs.Get(w.read(), ip.ID)
	return ip
}

// statics is what the router's namespace is told of static NAT.
func (w *world) statics() []*netspec.StaticNat {
	for _, n := range w.render(w.hosts[0]) {
		return n.GetServices().GetNat().GetStatics()
	}
	return nil
}

func TestStaticNAT(t *testing.T) {
	w, n, vm := running(t)
	ip := w.associate(n)
	n = w.network(n.ID)
	w.do(func(tx *store.Tx) error { return w.area.EnableStatic(tx, ip, vm, netip.Addr{}) })
	nic, _ := tables.NICs.First(w.read(), "vm", store.K(vm.ID))
	want := []*netspec.StaticNat{{PublicIp: ip.Address.String(), GuestIp: nic.IP.String()}}
	if d := cmp.Diff(want, w.statics(), protocmp.Transform()); d != "" {
		t.Error(d)
	}
	ip, _ = tables.PublicIPs.Get(w.read(), ip.ID)
	other := w.associate(n)
	source := w.source(n.ID)
	w.refused(t, cloud.Invalid, "already has it on address", func(tx *store.Tx) error { return w.area.EnableStatic(tx, other, vm, netip.Addr{}) })
	w.refused(t, cloud.Invalid, "is a source nat ip address", func(tx *store.Tx) error { return w.area.EnableStatic(tx, source, vm, netip.Addr{}) })
	w.refused(t, cloud.Invalid, "has static nat enabled", func(tx *store.Tx) error {
		_, err := w.area.Forward(tx, ip, network.ForwardRequest{Protocol: "tcp", PublicStart: number(1), PrivateStart: number(1), VM: vm})
		return err
	})
	w.refused(t, cloud.Invalid, "has no static nat", func(tx *store.Tx) error {
		_, err := w.area.OpenStatic(tx, other, network.ForwardRequest{Protocol: "tcp", PublicStart: number(1), PrivateStart: number(1)})
		return err
	})
	w.do(func(tx *store.Tx) error {
		_, err := w.area.OpenStatic(tx, ip, network.ForwardRequest{Protocol: "tcp", PublicStart: number(443), PrivateStart: number(443), Open: true})
		return err
	})
	w.settle()
	for _, n := range w.render(w.hosts[0]) {
		if rules := n.GetServices().GetPortfwd().GetRules(); len(rules) > 0 {
			t.Errorf("the rule that opens a static address is rendered as a forwarding: %v", rules)
		}
		if rules := n.GetServices().GetFirewall().GetIngress(); len(rules) != 1 || rules[0].GetPublicIp() != ip.Address.String() {
			t.Errorf("the firewall lets in %v", rules)
		}
	}
	// A VM that gives up its addresses takes the translation with it.
	w.stop(vm)
	w.expunge(vm)
	w.settle()
	if ip, _ = tables.PublicIPs.Get(w.read(), ip.ID); ip.StaticNAT || !ip.VMID.IsZero() {
		t.Errorf("the address still leads to the VM: %+v", ip)
	}
	if left := w.statics(); len(left) > 0 {
		t.Errorf("static NAT is left: %v", left)
	}
	if n := tables.PortForwardingRules.Len(w.read()); n > 0 {
		t.Errorf("%d rules are left", n)
	}
	if err := w.check(); err != nil {
		t.Error(err)
	}
}
