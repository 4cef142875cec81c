package network_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// running is a world with a network that runs and its VM.
func running(t testing.TB) (*world, *cloud.Network, *cloud.VM) {
	t.Helper()
	w := newWorld(t, 1)
	n := w.guest("net")
	vm := w.vm(n)
	if err := w.start(vm, w.hosts[0]); err != nil {
		t.Fatal(err)
	}
	w.settle()
	return w, w.network(n.ID), vm
}

func (w *world) open(ip *cloud.PublicIP, q network.FirewallRequest) *cloud.FirewallRule {
	w.t.Helper()
	var f *cloud.FirewallRule
	w.do(func(tx *store.Tx) (err error) { f, err = w.area.OpenFirewall(tx, ip, q); return err })
	return f
}

func (w *world) forward(ip *cloud.PublicIP, q network.ForwardRequest) *cloud.PortForwardingRule {
	w.t.Helper()
	var p *cloud.PortForwardingRule
	w.do(func(tx *store.Tx) (err error) { p, err = w.area.Forward(tx, ip, q); return err })
	return p
}

// A router loads all rules of an address, and each new one is compared with all: an account may have so many. Rules of
// others, and the other direction, do not count.
func TestRulesAreBounded(t *testing.T) {
	w, n, vm := running(t)
	ip := w.source(n.ID)
	w.set("network.rules.limit", "3")
	for i := range 3 {
		w.open(ip, network.FirewallRequest{Protocol: "tcp", Start: number(100 + i)})
		w.forward(ip, network.ForwardRequest{Protocol: "tcp", PublicStart: number(100 + i), PrivateStart: number(100 + i), VM: vm})
	}
	w.refused(t, cloud.LimitExceeded, "has 3 rules, and may have 3 (setting network.rules.limit)", func(tx *store.Tx) error {
		_, err := w.area.OpenFirewall(tx, ip, network.FirewallRequest{Protocol: "tcp", Start: number(200)})
		return err
	})
	w.refused(t, cloud.LimitExceeded, "has 3 rules", func(tx *store.Tx) error {
		_, err := w.area.Forward(tx, ip, network.ForwardRequest{Protocol: "tcp", PublicStart: number(200), PrivateStart: number(200), VM: vm})
		return err
	})
	egress := func(port int) error {
		return w.update(func(tx *store.Tx) error {
			_, err := w.area.OpenEgress(tx, n, network.FirewallRequest{Protocol: "tcp", Start: number(port)})
			return err
		})
	}
	for i := range 3 {
		if err := egress(100 + i); err != nil {
			t.Errorf("egress rule %d: %v", i, err)
		}
	}
	if err := egress(200); cloud.CodeOf(err) != cloud.LimitExceeded {
		t.Errorf("a fourth egress rule: %v", err)
	}
}

