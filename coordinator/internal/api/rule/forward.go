package rule

import (
	"cmp"
	"iter"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// ForwardAnswer is a port forwarding rule as clients see it. Ports are texts: clients want them so.
type ForwardAnswer struct {
	ID             cloud.ID   `json:"id" doc:"the rule"`
	PrivatePort    string     `json:"privateport" doc:"first port of the VM"`
	PrivateEndPort string     `json:"privateendport" doc:"last port of the VM"`
	Protocol       string     `json:"protocol" doc:"tcp or udp"`
	PublicPort     string     `json:"publicport" doc:"first public port"`
	PublicEndPort  string     `json:"publicendport" doc:"last public port"`
	VMID           cloud.ID   `json:"virtualmachineid" doc:"the VM"`
	VMName         string     `json:"virtualmachinename,omitempty" doc:"name of the VM"`
	VMDisplayName  string     `json:"virtualmachinedisplayname,omitempty" doc:"display name of the VM"`
	VMGuestIP      netip.Addr `json:"vmguestip" doc:"address of the VM"`
	IPAddressID    cloud.ID   `json:"ipaddressid" doc:"the public address"`
	IPAddress      netip.Addr `json:"ipaddress" doc:"that address"`
	NetworkID      cloud.ID   `json:"networkid" doc:"guest network of the VM"`
	State          string     `json:"state" doc:"Add until the router has it, Active, Deleting"`
	CIDRList       string     `json:"cidrlist" doc:"sources the firewall was opened for, separated by commas"`
	ForDisplay     bool       `json:"fordisplay" doc:"true"`
	Tags           []api.Tag  `json:"tags" doc:"tags"`
}

func viewForward(r store.Reader, p *cloud.PortForwardingRule) ForwardAnswer {
	port := func(n uint16) string { return strconv.Itoa(int(n)) }
	a := ForwardAnswer{
		ID: p.ID, PrivatePort: port(p.PrivateStart), PrivateEndPort: port(p.PrivateEnd), Protocol: p.Protocol,
		PublicPort: port(p.PublicStart), PublicEndPort: port(p.PublicEnd), VMID: p.VMID, VMGuestIP: p.GuestIP, IPAddressID: p.IPID,
		NetworkID: p.NetworkID, State: p.State.String(), CIDRList: strings.Join(p.CIDRs, ","), ForDisplay: true, Tags: api.TagsOf(r, p.ID),
	}
	if vm, ok := tables.VMs.Get(r, p.VMID); ok {
		a.VMName, a.VMDisplayName = vm.Name, vm.DisplayName
	}
	if ip, ok := tables.PublicIPs.Get(r, p.IPID); ok {
		a.IPAddress = ip.Address
	}
	return a
}

type forwardParams struct {
	IPAddressID    cloud.ID   `api:"ipaddressid,required" ref:"ipaddress" doc:"the public address"`
	PrivatePort    *int       `api:"privateport,required" doc:"first port of the VM"`
	PrivateEndPort *int       `api:"privateendport" doc:"last port of the VM"`
	Protocol       string     `api:"protocol,required" doc:"tcp or udp"`
	PublicPort     *int       `api:"publicport,required" doc:"first public port"`
	PublicEndPort  *int       `api:"publicendport" doc:"last public port"`
	VMID           cloud.ID   `api:"virtualmachineid,required" ref:"virtualmachine" doc:"the VM"`
	CIDRList       []string   `api:"cidrlist" doc:"sources to open the firewall for; any when absent"`
	NetworkID      cloud.ID   `api:"networkid" ref:"network" doc:"network of the VM and the address"`
	OpenFirewall   *bool      `api:"openfirewall" doc:"true (the default): open the firewall for the public ports as well"`
	VMGuestIP      netip.Addr `api:"vmguestip" since:"4.2" doc:"address of the VM; that of its NIC in the network when absent"`
}

func (h handlers) forward() api.Command {
	return api.Command{
		Name: "createPortForwardingRule", Doc: "Sends ports of a public address to a VM.", Roles: api.Everyone,
		Event: "NET.RULEADD", Entity: "PortForwardingRule", Object: "portforwardingrule",
		Run: api.AsyncCreate(func(c *api.Call, tx *store.Tx, p *forwardParams) (*api.Start, error) {
			ip, err := get(tx, tables.PublicIPs, "ipaddressid", p.IPAddressID)
			if err != nil {
				return nil, err
			}
			vm, err := get(tx, tables.VMs, "virtualmachineid", p.VMID)
			if err != nil {
				return nil, err
			}
			if !p.NetworkID.IsZero() && p.NetworkID != ip.NetworkID {
				return nil, cloud.Errorf(cloud.Invalid, "Public address %s does not belong to the network of parameter networkid", ip.Address)
			}
			f, err := h.Area.Forward(tx, ip, network.ForwardRequest{
				Protocol: p.Protocol, PublicStart: p.PublicPort, PublicEnd: p.PublicEndPort, PrivateStart: p.PrivatePort, PrivateEnd: p.PrivateEndPort,
				VM: vm, GuestIP: p.VMGuestIP, Open: p.OpenFirewall == nil || *p.OpenFirewall, CIDRs: p.CIDRList,
			})
			return startForward(c, tx, f, "Port forwarding on "+ip.Address.String(), err)
		}),
		Step: h.Area.ForwardStep, Answer: reflect.TypeFor[ForwardAnswer](), Result: forwardResult,
	}
}

// forwardResult is the rule as it is when the job ends.
func forwardResult(r store.Reader, _ *api.ResultContext, j *cloud.Job) (any, error) {
	f, err := get(r, tables.PortForwardingRules, "id", j.InstanceID)
	if err != nil {
		return nil, err
	}
	return viewForward(r, f), nil
}

type updateForwardParams struct {
	ID             cloud.ID   `api:"id" ref:"portforwardingrule" since:"4.4" doc:"the rule; or, as in 4.1, ipaddressid, protocol and publicport"`
	IPAddressID    cloud.ID   `api:"ipaddressid" ref:"ipaddress" doc:"public address of the rule"`
	Protocol       string     `api:"protocol" doc:"protocol of the rule: tcp or udp"`
	PublicPort     *int       `api:"publicport" type:"string" doc:"first public port of the rule"`
	PrivatePort    *int       `api:"privateport" doc:"new first port of the VM"`
	PrivateEndPort *int       `api:"privateendport" since:"4.4" doc:"new last port of the VM"`
	PrivateIP      netip.Addr `api:"privateip" doc:"new address of the VM; vmguestip is another name of it"`
	VMGuestIP      netip.Addr `api:"vmguestip" since:"4.5" doc:"new address of the VM; that of its NIC in the network when absent"`
	VMID           cloud.ID   `api:"virtualmachineid" ref:"virtualmachine" doc:"the VM that the rule leads to from now on"`
	CIDRList       []string   `api:"cidrlist" since:"4.22" doc:"new sources that the firewall was opened for with the rule"`
}

// rule finds the rule that is meant.
func (p *updateForwardParams) rule(r store.Reader) (*cloud.PortForwardingRule, error) {
	if !p.ID.IsZero() {
		return get(r, tables.PortForwardingRules, "id", p.ID)
	}
	if p.IPAddressID.IsZero() || p.Protocol == "" || p.PublicPort == nil {
		return nil, cloud.Errorf(cloud.Invalid, "Parameter id is needed, or ipaddressid, protocol and publicport")
	}
	for f := range tables.PortForwardingRules.By(r, "ip", store.K(p.IPAddressID)) {
		if !f.Static && strings.EqualFold(f.Protocol, p.Protocol) && int(f.PublicStart) == *p.PublicPort {
			return f, nil
		}
	}
	return nil, cloud.Errorf(cloud.Invalid, "No port forwarding rule of the address begins at publicport=%d with protocol=%s", *p.PublicPort, p.Protocol)
}

func (h handlers) updateForward() api.Command {
	return api.Command{
		Name: "updatePortForwardingRule", Doc: "Has a port forwarding rule lead to another VM or to other ports.", Roles: api.Everyone,
		Event: "NET.RULEMODIFY", Entity: "PortForwardingRule", Object: "portforwardingrule",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *updateForwardParams) (*api.Start, error) {
			f, err := p.rule(tx)
			if err != nil {
				return nil, err
			}
			change := network.ForwardChange{PrivateStart: p.PrivatePort, PrivateEnd: p.PrivateEndPort, GuestIP: p.VMGuestIP, CIDRs: p.CIDRList}
			if p.PrivateIP.IsValid() {
				change.GuestIP = p.PrivateIP
			}
			if !p.VMID.IsZero() {
				if change.VM, err = get(tx, tables.VMs, "virtualmachineid", p.VMID); err != nil {
					return nil, err
				}
			}
			before := network.Target(f)
			s, err := startForward(c, tx, f, "Port forwarding", h.Area.UpdateForward(tx, f, change))
			if err == nil {
				s.Args = network.ForwardChanged{Before: before, After: network.Target(f)}
			}
			return s, err
		}),
		Step: h.Area.UpdateForwardStep, Answer: reflect.TypeFor[ForwardAnswer](), Result: forwardResult,
	}
}

