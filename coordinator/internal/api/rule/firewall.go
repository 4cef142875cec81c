package rule

import (
	"cmp"
	"iter"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// FirewallAnswer is a firewall or egress rule as clients see it.
type FirewallAnswer struct {
	ID           cloud.ID   `json:"id" doc:"the rule"`
	Protocol     string     `json:"protocol" doc:"tcp, udp, icmp or all"`
	StartPort    *int64     `json:"startport,omitempty" doc:"first port; all when absent"`
	EndPort      *int64     `json:"endport,omitempty" doc:"last port"`
	IPAddressID  cloud.ID   `json:"ipaddressid,omitempty" doc:"public address it opens"`
	IPAddress    netip.Addr `json:"ipaddress,omitempty" doc:"that address"`
	NetworkID    cloud.ID   `json:"networkid" doc:"guest network it belongs to"`
	State        string     `json:"state" doc:"Add until the router has it, Active, Deleting"`
	CIDRList     string     `json:"cidrlist" doc:"sources, separated by commas"`
	DestCIDRList *string    `json:"destcidrlist,omitempty" doc:"destinations of an egress rule; all"`
	ICMPType     *int64     `json:"icmptype,omitempty" doc:"ICMP type; -1 is any"`
	ICMPCode     *int64     `json:"icmpcode,omitempty" doc:"ICMP code; -1 is any"`
	TrafficType  string     `json:"traffictype" doc:"Ingress or Egress"`
	ForDisplay   bool       `json:"fordisplay" doc:"false: only root admins see the rule"`
	Tags         []api.Tag  `json:"tags" doc:"tags"`
}

func viewFirewall(r store.Reader, f *cloud.FirewallRule) FirewallAnswer {
	a := FirewallAnswer{
		ID: f.ID, Protocol: f.Protocol, IPAddressID: f.IPID, NetworkID: f.NetworkID, State: f.State.String(),
		CIDRList: strings.Join(f.CIDRs, ","), TrafficType: "Ingress", ForDisplay: !f.Hidden, Tags: api.TagsOf(r, f.ID),
	}
	number := func(n int64) *int64 { return &n }
	if f.StartPort != 0 {
		a.StartPort, a.EndPort = number(int64(f.StartPort)), number(int64(f.EndPort))
	}
	if f.Protocol == "icmp" {
		a.ICMPType, a.ICMPCode = number(int64(f.ICMPType)), number(int64(f.ICMPCode))
	}
	if f.Egress {
		a.TrafficType, a.DestCIDRList = "Egress", new(string)
	}
	if ip, ok := tables.PublicIPs.Get(r, f.IPID); ok {
		a.IPAddress = ip.Address
	}
	return a
}

func firewallResult(r store.Reader, _ *api.ResultContext, j *cloud.Job) (any, error) {
	f, err := get(r, tables.FirewallRules, "id", j.InstanceID)
	if err != nil {
		return nil, err
	}
	return viewFirewall(r, f), nil
}

// matchParams say which packets a rule is about.
type matchParams struct {
	Protocol  string   `api:"protocol,required" doc:"tcp, udp, icmp; for egress rules also all"`
	CIDRList  []string `api:"cidrlist" doc:"IPv4 networks of the sources; any when absent"`
	StartPort *int     `api:"startport" doc:"first port; all when absent"`
	EndPort   *int     `api:"endport" doc:"last port; the first one when absent"`
	ICMPType  *int     `api:"icmptype" doc:"ICMP type; -1 (the default) is any"`
	ICMPCode  *int     `api:"icmpcode" doc:"ICMP code; -1 (the default) is any"`
	Display   *bool    `api:"fordisplay" role:"admin" since:"4.4" doc:"false: only root admins see the rule"`
}

func (m *matchParams) request() network.FirewallRequest {
	return network.FirewallRequest{
		Protocol: m.Protocol, Start: m.StartPort, End: m.EndPort, ICMPType: m.ICMPType, ICMPCode: m.ICMPCode, CIDRs: m.CIDRList,
		Hidden: m.Display != nil && !*m.Display,
	}
}

type openParams struct {
	matchParams
	IPAddressID cloud.ID `api:"ipaddressid,required" ref:"ipaddress" doc:"public address to open"`
}

func (h handlers) open() api.Command {
	return api.Command{
		Name: "createFirewallRule", Doc: "Lets traffic to a public address in.", Roles: api.Everyone,
		Event: "FIREWALL.OPEN", Entity: "FirewallRule", Object: "firewallrule",
		Run: api.AsyncCreate(func(c *api.Call, tx *store.Tx, p *openParams) (*api.Start, error) {
			ip, err := get(tx, tables.PublicIPs, "ipaddressid", p.IPAddressID)
			if err != nil {
				return nil, err
			}
			f, err := h.Area.OpenFirewall(tx, ip, p.request())
			return startFirewall(c, tx, f, "Firewall rule on "+ip.Address.String(), err)
		}),
		Step: h.Area.OpenStep, Answer: reflect.TypeFor[FirewallAnswer](), Result: firewallResult,
	}
}

func startFirewall(c *api.Call, tx *store.Tx, f *cloud.FirewallRule, text string, err error) (*api.Start, error) {
	if err != nil {
		return nil, err
	}
	o := api.Owner{Account: f.AccountID, Domain: f.DomainID}
	c.Describe(f.ID, text)
	c.EventOwner(o)
	return &api.Start{InstanceID: f.ID, Deadline: network.ConfirmWait(tx), Owner: o}, nil
}

type openEgressParams struct {
	matchParams
	NetworkID    cloud.ID `api:"networkid,required" ref:"network" doc:"network whose guests it is about"`
	DestCIDRList []string `api:"destcidrlist" since:"4.11" doc:"destinations; only 0.0.0.0/0 is known"`
}

func (h handlers) openEgress() api.Command {
	return api.Command{
		Name: "createEgressFirewallRule", Doc: "Makes an exception to what guests of a network may reach by default.", Roles: api.Everyone,
		Event: "FIREWALL.OPEN", Entity: "FirewallRule", Object: "firewallrule",
		Run: api.AsyncCreate(func(c *api.Call, tx *store.Tx, p *openEgressParams) (*api.Start, error) {
			n, err := get(tx, tables.Networks, "networkid", p.NetworkID)
			if err != nil {
				return nil, err
			}
			q := p.request()
			q.DestCIDRs = p.DestCIDRList
			f, err := h.Area.OpenEgress(tx, n, q)
			return startFirewall(c, tx, f, "Egress rule of network "+n.Name, err)
		}),
		Step: h.Area.OpenStep, Answer: reflect.TypeFor[FirewallAnswer](), Result: firewallResult,
	}
}

type updateIngressParams struct {
	ID cloud.ID `api:"id,required" ref:"firewallrule" doc:"the rule"`
	updateParams
}

// updateParams is what can be changed of a rule: nothing of what it says.
type updateParams struct {
	CustomID string `api:"customid" role:"admin" doc:"id that the rule has from now on"`
	Display  *bool  `api:"fordisplay" role:"admin" doc:"whether not only root admins see the rule"`
}

func (h handlers) updateIngress() api.Command {
	return api.Command{
		Name: "updateFirewallRule", Doc: "Changes the id of a firewall rule, or who sees it.", Since: "4.4", Roles: api.Everyone,
		Event: "FIREWALL.UPDATE", Entity: "FirewallRule", Object: "firewallrule",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *updateIngressParams) (*api.Start, error) {
			return h.update(c, tx, p.ID, p.updateParams)
		}),
		Step: updated, Answer: reflect.TypeFor[FirewallAnswer](), Result: firewallResult,
	}
}

