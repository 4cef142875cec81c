package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// ForwardRequest is a new port forwarding rule as it was asked for. nil means not given.
type ForwardRequest struct {
	Protocol                 string
	PublicStart, PublicEnd   *int
	PrivateStart, PrivateEnd *int
	VM                       *cloud.VM
	GuestIP                  netip.Addr // invalid: the VM's address in the network
	// Open adds a firewall rule for the same ports, from CIDRs (none: anywhere).
	Open  bool
	CIDRs []string
	// Static: the address leads to the VM as a whole, see OpenStatic.
	Static bool
}

// Forward writes a rule that sends ports of a public address to a VM.
//
// Errors: cloud.Invalid, cloud.NetworkRuleConflict.
func (a *Area) Forward(tx *store.Tx, ip *cloud.PublicIP, q ForwardRequest) (*cloud.PortForwardingRule, error) {
	service := PortForwarding
	if q.Static {
		service = StaticNat
	}
	n, err := networkOfIP(tx, ip, service)
	if err != nil {
		return nil, err
	}
	p := &cloud.PortForwardingRule{
		ID: tx.NewID(), IPID: ip.ID, NetworkID: n.ID, AccountID: ip.AccountID, DomainID: ip.DomainID,
		Protocol: strings.ToLower(q.Protocol), VMID: q.VM.ID, State: cloud.RuleAdd, Created: tx.Now(), Static: q.Static,
	}
	if p.Protocol != "tcp" && p.Protocol != "udp" {
		return nil, cloud.Errorf(cloud.Invalid, "Protocol %q is not supported; tcp and udp are known", q.Protocol)
	}
	if err := setPorts(p, q); err != nil {
		return nil, err
	}
	if p.GuestIP, err = forwardTarget(tx, n, ip, q); err != nil {
		return nil, err
	}
	if len(q.CIDRs) > 0 && !q.Open {
		return nil, cloud.Errorf(cloud.Invalid, "Parameter cidrlist needs openfirewall; or open the firewall with createFirewallRule")
	}
	if p.CIDRs, err = cidrs("cidrlist", q.CIDRs); err != nil {
		return nil, err
	}
	if err := room(tx, p.AccountID, tables.PortForwardingRules.Count(tx, "ip", store.K(ip.ID)), "The public address "+ip.Address.String()); err != nil {
		return nil, err
	}
	for o := range tables.PortForwardingRules.By(tx, "ip", store.K(ip.ID)) {
		if o.State != cloud.RuleRevoke && o.Protocol == p.Protocol && overlap(o.PublicStart, o.PublicEnd, p.PublicStart, p.PublicEnd) {
			return nil, cloud.Errorf(cloud.NetworkRuleConflict, "The range specified, %s, conflicts with rule %s which has %s",
				portRange(p.PublicStart, p.PublicEnd), o.ID, portRange(o.PublicStart, o.PublicEnd))
		}
	}
	if err := tables.PortForwardingRules.Put(tx, p); err != nil {
		return nil, err
	}
	if q.Open {
		if err := openFor(tx, p); err != nil {
			return nil, err
		}
	}
	return p, a.changed(tx, n)
}

// setPorts checks both ranges. A range keeps its numbers, as in CloudStack: the kernel's NAT does not shift one.
func setPorts(p *cloud.PortForwardingRule, q ForwardRequest) error {
	var err error
	if p.PublicStart, p.PublicEnd, err = ports(q.PublicStart, q.PublicEnd); err != nil {
		return err
	}
	if p.PrivateStart, p.PrivateEnd, err = ports(q.PrivateStart, q.PrivateEnd); err != nil {
		return err
	}
	switch {
	case p.PublicStart == 0 || p.PrivateStart == 0:
		return cloud.Errorf(cloud.Invalid, "Parameters publicport and privateport are needed")
	case p.PublicEnd-p.PublicStart != p.PrivateEnd-p.PrivateStart:
		return cloud.Errorf(cloud.Invalid, "Source port and destination port ranges should be of equal sizes")
	case p.PublicStart != p.PublicEnd && p.PublicStart != p.PrivateStart:
		return cloud.Errorf(cloud.Invalid, "Private port start should be equal to public port start where a range is forwarded")
	}
	return nil
}