func TestFirewallRefuses(t *testing.T) {
	w, n, _ := running(t)
	ip := w.source(n.ID)
	w.open(ip, network.FirewallRequest{Protocol: "tcp", Start: number(100), End: number(200), CIDRs: []string{"192.0.2.0/24"}})
	w.open(ip, network.FirewallRequest{Protocol: "icmp", ICMPType: number(8)})
	w.open(ip, network.FirewallRequest{Protocol: "udp"})
	// Not the same packets: another protocol, other ports, other sources, all ports beside some.
	w.open(ip, network.FirewallRequest{Protocol: "udp", Start: number(100), CIDRs: []string{"192.0.2.0/24"}})
	w.open(ip, network.FirewallRequest{Protocol: "tcp", Start: number(201), CIDRs: []string{"192.0.2.0/24"}})
	w.open(ip, network.FirewallRequest{Protocol: "tcp", Start: number(150), CIDRs: []string{"192.0.2.0/25"}})
	w.open(ip, network.FirewallRequest{Protocol: "icmp", ICMPType: number(8), ICMPCode: number(0)})
	for _, c := range []struct {
		code cloud.Code
		text string
		q    network.FirewallRequest
	}{
		{cloud.NetworkRuleConflict, "tcp ports 100-200", network.FirewallRequest{Protocol: "tcp", Start: number(200), End: number(300), CIDRs: []string{"10.0.0.0/8", "192.0.2.7/24"}}},
		{cloud.NetworkRuleConflict, "tcp ports 100-200", network.FirewallRequest{Protocol: "TCP", Start: number(50), End: number(300), CIDRs: []string{"192.0.2.0/24"}}},
		{cloud.NetworkRuleConflict, "icmp", network.FirewallRequest{Protocol: "icmp", ICMPType: number(8), ICMPCode: number(-1)}},
		{cloud.NetworkRuleConflict, "udp all ports", network.FirewallRequest{Protocol: "udp"}},
		{cloud.Invalid, `Protocol "gre" is not supported`, network.FirewallRequest{Protocol: "gre"}},
		{cloud.Invalid, `Protocol "all" is not supported`, network.FirewallRequest{Protocol: "all"}},
		{cloud.Invalid, "Invalid port 0", network.FirewallRequest{Protocol: "tcp", Start: number(0)}},
		{cloud.Invalid, "Invalid port 65536", network.FirewallRequest{Protocol: "tcp", Start: number(1), End: number(65536)}},
		{cloud.Invalid, "Start port can't be bigger than end port", network.FirewallRequest{Protocol: "tcp", Start: number(9), End: number(8)}},
		{cloud.Invalid, "An end port needs a start port", network.FirewallRequest{Protocol: "tcp", End: number(8)}},
		{cloud.Invalid, "for ICMP protocol only", network.FirewallRequest{Protocol: "tcp", Start: number(9), ICMPType: number(8)}},
		{cloud.Invalid, "Can't specify start/end port when protocol is ICMP", network.FirewallRequest{Protocol: "icmp", Start: number(9)}},
		{cloud.Invalid, "Invalid value 256 of icmptype", network.FirewallRequest{Protocol: "icmp", ICMPType: number(256)}},
		{cloud.Invalid, "Invalid value -2 of icmpcode", network.FirewallRequest{Protocol: "icmp", ICMPType: number(8), ICMPCode: number(-2)}},
		{cloud.Invalid, "icmpcode needs an icmptype", network.FirewallRequest{Protocol: "icmp", ICMPCode: number(1)}},
		{cloud.Invalid, `Source cidrs formatting error "10.0.0.0"`, network.FirewallRequest{Protocol: "tcp", CIDRs: []string{"10.0.0.0"}}},
		{cloud.Invalid, `Source cidrs formatting error "2001:db8::/32"`, network.FirewallRequest{Protocol: "tcp", CIDRs: []string{"2001:db8::/32"}}},
		{cloud.Invalid, `formatting error "0.0.0.0/0; reboot"`, network.FirewallRequest{Protocol: "tcp", CIDRs: []string{"0.0.0.0/0; reboot"}}},
	} {
		t.Run(fmt.Sprint(c.text), func(t *testing.T) {
			w.refused(t, c.code, c.text, func(tx *store.Tx) error { _, err := w.area.OpenFirewall(tx, ip, c.q); return err })
		})
	}
	w.refused(t, cloud.Invalid, "is not with in the guest network cidr 10.1.1.0/24", func(tx *store.Tx) error {
		_, err := w.area.OpenEgress(tx, n, network.FirewallRequest{Protocol: "tcp", CIDRs: []string{"10.1.0.0/16"}})
		return err
	})
	w.refused(t, cloud.Invalid, "destcidrlist is not supported", func(tx *store.Tx) error {
		_, err := w.area.OpenEgress(tx, n, network.FirewallRequest{Protocol: "tcp", DestCIDRs: []string{"8.8.8.8/32"}})
		return err
	})
}

