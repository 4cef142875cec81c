package address

import (
	"net/netip"
	"reflect"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

type associateParams struct {
	Account   string     `api:"account" doc:"account whose network gets it; with domainid"`
	DomainID  cloud.ID   `api:"domainid" ref:"domain,use" doc:"domain of that account"`
	ProjectID cloud.ID   `api:"projectid" doc:"project whose network gets it"`
	NetworkID cloud.ID   `api:"networkid" ref:"network" doc:"network that gets it"`
	VPCID     string     `api:"vpcid" type:"uuid" doc:"VPC that gets it"`
	ZoneID    cloud.ID   `api:"zoneid" ref:"zone,use" doc:"zone, where networkid is absent: the account's only network there gets it"`
	IPAddress netip.Addr `api:"ipaddress" since:"4.13" doc:"the free address wanted; any when absent"`
}

func (h handlers) associate() api.Command {
	return api.Command{
		Name: "associateIpAddress", Doc: "Gives a free public address to a guest network.", Roles: api.Everyone,
		Event: "NET.IPASSIGN", Entity: "IpAddress", Object: "ipaddress",
		Run: api.AsyncCreate(func(c *api.Call, tx *store.Tx, p *associateParams) (*api.Start, error) {
			if p.VPCID != "" {
				return nil, cloud.Errorf(cloud.Invalid, "Invalid parameter vpcid value=%s due to incorrect long value format, or entity does not exist", p.VPCID)
			}
			n, err := target(c, tx, p)
			if err != nil {
				return nil, err
			}
			ip, err := h.Area.Associate(tx, n, p.IPAddress)
			if err != nil {
				return nil, err
			}
			c.Describe(ip.ID, "Public address "+ip.Address.String()+" for network "+n.Name)
			c.EventOwner(owner(ip))
			return &api.Start{InstanceID: ip.ID, Deadline: network.ConfirmWait(tx), Owner: owner(ip)}, nil
		}),
		Step:   h.Area.AssociateStep,
		Answer: reflect.TypeFor[Answer](),
		Result: func(r store.Reader, c *api.ResultContext, j *cloud.Job) (any, error) {
			ip, ok := tables.PublicIPs.Get(r, j.InstanceID)
			if !ok {
				return nil, api.NoEntity("id", j.InstanceID)
			}
			return view(r, ip, c.IsRoot(r, j)), nil
		},
	}
}

// target is the network that is to get the address.
func target(c *api.Call, tx *store.Tx, p *associateParams) (*cloud.Network, error) {
	account, err := c.OwnerFor(p.Account, p.DomainID, p.ProjectID)
	if err != nil {
		return nil, err
	}
	if !p.NetworkID.IsZero() {
		n, ok := tables.Networks.Get(tx, p.NetworkID)
		switch {
		case !ok:
			return nil, api.NoEntity("networkid", p.NetworkID)
		case p.Account != "" && n.AccountID != account.ID:
			return nil, cloud.Errorf(cloud.Invalid, "Network %s does not belong to account %s", n.Name, account.Name)
		case !p.ZoneID.IsZero() && n.ZoneID != p.ZoneID:
			return nil, cloud.Errorf(cloud.Invalid, "Network %s is not in the zone of parameter zoneid", n.Name)
		}
		return n, nil
	}
	zone, ok := tables.Zones.Get(tx, p.ZoneID)
	if !ok {
		return nil, cloud.Errorf(cloud.Invalid, "Parameter networkid or zoneid is needed")
	}
	list, err := network.DefaultNetworks(tx, account, zone)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, cloud.Errorf(cloud.Invalid, "Account %s has no isolated network in zone %s that could get a public address; create one first", account.Name, zone.Name)
	}
	return list[0], nil
}

type disassociateParams struct {
	ID cloud.ID `api:"id,required" ref:"ipaddress" doc:"the public address"`
}

func (h handlers) disassociate() api.Command {
	return api.Command{
		Name: "disassociateIpAddress", Doc: "Gives a public address back, with the rules on it.", Roles: api.Everyone,
		Event: "NET.IPRELEASE", Entity: "IpAddress",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *disassociateParams) (*api.Start, error) {
			ip, ok := tables.PublicIPs.Get(tx, p.ID)
			if !ok {
				return nil, api.NoEntity("id", p.ID)
			}
			c.Describe(ip.ID, "Public address "+ip.Address.String())
			c.EventOwner(owner(ip))
			return &api.Start{InstanceID: ip.ID, Deadline: network.ConfirmWait(tx), Owner: owner(ip)}, h.Area.Disassociate(tx, ip)
		}),
		Step: h.Area.ReleaseStep,
	}
}