func startForward(c *api.Call, tx *store.Tx, f *cloud.PortForwardingRule, text string, err error) (*api.Start, error) {
	if err != nil {
		return nil, err
	}
	o := api.Owner{Account: f.AccountID, Domain: f.DomainID}
	c.Describe(f.ID, text)
	c.EventOwner(o)
	return &api.Start{InstanceID: f.ID, Deadline: network.ConfirmWait(tx), Owner: o}, nil
}

type listForwardsParams struct {
	api.ListParams
	api.OwnedParams
	api.TagParams
	ID          cloud.ID `api:"id" doc:"this rule only"`
	IPAddressID cloud.ID `api:"ipaddressid" ref:"ipaddress" doc:"rules of this public address"`
	NetworkID   cloud.ID `api:"networkid" ref:"network" since:"4.3" doc:"rules of this network"`
}

func (h handlers) listForwards() api.Command {
	return api.Command{
		Name: "listPortForwardingRules", Doc: "Lists port forwarding rules.", Roles: api.Everyone, Object: "portforwardingrule",
		Run: listRules(func(p *listForwardsParams) ruleFilter {
			return ruleFilter{id: p.ID, ip: p.IPAddressID, network: p.NetworkID}
		}),
	}
}

// ruleFilter is which forwarding rules a list is about; zero fields do not matter.
type ruleFilter struct {
	static              bool
	id, ip, network, vm cloud.ID
}