func TestForwardRefuses(t *testing.T) {
	w, n, vm := running(t)
	ip := w.source(n.ID)
	w.forward(ip, network.ForwardRequest{Protocol: "tcp", PublicStart: number(100), PublicEnd: number(110), PrivateStart: number(100), PrivateEnd: number(110), VM: vm})
	w.forward(ip, network.ForwardRequest{Protocol: "udp", PublicStart: number(105), PrivateStart: number(5), VM: vm}) // another protocol
	elsewhere := w.vm(w.guest("other"))
	foreign := *vm
	foreign.AccountID = id(3, 9)
	dead := *vm
	dead.State = cloud.VMDestroyed
	for _, c := range []struct {
		code cloud.Code
		text string
		q    network.ForwardRequest
	}{
		{cloud.NetworkRuleConflict, "The range specified, 110, conflicts with rule", network.ForwardRequest{Protocol: "TCP", PublicStart: number(110), PrivateStart: number(1), VM: vm}},
		{cloud.NetworkRuleConflict, "which has 100-110", network.ForwardRequest{Protocol: "tcp", PublicStart: number(90), PublicEnd: number(120), PrivateStart: number(90), PrivateEnd: number(120), VM: vm}},
		{cloud.Invalid, `Protocol "icmp" is not supported`, network.ForwardRequest{Protocol: "icmp", PublicStart: number(1), PrivateStart: number(1), VM: vm}},
		{cloud.Invalid, "ranges should be of equal sizes", network.ForwardRequest{Protocol: "tcp", PublicStart: number(1), PublicEnd: number(3), PrivateStart: number(1), PrivateEnd: number(2), VM: vm}},
		{cloud.Invalid, "Private port start should be equal", network.ForwardRequest{Protocol: "tcp", PublicStart: number(1), PublicEnd: number(3), PrivateStart: number(2), PrivateEnd: number(4), VM: vm}},
		{cloud.Invalid, "publicport and privateport are needed", network.ForwardRequest{Protocol: "tcp", PublicStart: number(1), VM: vm}},
		{cloud.Invalid, "Invalid port 70000", network.ForwardRequest{Protocol: "tcp", PublicStart: number(70000), PrivateStart: number(1), VM: vm}},
		{cloud.Invalid, "has no NIC in network net", network.ForwardRequest{Protocol: "tcp", PublicStart: number(1), PrivateStart: number(1), VM: elsewhere}},
		{cloud.Invalid, "belong to different accounts", network.ForwardRequest{Protocol: "tcp", PublicStart: number(1), PrivateStart: number(1), VM: &foreign}},
		{cloud.Invalid, "is in state Destroyed", network.ForwardRequest{Protocol: "tcp", PublicStart: number(1), PrivateStart: number(1), VM: &dead}},
		{cloud.Invalid, "is not an address of virtual machine", network.ForwardRequest{Protocol: "tcp", PublicStart: number(1), PrivateStart: number(1), VM: vm, GuestIP: addr("10.1.1.77")}},
		{cloud.Invalid, "cidrlist needs openfirewall", network.ForwardRequest{Protocol: "tcp", PublicStart: number(1), PrivateStart: number(1), VM: vm, CIDRs: []string{"192.0.2.0/24"}}},
	} {
		t.Run(c.text, func(t *testing.T) {
			w.refused(t, c.code, c.text, func(tx *store.Tx) error { _, err := w.area.Forward(tx, ip, c.q); return err })
		})
	}
	free, _ := tables.PublicIPs.First(w.read(), "free", store.K(w.zone.ID))
	w.refused(t, cloud.Invalid, "is not in use by an account", func(tx *store.Tx) error {
		_, err := w.area.Forward(tx, free, network.ForwardRequest{Protocol: "tcp", PublicStart: number(1), PrivateStart: number(1), VM: vm})
		return err
	})
	w.refused(t, cloud.Invalid, "used for source nat purposes", func(tx *store.Tx) error { return w.area.Disassociate(tx, ip) })
}

// step runs a job's step twice, as a crash between commit and answer would, and tells both outcomes.
func (w *world) step(id cloud.ID, expired bool, f job.Step) string {
	w.t.Helper()
	var first, second job.Outcome
	for _, out := range []*job.Outcome{&first, &second} {
		w.do(func(tx *store.Tx) (err error) {
			*out, err = f(tx, &job.State{Job: &cloud.Job{InstanceID: id}, Expired: expired})
			return err
		})
	}
	if first.String() != second.String() && !expired {
		w.t.Errorf("the step said %s, and again %s", first, second)
	}
	return first.String()
}

func (w *world) rules() (list []string) {
	for f := range tables.FirewallRules.By(w.read(), "network", nil) {
		list = append(list, fmt.Sprintf("%s %d-%d %s", f.Protocol, f.StartPort, f.EndPort, f.State))
	}
	for p := range tables.PortForwardingRules.By(w.read(), "network", nil) {
		list = append(list, fmt.Sprintf("forward %d-%d to %s:%d %s", p.PublicStart, p.PublicEnd, p.GuestIP, p.PrivateStart, p.State))
	}
	return list
}

