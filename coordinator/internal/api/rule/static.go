package rule

import (
	"net/netip"
	"reflect"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

type enableStaticParams struct {
	IPAddressID cloud.ID   `api:"ipaddressid,required" ref:"ipaddress" doc:"the public address"`
	VMID        cloud.ID   `api:"virtualmachineid,required" ref:"virtualmachine" doc:"the VM it is to lead to"`
	NetworkID   cloud.ID   `api:"networkid" ref:"network" doc:"network of the VM and the address"`
	VMGuestIP   netip.Addr `api:"vmguestip" since:"4.2" doc:"address of the VM; that of its NIC in the network when absent"`
}

func (h handlers) enableStatic() api.Command {
	return api.Command{
		Name: "enableStaticNat", Doc: "Makes a public address lead to one VM as a whole, both ways.", Roles: api.Everyone,
		Event: "STATICNAT.ENABLE", Entity: "IpAddress",
		Run: api.Delete(func(c *api.Call, tx *store.Tx, p *enableStaticParams) error {
			ip, err := get(tx, tables.PublicIPs, "ipaddressid", p.IPAddressID)
			if err != nil {
				return err
			}
			vm, err := get(tx, tables.VMs, "virtualmachineid", p.VMID)
			if err != nil {
				return err
			}
			if !p.NetworkID.IsZero() && p.NetworkID != ip.NetworkID {
				return cloud.Errorf(cloud.Invalid, "Public address %s does not belong to the network of parameter networkid", ip.Address)
			}
			c.Describe(ip.ID, "Static nat of "+ip.Address.String()+" to "+vm.DisplayName)
			return h.Area.EnableStatic(tx, ip, vm, p.VMGuestIP)
		}),
	}
}

type disableStaticParams struct {
	IPAddressID cloud.ID `api:"ipaddressid,required" ref:"ipaddress" doc:"the public address"`
}

func (h handlers) disableStatic() api.Command {
	return api.Command{
		Name: "disableStaticNat", Doc: "Ends the static NAT of a public address, with the rules that opened ports of it.", Roles: api.Everyone,
		Event: "STATICNAT.DISABLE", Entity: "IpAddress",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *disableStaticParams) (*api.Start, error) {
			ip, err := get(tx, tables.PublicIPs, "ipaddressid", p.IPAddressID)
			if err != nil {
				return nil, err
			}
			o := api.Owner{Account: ip.AccountID, Domain: ip.DomainID}
			c.Describe(ip.ID, "Static nat of "+ip.Address.String())
			c.EventOwner(o)
			return &api.Start{InstanceID: ip.ID, Deadline: network.ConfirmWait(tx), Owner: o}, h.Area.DisableStatic(tx, ip)
		}),
		Step: func(*store.Tx, *job.State) (job.Outcome, error) { return job.Done(), nil },
	}
}

type openStaticParams struct {
	IPAddressID  cloud.ID `api:"ipaddressid,required" ref:"ipaddress" doc:"the static NAT address"`
	Protocol     string   `api:"protocol,required" doc:"tcp or udp"`
	StartPort    *int     `api:"startport,required" doc:"first port"`
	EndPort      *int     `api:"endport" doc:"last port"`
	CIDRList     []string `api:"cidrlist" doc:"sources to open the firewall for; any when absent"`
	OpenFirewall *bool    `api:"openfirewall" doc:"true (the default): open the firewall for the ports as well"`
}

func (h handlers) openStatic() api.Command {
	return api.Command{
		Name: "createIpForwardingRule", Doc: "Opens ports of a static NAT address.", Roles: api.Everyone,
		Event: "NET.RULEADD", Entity: "IpForwardingRule", Object: "ipforwardingrule",
		Run: api.AsyncCreate(func(c *api.Call, tx *store.Tx, p *openStaticParams) (*api.Start, error) {
			ip, err := get(tx, tables.PublicIPs, "ipaddressid", p.IPAddressID)
			if err != nil {
				return nil, err
			}
			f, err := h.Area.OpenStatic(tx, ip, network.ForwardRequest{
				Protocol: p.Protocol, PublicStart: p.StartPort, PublicEnd: p.EndPort, PrivateStart: p.StartPort, PrivateEnd: p.EndPort,
				Open: p.OpenFirewall == nil || *p.OpenFirewall, CIDRs: p.CIDRList,
			})
			return startForward(c, tx, f, "Ports of static nat address "+ip.Address.String(), err)
		}),
		Step:   h.Area.ForwardStep,
		Answer: reflect.TypeFor[ForwardAnswer](),
		Result: func(r store.Reader, _ *api.ResultContext, j *cloud.Job) (any, error) {
			f, err := get(r, tables.PortForwardingRules, "id", j.InstanceID)
			if err != nil {
				return nil, err
			}
			return viewForward(r, f), nil
		},
	}
}

type listStaticParams struct {
	api.ListParams
	api.OwnedParams
	ID          cloud.ID `api:"id" doc:"this rule only"`
	IPAddressID cloud.ID `api:"ipaddressid" ref:"ipaddress" doc:"rules of this public address"`
	VMID        cloud.ID `api:"virtualmachineid" ref:"virtualmachine" doc:"rules of addresses that lead to this VM"`
}

func (h handlers) listStatic() api.Command {
	return api.Command{
		Name: "listIpForwardingRules", Doc: "Lists the rules that open ports of static NAT addresses.", Roles: api.Everyone, Object: "ipforwardingrule",
		Run: listRules(func(p *listStaticParams) ruleFilter {
			return ruleFilter{static: true, id: p.ID, ip: p.IPAddressID, vm: p.VMID}
		}),
	}
}

type closeStaticParams struct {
	ID cloud.ID `api:"id,required" ref:"ipforwardingrule" doc:"the rule"`
}

func (h handlers) closeStatic() api.Command {
	return api.Command{
		Name: "deleteIpForwardingRule", Doc: "Closes ports of a static NAT address.", Roles: api.Everyone,
		Event: "NET.RULEDELETE", Entity: "IpForwardingRule",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *closeStaticParams) (*api.Start, error) {
			f, err := get(tx, tables.PortForwardingRules, "id", p.ID)
			if err != nil {
				return nil, err
			}
			return startForward(c, tx, f, "Ports of a static nat address", h.Area.Unforward(tx, f))
		}),
		Step: h.Area.UnforwardStep,
	}
}