type updateEgressParams struct {
	ID cloud.ID `api:"id,required" ref:"egressfirewallrule" doc:"the rule"`
	updateParams
}

func (h handlers) updateEgress() api.Command {
	return api.Command{
		Name: "updateEgressFirewallRule", Doc: "Changes the id of an egress rule, or who sees it.", Since: "4.4", Roles: api.Everyone,
		Event: "FIREWALL.EGRESS.UPDATE", Entity: "FirewallRule", Object: "firewallrule",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *updateEgressParams) (*api.Start, error) {
			return h.update(c, tx, p.ID, p.updateParams)
		}),
		Step: updated, Answer: reflect.TypeFor[FirewallAnswer](), Result: firewallResult,
	}
}

func (h handlers) update(c *api.Call, tx *store.Tx, id cloud.ID, p updateParams) (*api.Start, error) {
	f, err := get(tx, tables.FirewallRules, "id", id)
	if err != nil {
		return nil, err
	}
	if p.Display != nil {
		f.Hidden = !*p.Display
	}
	var custom cloud.ID
	if p.CustomID != "" {
		if custom, err = cloud.ParseID(p.CustomID); err != nil || custom.IsZero() {
			return nil, cloud.Errorf(cloud.Invalid, "Invalid customid=%s: an id such as %s is accepted", p.CustomID, id)
		}
	}
	return startFirewall(c, tx, f, "Firewall rule", h.Area.UpdateFirewall(tx, f, custom))
}

// updated: everything was done with the call.
func updated(*store.Tx, *job.State) (job.Outcome, error) { return job.Done(), nil }

// displayParam tells rules that only root admins see from the others.
type displayParam struct {
	Display *bool `api:"fordisplay" role:"admin" since:"4.4" doc:"only rules that all see (true), or that only root admins see (false)"`
}

type listIngressParams struct {
	api.ListParams
	api.OwnedParams
	api.TagParams
	ID          cloud.ID `api:"id" doc:"this rule only"`
	IPAddressID cloud.ID `api:"ipaddressid" ref:"ipaddress" doc:"rules of this public address"`
	NetworkID   cloud.ID `api:"networkid" ref:"network" since:"4.3" doc:"rules of this network"`
	displayParam
}