// A rule is in place when the router's host has applied a generation that has it, and gone when one that lacks it.
func TestLifeOfRules(t *testing.T) {
	w, n, vm := running(t)
	ip := w.source(n.ID)
	p := w.forward(ip, network.ForwardRequest{Protocol: "tcp", PublicStart: number(80), PrivateStart: number(8080), VM: vm, Open: true, CIDRs: []string{"192.0.2.0/24"}})
	if got := w.step(p.ID, false, w.area.ForwardStep); got != "wait[]" {
		t.Errorf("before the host answered: %s", got)
	}
	stale := w.observation(w.hosts[0])
	stale.Networks[0].Services.AppliedGeneration--
	for stale.Networks[0].Services.AppliedGeneration >= tables.PortForwardingRules.Version(w.read(), p.ID) {
		stale.Networks[0].Services.AppliedGeneration--
	}
	w.fold(w.hosts[0], stale)
	want := []string{"tcp 80-80 Add", "forward 80-80 to 10.1.1.2:8080 Add"}
	if diff := cmp.Diff(want, w.rules()); diff != "" {
		t.Error(diff)
	}
	w.settle()
	want = []string{"tcp 80-80 Active", "forward 80-80 to 10.1.1.2:8080 Active"}
	if diff := cmp.Diff(want, w.rules()); diff != "" {
		t.Error(diff)
	}
	if got := w.step(p.ID, false, w.area.ForwardStep); got != "done" {
		t.Errorf("after the host answered: %s", got)
	}
	w.do(func(tx *store.Tx) error {
		p, _ := tables.PortForwardingRules.Get(tx, p.ID)
		return w.area.Unforward(tx, p)
	})
	want = []string{"tcp 80-80 Deleting", "forward 80-80 to 10.1.1.2:8080 Deleting"}
	if diff := cmp.Diff(want, w.rules()); diff != "" {
		t.Error(diff)
	}
	if spec := w.render(w.hosts[0])[0].GetServices(); len(spec.GetPortfwd().GetRules()) != 0 || len(spec.GetFirewall().GetIngress()) != 0 {
		t.Error("a rule that is being deleted is rendered")
	}
	// The same ports may be given anew before the old rule is gone.
	again := w.forward(ip, network.ForwardRequest{Protocol: "tcp", PublicStart: number(80), PrivateStart: number(8081), VM: vm})
	if got := w.step(p.ID, false, w.area.UnforwardStep); got != "wait[]" {
		t.Errorf("before the host answered: %s", got)
	}
	w.settle()
	if got := w.step(p.ID, false, w.area.UnforwardStep) + w.step(again.ID, false, w.area.ForwardStep); got != "donedone" {
		t.Errorf("after the host answered: %s", got)
	}
	if diff := cmp.Diff([]string{"forward 80-80 to 10.1.1.2:8081 Active"}, w.rules()); diff != "" {
		t.Error(diff)
	}
}

// An add and its removal between two renderings leave something to wait for: the epoch makes a generation of its own.
func TestAddAndRemoveWithinOneRendering(t *testing.T) {
	w, n, _ := running(t)
	before := w.render(w.hosts[0])[0].GetServices().GetEpoch()
	f := w.open(w.source(n.ID), network.FirewallRequest{Protocol: "tcp", Start: number(1)})
	w.do(func(tx *store.Tx) error { return w.area.CloseFirewall(tx, f) })
	if after := w.render(w.hosts[0])[0].GetServices().GetEpoch(); after == before {
		t.Fatal("the host will not be told anything new")
	}
	w.settle()
	if got := w.rules(); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}