// listRules lists port forwarding rules, or those that open ports of static NAT addresses: rows of one table.
func listRules[P any](filter func(p *P) ruleFilter) api.Handler {
	t := tables.PortForwardingRules
	return api.List(api.Lister[P, cloud.PortForwardingRule, ForwardAnswer]{
		Rows: func(c *api.Call, p *P) (iter.Seq[*cloud.PortForwardingRule], error) {
			want := filter(p)
			rows := t.All(c.Read)
			switch account, one := c.Scope.Account(); {
			case !want.ip.IsZero():
				rows = t.By(c.Read, "ip", store.K(want.ip))
			case !want.network.IsZero():
				rows = t.By(c.Read, "network", store.K(want.network))
			case !want.vm.IsZero():
				rows = t.By(c.Read, "vm", store.K(want.vm))
			case one:
				rows = t.By(c.Read, "account", store.K(account))
			}
			is := func(want, have cloud.ID) bool { return want.IsZero() || want == have }
			return func(yield func(*cloud.PortForwardingRule) bool) {
				for f := range rows {
					keep := f.Static == want.static && is(want.id, f.ID) && is(want.network, f.NetworkID) && is(want.vm, f.VMID)
					if keep && !yield(f) {
						return
					}
				}
			}, nil
		},
		Owner: func(_ *api.Call, f *cloud.PortForwardingRule) api.Owner {
			return api.Owner{Account: f.AccountID, Domain: f.DomainID}
		},
		Keyword: func(f *cloud.PortForwardingRule) string { return f.Protocol + "\n" + f.GuestIP.String() },
		Less: func(a, b *cloud.PortForwardingRule) int {
			return cmp.Or(a.Created.Compare(b.Created), slices.Compare(a.ID[:], b.ID[:]))
		},
		View: func(c *api.Call, f *cloud.PortForwardingRule) ForwardAnswer { return viewForward(c.Read, f) },
	})
}

type unforwardParams struct {
	ID cloud.ID `api:"id,required" ref:"portforwardingrule" doc:"the rule"`
}

func (h handlers) unforward() api.Command {
	return api.Command{
		Name: "deletePortForwardingRule", Doc: "Stops sending ports of a public address to a VM.", Roles: api.Everyone,
		Event: "NET.RULEDELETE", Entity: "PortForwardingRule",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *unforwardParams) (*api.Start, error) {
			f, err := get(tx, tables.PortForwardingRules, "id", p.ID)
			if err != nil {
				return nil, err
			}
			return startForward(c, tx, f, "Port forwarding", h.Area.Unforward(tx, f))
		}),
		Step: h.Area.UnforwardStep,
	}
}