func (h handlers) listIngress() api.Command {
	return api.Command{
		Name: "listFirewallRules", Doc: "Lists the rules that let traffic to public addresses in.", Roles: api.Everyone, Object: "firewallrule",
		Run: api.List(firewallLister(func(c *api.Call, p *listIngressParams) iter.Seq[*cloud.FirewallRule] {
			return firewallRows(c, false, p.ID, p.IPAddressID, p.NetworkID, p.Display)
		})),
	}
}

type listEgressParams struct {
	api.ListParams
	api.OwnedParams
	api.TagParams
	ID        cloud.ID `api:"id" doc:"this rule only"`
	NetworkID cloud.ID `api:"networkid" ref:"network" doc:"rules of this network"`
	displayParam
}

func (h handlers) listEgress() api.Command {
	return api.Command{
		Name: "listEgressFirewallRules", Doc: "Lists the exceptions to what guests may reach by default.", Roles: api.Everyone, Object: "firewallrule",
		Run: api.List(firewallLister(func(c *api.Call, p *listEgressParams) iter.Seq[*cloud.FirewallRule] {
			return firewallRows(c, true, p.ID, cloud.ID{}, p.NetworkID, p.Display)
		})),
	}
}

func firewallLister[P any](rows func(*api.Call, *P) iter.Seq[*cloud.FirewallRule]) api.Lister[P, cloud.FirewallRule, FirewallAnswer] {
	return api.Lister[P, cloud.FirewallRule, FirewallAnswer]{
		Rows: func(c *api.Call, p *P) (iter.Seq[*cloud.FirewallRule], error) { return rows(c, p), nil },
		Owner: func(_ *api.Call, f *cloud.FirewallRule) api.Owner {
			return api.Owner{Account: f.AccountID, Domain: f.DomainID}
		},
		Keyword: func(f *cloud.FirewallRule) string { return f.Protocol + "\n" + strings.Join(f.CIDRs, "\n") },
		Less: func(a, b *cloud.FirewallRule) int {
			return cmp.Or(a.Created.Compare(b.Created), slices.Compare(a.ID[:], b.ID[:]))
		},
		View: func(c *api.Call, f *cloud.FirewallRule) FirewallAnswer { return viewFirewall(c.Read, f) },
	}
}

// firewallRows finds rules by the narrowest index.
func firewallRows(c *api.Call, egress bool, id, ip, net cloud.ID, display *bool) iter.Seq[*cloud.FirewallRule] {
	t := tables.FirewallRules
	rows := t.All(c.Read)
	switch account, one := c.Scope.Account(); {
	case !ip.IsZero():
		rows = t.By(c.Read, "ip", store.K(ip))
	case !net.IsZero():
		rows = t.By(c.Read, "network", store.K(net))
	case one:
		rows = t.By(c.Read, "account", store.K(account))
	}
	return func(yield func(*cloud.FirewallRule) bool) {
		for f := range rows {
			keep := f.Egress == egress && (id.IsZero() || f.ID == id) && (net.IsZero() || f.NetworkID == net) &&
				(!f.Hidden || c.IsRoot()) && (display == nil || *display == !f.Hidden)
			if keep && !yield(f) {
				return
			}
		}
	}
}

type closeIngressParams struct {
	ID cloud.ID `api:"id,required" ref:"firewallrule" doc:"the rule"`
}

func (h handlers) closeIngress() api.Command {
	return api.Command{
		Name: "deleteFirewallRule", Doc: "Removes a rule that lets traffic to a public address in.", Roles: api.Everyone,
		Event: "FIREWALL.CLOSE", Entity: "FirewallRule",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *closeIngressParams) (*api.Start, error) {
			return h.close(c, tx, p.ID)
		}),
		Step: job.Step(h.Area.CloseStep),
	}
}

type closeEgressParams struct {
	ID cloud.ID `api:"id,required" ref:"egressfirewallrule" doc:"the rule"`
}

func (h handlers) closeEgress() api.Command {
	return api.Command{
		Name: "deleteEgressFirewallRule", Doc: "Removes an exception to what guests may reach by default.", Roles: api.Everyone,
		Event: "FIREWALL.CLOSE", Entity: "FirewallRule",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *closeEgressParams) (*api.Start, error) {
			return h.close(c, tx, p.ID)
		}),
		Step: job.Step(h.Area.CloseStep),
	}
}

func (h handlers) close(c *api.Call, tx *store.Tx, id cloud.ID) (*api.Start, error) {
	f, err := get(tx, tables.FirewallRules, "id", id)
	if err != nil {
		return nil, err
	}
	return startFirewall(c, tx, f, "Firewall rule", h.Area.CloseFirewall(tx, f))
}