// A host that does not answer fails the call, which then has changed nothing.
func TestUnconfirmed(t *testing.T) {
	w, n, vm := running(t)
	ip := w.source(n.ID)
	p := w.forward(ip, network.ForwardRequest{Protocol: "tcp", PublicStart: number(80), PrivateStart: number(8080), VM: vm, Open: true})
	f := w.open(ip, network.FirewallRequest{Protocol: "udp"})
	var more *cloud.PublicIP
	w.do(func(tx *store.Tx) (err error) {
		more, err = w.area.Associate(tx, w.network(n.ID), netip.Addr{})
		return err
	})
	for what, got := range map[string]string{
		"The port forwarding rule":     w.step(p.ID, true, w.area.ForwardStep),
		"The firewall rule":            w.step(f.ID, true, w.area.OpenStep),
		"Public address 198.51.100.11": w.step(more.ID, true, w.area.AssociateStep),
	} {
		if want := "fail: " + what + " was not confirmed in time by router r-1-VM of network net on host h1, which is Up"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	w.settle()
	if got := w.rules(); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
	if got := w.count(cloud.ResourcePublicIP); got != 1 {
		t.Errorf("%d addresses counted", got)
	}
}

// Where nothing runs there is nobody to wait for.
func TestRulesOfANetworkThatDoesNotRun(t *testing.T) {
	w := newWorld(t, 1)
	n := w.guest("net")
	vm := w.vm(n)
	var ip *cloud.PublicIP
	w.do(func(tx *store.Tx) (err error) {
		ip, err = w.area.Associate(tx, w.network(n.ID), netip.Addr{})
		return err
	})
	p := w.forward(ip, network.ForwardRequest{Protocol: "tcp", PublicStart: number(80), PrivateStart: number(8080), VM: vm, Open: true})
	if diff := cmp.Diff([]string{"tcp 80-80 Active", "forward 80-80 to 10.1.1.2:8080 Active"}, w.rules()); diff != "" {
		t.Error(diff)
	}
	w.do(func(tx *store.Tx) error {
		p, _ := tables.PortForwardingRules.Get(tx, p.ID)
		return w.area.Unforward(tx, p)
	})
	if got := w.rules(); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}

// An address takes its rules along, and a VM the rules that lead to it. A source restriction outlives restarts of the
// router: what is rendered is the rows, always (2013-6398).
func TestRulesGoWithTheirAddressAndVM(t *testing.T) {
	w, n, vm := running(t)
	var more *cloud.PublicIP
	w.do(func(tx *store.Tx) (err error) {
		more, err = w.area.Associate(tx, w.network(n.ID), netip.Addr{})
		return err
	})
	w.open(more, network.FirewallRequest{Protocol: "tcp", Start: number(22), CIDRs: []string{"192.0.2.0/24"}})
	w.forward(more, network.ForwardRequest{Protocol: "tcp", PublicStart: number(22), PrivateStart: number(22), VM: vm})
	w.settle()
	restricted := func() {
		t.Helper()
		rules := w.render(w.hosts[0])[0].GetServices().GetFirewall().GetIngress()
		if len(rules) != 1 || !cmp.Equal(rules[0].GetCidrs(), []string{"192.0.2.0/24"}) {
			t.Fatalf("the source restriction is lost: %v", rules)
		}
	}
	restricted()
	w.do(func(tx *store.Tx) error { return w.area.Restart(tx, w.network(n.ID), true) })
	restricted()
	w.settle()
	restricted()

	w.do(func(tx *store.Tx) error {
		ip, _ := tables.PublicIPs.Get(tx, more.ID)
		return w.area.Disassociate(tx, ip)
	})
	if got := w.step(more.ID, false, w.area.ReleaseStep); got != "wait["+n.ID.String()+"]" {
		t.Errorf("before the host answered: %s", got)
	}
	w.refused(t, cloud.NoCapacity, "is not free", func(tx *store.Tx) error { // not before the router gave it up
		_, err := w.area.Associate(tx, w.network(n.ID), more.Address)
		return err
	})
	stale := w.observation(w.hosts[0])
	stale.Networks[0].Services.AppliedGeneration = tables.PublicIPs.Version(w.read(), more.ID) - 1
	w.fold(w.hosts[0], stale)
	if ip, _ := tables.PublicIPs.Get(w.read(), more.ID); ip.State != cloud.IPReleasing {
		t.Errorf("%s is %s while the router still answers for it", ip.Address, ip.State)
	}
	w.settle()
	if got := w.step(more.ID, false, w.area.ReleaseStep); got != "done" {
		t.Errorf("after the host answered: %s", got)
	}
	if got := w.rules(); len(got) != 0 {
		t.Errorf("left: %v", got)
	}

	w.forward(w.source(n.ID), network.ForwardRequest{Protocol: "tcp", PublicStart: number(22), PrivateStart: number(22), VM: vm, Open: true})
	w.stop(vm)
	w.expunge(vm)
	w.settle()
	if got := w.rules(); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
	if err := w.check(); err != nil {
		t.Error(err)
	}
}

// change is a call of UpdateForward, with the state of its job.
func (w *world) change(t *testing.T, id cloud.ID, c network.ForwardChange) *job.State {
	t.Helper()
	var s network.ForwardChanged
	w.do(func(tx *store.Tx) error {
		p, _ := tables.PortForwardingRules.Get(tx, id)
		s.Before = network.Target(p)
		err := w.area.UpdateForward(tx, p, c)
		s.After = network.Target(p)
		return err
	})
	args, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return &job.State{Job: &cloud.Job{InstanceID: id, Args: string(args)}}
}

func (w *world) updateStep(j *job.State, expired bool) string {
	w.t.Helper()
	j.Expired = expired
	var out job.Outcome
	for range 2 { // as after a crash
		var again job.Outcome
		w.do(func(tx *store.Tx) (err error) {
			again, err = w.area.UpdateForwardStep(tx, j)
			return err
		})
		if out.String() == (job.Outcome{}).String() {
			out = again
		}
	}
	return out.String()
}

// A rule leads elsewhere when the router has the change; where it never does, it leads where it did before.
func TestUpdateForward(t *testing.T) {
	w, n, vm := running(t)
	other := w.vm(n)
	ip := w.source(n.ID)
	p := w.forward(ip, network.ForwardRequest{Protocol: "tcp", PublicStart: number(80), PrivateStart: number(8080), VM: vm, Open: true})
	ranged := w.forward(ip, network.ForwardRequest{Protocol: "udp", PublicStart: number(100), PublicEnd: number(110), PrivateStart: number(100), PrivateEnd: number(110), VM: vm})
	w.settle()
	j := w.change(t, p.ID, network.ForwardChange{PrivateStart: number(8081), VM: other, CIDRs: []string{"192.0.2.7/24"}})
	if got := w.updateStep(j, false); got != "wait[]" {
		t.Errorf("before the host answered: %s", got)
	}
	w.settle()
	if got := w.updateStep(j, false); got != "done" {
		t.Errorf("after the host answered: %s", got)
	}
	sources := func() string {
		f, _ := tables.FirewallRules.First(w.read(), "related", store.K(p.ID))
		return fmt.Sprint(f.CIDRs)
	}
	want := []string{"tcp 80-80 Active", "forward 80-80 to 10.1.1.3:8081 Active", "forward 100-110 to 10.1.1.2:100 Active"}
	if diff := cmp.Diff(want, w.rules()); diff != "" || sources() != "[192.0.2.0/24]" {
		t.Error(diff, sources())
	}
	j = w.change(t, p.ID, network.ForwardChange{PrivateStart: number(9), VM: vm, CIDRs: []string{}})
	if got, want := w.updateStep(j, true), "fail: The change of the port forwarding rule was not confirmed in time"; !strings.HasPrefix(got, want) {
		t.Errorf("without an answer: %s", got)
	}
	if w.settle(); cmp.Diff(want, w.rules()) != "" || sources() != "[192.0.2.0/24]" {
		t.Errorf("a change that was not confirmed stayed: %v %s", w.rules(), sources())
	}
	for _, c := range []struct {
		text string
		id   cloud.ID
		q    network.ForwardChange
	}{
		{"Invalid port 70000", p.ID, network.ForwardChange{PrivateStart: number(70000)}},
		{"ranges should be of equal sizes", ranged.ID, network.ForwardChange{PrivateStart: number(100)}},
		{"Private port start should be equal", ranged.ID, network.ForwardChange{PrivateStart: number(101), PrivateEnd: number(111)}},
		{"is not an address of virtual machine", p.ID, network.ForwardChange{GuestIP: addr("10.1.1.77")}},
		{"formatting error", p.ID, network.ForwardChange{CIDRs: []string{"x"}}},
		{"cidrlist is for rules that the firewall was opened with", ranged.ID, network.ForwardChange{CIDRs: []string{"192.0.2.0/24"}}},
	} {
		w.refused(t, cloud.Invalid, c.text, func(tx *store.Tx) error {
			row, _ := tables.PortForwardingRules.Get(tx, c.id)
			return w.area.UpdateForward(tx, row, c.q)
		})
	}
	w.do(func(tx *store.Tx) error {
		row, _ := tables.PortForwardingRules.Get(tx, p.ID)
		return w.area.Unforward(tx, row)
	})
	w.refused(t, cloud.Invalid, "is being deleted", func(tx *store.Tx) error {
		row, _ := tables.PortForwardingRules.Get(tx, p.ID)
		return w.area.UpdateForward(tx, row, network.ForwardChange{PrivateStart: number(1)})
	})
}