// forwardTarget is the guest's address the rule leads to.
func forwardTarget(r store.Reader, n *cloud.Network, ip *cloud.PublicIP, q ForwardRequest) (netip.Addr, error) {
	if q.VM.AccountID != ip.AccountID {
		return netip.Addr{}, cloud.Errorf(cloud.Invalid, "Public address %s and virtual machine %s belong to different accounts", ip.Address, q.VM.ID)
	}
	if q.VM.State == cloud.VMDestroyed || q.VM.State == cloud.VMExpunging || q.VM.State == cloud.VMError {
		return netip.Addr{}, cloud.Errorf(cloud.Invalid, "Invalid virtual machine: %s is in state %s", q.VM.ID, q.VM.State)
	}
	for nic := range tables.NICs.By(r, "vm", store.K(q.VM.ID)) {
		if nic.NetworkID != n.ID {
			continue
		}
		if q.GuestIP.IsValid() && q.GuestIP != nic.IP {
			return netip.Addr{}, cloud.Errorf(cloud.Invalid, "Address %s is not an address of virtual machine %s in network %s", q.GuestIP, q.VM.ID, n.Name)
		}
		return nic.IP, nil
	}
	return netip.Addr{}, cloud.Errorf(cloud.Invalid, "Vm doesn't belong to network associated with ipAddress: %s has no NIC in network %s", q.VM.ID, n.Name)
}

// openFor writes the firewall rule that comes and goes with a forwarding rule. A rule that a user made for the same
// ports stays beside it, for each has its own life.
func openFor(tx *store.Tx, p *cloud.PortForwardingRule) error {
	f := &cloud.FirewallRule{
		ID: tx.NewID(), IPID: p.IPID, NetworkID: p.NetworkID, AccountID: p.AccountID, DomainID: p.DomainID,
		Protocol: p.Protocol, StartPort: p.PublicStart, EndPort: p.PublicEnd, ICMPType: -1, ICMPCode: -1,
		CIDRs: p.CIDRs, State: cloud.RuleAdd, RelatedID: p.ID, Created: tx.Now(),
	}
	if len(f.CIDRs) == 0 {
		f.CIDRs = []string{anywhere}
	}
	return tables.FirewallRules.Put(tx, f)
}

// ForwardChange is what UpdateForward changes of a rule; what is nil stays as it is.
type ForwardChange struct {
	PrivateStart, PrivateEnd *int
	VM                       *cloud.VM
	GuestIP                  netip.Addr // invalid: the VM's address in the network
	CIDRs                    []string
}

// ForwardTarget is where a rule leads to and for whom: what can be changed of it.
type ForwardTarget struct {
	VMID       cloud.ID   `json:"vm"`
	GuestIP    netip.Addr `json:"ip"`
	Start, End uint16
	CIDRs      []string `json:",omitempty"`
}

// Target is a rule's.
func Target(p *cloud.PortForwardingRule) ForwardTarget {
	return ForwardTarget{p.VMID, p.GuestIP, p.PrivateStart, p.PrivateEnd, p.CIDRs}
}

// UpdateForward has a rule lead elsewhere. The public ports stay: connections of others are not touched.
//
// Errors: cloud.Invalid.
func (a *Area) UpdateForward(tx *store.Tx, p *cloud.PortForwardingRule, c ForwardChange) error {
	if p.State == cloud.RuleRevoke {
		return cloud.Errorf(cloud.Invalid, "The port forwarding rule %s is being deleted", p.ID)
	}
	ip, ok := tables.PublicIPs.Get(tx, p.IPID)
	if !ok {
		return cloud.Errorf(cloud.Invalid, "The public address of port forwarding rule %s is gone", p.ID)
	}
	n, err := networkOfIP(tx, ip, PortForwarding)
	if err != nil {
		return err
	}
	if c.PrivateStart != nil || c.PrivateEnd != nil {
		start, end := int(p.PublicStart), int(p.PublicEnd)
		q := ForwardRequest{PublicStart: &start, PublicEnd: &end, PrivateStart: c.PrivateStart, PrivateEnd: c.PrivateEnd}
		if err := setPorts(p, q); err != nil {
			return err
		}
	}
	vm := c.VM
	if vm == nil && c.GuestIP.IsValid() {
		vm, _ = tables.VMs.Get(tx, p.VMID)
	}
	if vm != nil {
		if p.GuestIP, err = forwardTarget(tx, n, ip, ForwardRequest{VM: vm, GuestIP: c.GuestIP}); err != nil {
			return err
		}
		p.VMID = vm.ID
	}
	if c.CIDRs != nil {
		if tables.FirewallRules.Count(tx, "related", store.K(p.ID)) == 0 {
			return cloud.Errorf(cloud.Invalid, "Parameter cidrlist is for rules that the firewall was opened with; this one has firewall rules of its own, if any")
		}
		if p.CIDRs, err = cidrs("cidrlist", c.CIDRs); err != nil {
			return err
		}
	}
	return a.retarget(tx, n, p)
}

