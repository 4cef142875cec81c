package network_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// The offerings that every cloud has, with what keeps networks from being made of them.
func TestDefaultOfferings(t *testing.T) {
	w := newWorld(t, 1)
	var b strings.Builder
	for o := range tables.NetworkOfferings.By(w.read(), "name", nil) {
		fmt.Fprintf(&b, "%s: %s %s %s %s", o.Name, o.TrafficType, o.GuestType, o.State, o.Availability)
		for _, x := range []struct {
			is   bool
			text string
		}{
			{o.System, "system"}, {o.Default, "default"}, {o.SpecifyVLAN, "vlan"}, {o.SpecifyIPRanges, "ranges"}, {o.ConserveMode, "conserve"}, {o.ForVPC, "vpc"},
		} {
			if x.is {
				b.WriteString(" " + x.text)
			}
		}
		b.WriteString("\n ")
		for _, s := range o.Services {
			fmt.Fprintf(&b, " %s/%s", s.Name, strings.Join(s.Providers, "+"))
		}
		fmt.Fprintf(&b, "\n  lacks: %s\n", network.Lacks(o))
	}
	want := `DefaultIsolatedNetworkOffering: Guest Isolated Enabled Optional default vlan ranges conserve
  Dhcp/VirtualRouter Dns/VirtualRouter UserData/VirtualRouter
  lacks: 
DefaultIsolatedNetworkOfferingForVpcNetworks: Guest Isolated Disabled Optional default vpc
  Dhcp/VpcVirtualRouter Dns/VpcVirtualRouter UserData/VpcVirtualRouter SourceNat/VpcVirtualRouter StaticNat/VpcVirtualRouter PortForwarding/VpcVirtualRouter Lb/VpcVirtualRouter Vpn/VpcVirtualRouter NetworkACL/VpcVirtualRouter
  lacks: VPCs, service Dhcp of provider VpcVirtualRouter, service Dns of provider VpcVirtualRouter, service UserData of provider VpcVirtualRouter, service SourceNat of provider VpcVirtualRouter, service StaticNat of provider VpcVirtualRouter, service PortForwarding of provider VpcVirtualRouter, service Lb of provider VpcVirtualRouter, service Vpn of provider VpcVirtualRouter, service NetworkACL of provider VpcVirtualRouter
DefaultIsolatedNetworkOfferingForVpcNetworksNoLB: Guest Isolated Disabled Optional default vpc
  Dhcp/VpcVirtualRouter Dns/VpcVirtualRouter UserData/VpcVirtualRouter SourceNat/VpcVirtualRouter StaticNat/VpcVirtualRouter PortForwarding/VpcVirtualRouter Vpn/VpcVirtualRouter NetworkACL/VpcVirtualRouter
  lacks: VPCs, service Dhcp of provider VpcVirtualRouter, service Dns of provider VpcVirtualRouter, service UserData of provider VpcVirtualRouter, service SourceNat of provider VpcVirtualRouter, service StaticNat of provider VpcVirtualRouter, service PortForwarding of provider VpcVirtualRouter, service Vpn of provider VpcVirtualRouter, service NetworkACL of provider VpcVirtualRouter
DefaultIsolatedNetworkOfferingWithSourceNatService: Guest Isolated Enabled Required default conserve
  Dhcp/VirtualRouter Dns/VirtualRouter UserData/VirtualRouter SourceNat/VirtualRouter StaticNat/VirtualRouter Firewall/VirtualRouter PortForwarding/VirtualRouter
  lacks: 
DefaultSharedNetscalerEIPandELBNetworkOffering: Guest Shared Disabled Optional default vlan ranges conserve
  Dhcp/VirtualRouter Dns/VirtualRouter UserData/VirtualRouter StaticNat/Netscaler Lb/Netscaler SecurityGroup/SecurityGroupProvider
  lacks: Shared networks, service StaticNat of provider Netscaler, service Lb of provider Netscaler, service SecurityGroup of provider SecurityGroupProvider
DefaultSharedNetworkOffering: Guest Shared Disabled Optional default vlan ranges conserve
  Dhcp/VirtualRouter Dns/VirtualRouter UserData/VirtualRouter
  lacks: Shared networks
DefaultSharedNetworkOfferingWithSGService: Guest Shared Disabled Optional default vlan ranges conserve
  Dhcp/VirtualRouter Dns/VirtualRouter UserData/VirtualRouter SecurityGroup/SecurityGroupProvider
  lacks: Shared networks, service SecurityGroup of provider SecurityGroupProvider
QuickCloudNoServices: Guest Shared Disabled Optional default vlan ranges conserve
 
  lacks: Shared networks
System-Control-Network: Control Isolated Enabled Optional system default
 
  lacks: 
System-Management-Network: Management Isolated Enabled Optional system default
 
  lacks: 
System-Private-Gateway-Network-Offering: Guest Isolated Enabled Optional system default vlan ranges
 
  lacks: 
System-Public-Network: Public Isolated Enabled Optional system default ranges
 
  lacks: 
System-Storage-Network: Storage Isolated Enabled Optional system default ranges
 
  lacks: 
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
}

// Bootstrap adds what is new and undoes nothing that an operator did.
func TestDefaultOfferingsOfAnOlderCloud(t *testing.T) {
	w := newWorld(t, 1)
	ID := func(name string) cloud.ID { return cloud.NameID("network_offering", name) }
	before := w.read().Index()
	w.do(w.area.Bootstrap)
	if w.read().Index() != before {
		t.Error("a second Bootstrap wrote")
	}
	edit := func(tx *store.Tx, name string, f func(o *cloud.NetworkOffering)) {
		t.Helper()
		if err := tables.NetworkOfferings.Edit(tx, ID(name), func(o *cloud.NetworkOffering) error { f(o); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	w.do(func(tx *store.Tx) error {
		for _, name := range []string{"DefaultSharedNetworkOffering", "QuickCloudNoServices"} {
			if err := tables.NetworkOfferings.Delete(tx, ID(name)); err != nil {
				return err
			}
		}
		own := &cloud.NetworkOffering{ID: tx.NewID(), Name: "QuickCloudNoServices", TrafficType: network.Guest}
		edit(tx, "DefaultSharedNetworkOfferingWithSGService", func(o *cloud.NetworkOffering) { o.Name = "renamed" })
		edit(tx, network.DefaultOffering, func(o *cloud.NetworkOffering) { o.Services = o.Services[:3] })
		// As a version without VLANs would have left it; and one that an operator disabled.
		edit(tx, "DefaultIsolatedNetworkOffering", func(o *cloud.NetworkOffering) { o.State, o.Held = cloud.OfferingDisabled, true })
		return tables.NetworkOfferings.Put(tx, own)
	})
	w.do(w.area.Bootstrap)
	get := func(name string) *cloud.NetworkOffering {
		o, _ := tables.NetworkOfferings.First(w.read(), "name", store.K(name))
		return o
	}
	if o := get("DefaultSharedNetworkOffering"); o == nil || o.State != cloud.OfferingDisabled {
		t.Errorf("what an older version did not have: %+v", o)
	}
	if o := get("QuickCloudNoServices"); o.Default {
		t.Error("an operator's offering lost its name")
	}
	if get("DefaultSharedNetworkOfferingWithSGService") != nil || get("renamed") == nil {
		t.Error("one that was renamed was made again")
	}
	if o := get(network.DefaultOffering); len(o.Services) != 7 {
		t.Errorf("the default offering did not grow: %+v", o.Services)
	}
	o := get("DefaultIsolatedNetworkOffering")
	if o.State != cloud.OfferingEnabled || o.Held {
		t.Errorf("what this version has was not enabled: %+v", o)
	}
	w.do(func(tx *store.Tx) error {
		return w.area.UpdateOffering(tx, o, network.OfferingChange{State: "Disabled"})
	})
	w.do(w.area.Bootstrap)
	if o := get("DefaultIsolatedNetworkOffering"); o.State != cloud.OfferingDisabled {
		t.Error("what an operator disabled was enabled")
	}
}

// Nobody gets a network that cannot be, and nobody can enable its offering; the refusal names what is missing.
func TestOfferingsThatLack(t *testing.T) {
	w := newWorld(t, 1)
	for _, c := range []struct{ name, lacks string }{
		{"DefaultSharedNetworkOffering", "this version has no Shared networks"},
		{"DefaultSharedNetworkOfferingWithSGService", "service SecurityGroup of provider SecurityGroupProvider"},
		{"DefaultSharedNetscalerEIPandELBNetworkOffering", "service Lb of provider Netscaler"},
		{"DefaultIsolatedNetworkOfferingForVpcNetworks", "this version has no VPCs"},
		{"QuickCloudNoServices", "this version has no Shared networks"},
		{"System-Public-Network", "Unable to find network offering by specified id"},
	} {
		o, _ := tables.NetworkOfferings.First(w.read(), "name", store.K(c.name))
		w.refused(t, cloud.Invalid, c.lacks, func(tx *store.Tx) error {
			q := w.request("net")
			q.Offering, q.Admin, q.Root, q.VLAN = o, true, true, "9000"
			_, err := w.area.CreateGuest(tx, q)
			return err
		})
		if o.System {
			continue
		}
		w.refused(t, cloud.Invalid, c.lacks, func(tx *store.Tx) error {
			return w.area.UpdateOffering(tx, o, network.OfferingChange{State: "Enabled"})
		})
	}
}

// DefaultIsolatedNetworkOffering makes a network whose gateway is elsewhere: nobody but an admin chooses its segment, and
// its range is given.
func TestIsolatedWithoutSourceNat(t *testing.T) {
	w := newWorld(t, 1)
	o, _ := tables.NetworkOfferings.First(w.read(), "name", store.K("DefaultIsolatedNetworkOffering"))
	create := func(q network.GuestRequest) func(tx *store.Tx) error {
		return func(tx *store.Tx) error {
			_, err := w.area.CreateGuest(tx, q)
			return err
		}
	}
	q := w.request("wire")
	q.Offering, q.Admin, q.VLAN = o, true, "9000"
	w.refused(t, cloud.Invalid, "Parameters gateway, netmask, startip and endip are needed", create(q))
	q.Gateway, q.Netmask, q.Start, q.End = addr("10.9.0.1"), "255.255.255.0", addr("10.9.0.10"), addr("10.9.0.20")
	q.VLAN = ""
	w.refused(t, cloud.Invalid, "Parameter vlan is needed", create(q))
	q.VLAN, q.Admin = "9000", false
	w.refused(t, cloud.Denied, "not allowed to specify vlan", create(q))
	q.Admin = true
	var n *cloud.Network
	w.do(func(tx *store.Tx) (err error) {
		n, err = w.area.CreateGuest(tx, q)
		return err
	})
	vm := w.vm(n)
	if err := w.start(vm, w.hosts[0]); err != nil {
		t.Fatal(err)
	}
	services := w.area.Render(w.read(), w.hosts[0], w.network(n.ID)).GetServices()
	if services.GetDhcp4().GetGateway() != "10.9.0.1" || len(services.GetRoutes()) != 0 || services.GetNat() != nil {
		t.Errorf("the namespace of a network without a router: %v", services)
	}
}