// retarget writes a changed rule, and the firewall rule that was opened with it.
func (a *Area) retarget(tx *store.Tx, n *cloud.Network, p *cloud.PortForwardingRule) error {
	p.State = cloud.RuleAdd
	if err := tables.PortForwardingRules.Put(tx, p); err != nil {
		return err
	}
	from := p.CIDRs
	if len(from) == 0 {
		from = []string{anywhere}
	}
	for f := range tables.FirewallRules.By(tx, "related", store.K(p.ID)) {
		if slices.Equal(f.CIDRs, from) {
			continue
		}
		f.CIDRs, f.State = from, cloud.RuleAdd
		if err := tables.FirewallRules.Put(tx, f); err != nil {
			return err
		}
	}
	return a.changed(tx, n)
}

// ForwardChanged is the state of a call that changes a rule.
type ForwardChanged struct{ Before, After ForwardTarget }

// UpdateForwardStep waits for a changed rule to hold, else has it lead where it did before, unless another call has
// changed it meanwhile.
func (a *Area) UpdateForwardStep(tx *store.Tx, j *job.State) (job.Outcome, error) {
	p, ok := tables.PortForwardingRules.Get(tx, j.InstanceID())
	switch {
	case !ok || p.State == cloud.RuleRevoke:
		return job.Fail(cloud.Errorf(cloud.Unavailable, "The port forwarding rule was deleted before its change was in place")), nil
	case p.State == cloud.RuleActive:
		return job.Done(), nil
	case !j.Expired:
		return job.Wait(), nil
	}
	failed := job.Fail(unconfirmed(tx, p.NetworkID, "The change of the port forwarding rule"))
	var s ForwardChanged
	if err := j.Args(&s); err != nil {
		return job.Outcome{}, err
	}
	n, ok := tables.Networks.Get(tx, p.NetworkID)
	if now := Target(p); !ok || now.VMID != s.After.VMID || now.GuestIP != s.After.GuestIP || now.Start != s.After.Start || !slices.Equal(now.CIDRs, s.After.CIDRs) {
		return failed, nil
	}
	p.VMID, p.GuestIP, p.PrivateStart, p.PrivateEnd, p.CIDRs = s.Before.VMID, s.Before.GuestIP, s.Before.Start, s.Before.End, s.Before.CIDRs
	return failed, a.retarget(tx, n, p)
}

// Unforward revokes a forwarding rule and the firewall rule it was opened with.
func (a *Area) Unforward(tx *store.Tx, p *cloud.PortForwardingRule) error {
	if err := revokeForwarding(tx, p); err != nil {
		return err
	}
	n, ok := tables.Networks.Get(tx, p.NetworkID)
	if !ok {
		return tables.PortForwardingRules.Delete(tx, p.ID)
	}
	return a.changed(tx, n)
}

// revokeForwarding marks a rule and what was opened with it; the caller sees to its network.
func revokeForwarding(tx *store.Tx, p *cloud.PortForwardingRule) error {
	for f := range tables.FirewallRules.By(tx, "related", store.K(p.ID)) {
		if err := revokeFirewall(tx, f); err != nil {
			return err
		}
	}
	p.State = cloud.RuleRevoke
	return tables.PortForwardingRules.Put(tx, p)
}

func portRange(lo, hi uint16) string {
	if lo == hi {
		return strconv.Itoa(int(lo))
	}
	return fmt.Sprintf("%d-%d", lo, hi)
}
