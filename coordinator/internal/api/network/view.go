package network

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/alloc"
	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/networkoffering"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Answer is a guest network as clients see it.
type Answer struct {
	ID                   cloud.ID     `json:"id" doc:"the network"`
	Name                 string       `json:"name" doc:"its name"`
	DisplayText          string       `json:"displaytext" doc:"its description"`
	BroadcastDomainType  string       `json:"broadcastdomaintype" doc:"Vlan or Vxlan"`
	TrafficType          string       `json:"traffictype" doc:"Guest"`
	Gateway              netip.Addr   `json:"gateway,omitempty" doc:"its gateway"`
	Netmask              string       `json:"netmask,omitempty" doc:"its netmask"`
	CIDR                 netip.Prefix `json:"cidr,omitempty" doc:"its subnet"`
	ZoneID               cloud.ID     `json:"zoneid" doc:"its zone"`
	ZoneName             string       `json:"zonename" doc:"name of the zone"`
	OfferingID           cloud.ID     `json:"networkofferingid" doc:"its offering"`
	OfferingName         string       `json:"networkofferingname" doc:"name of the offering"`
	OfferingDisplayText  string       `json:"networkofferingdisplaytext" doc:"description of the offering"`
	OfferingConserveMode bool         `json:"networkofferingconservemode" doc:"a public address may serve several purposes"`
	OfferingAvailability string       `json:"networkofferingavailability" doc:"availability of the offering"`
	IsSystem             bool         `json:"issystem" doc:"false"`
	State                string       `json:"state" doc:"Allocated, Implementing, Implemented, Shutdown or Destroy"`
	Related              cloud.ID     `json:"related" doc:"the network itself"`
	BroadcastURI         string       `json:"broadcasturi,omitempty" doc:"its VLAN or VNI (root admins)"`
	VLAN                 string       `json:"vlan,omitempty" doc:"its VLAN or VNI (root admins)"`
	DNS1                 netip.Addr   `json:"dns1,omitempty" doc:"resolver that names are forwarded to"`
	DNS2                 netip.Addr   `json:"dns2,omitempty" doc:"the second one"`
	Type                 string       `json:"type" doc:"Isolated"`
	ACLType              string       `json:"acltype" doc:"Account"`
	Account              string       `json:"account,omitempty" doc:"owning account"`
	api.InProject
	DomainID            cloud.ID                        `json:"domainid" doc:"domain of the owner"`
	Domain              string                          `json:"domain" doc:"name of that domain"`
	DomainPath          string                          `json:"domainpath" doc:"path of that domain"`
	Service             []networkoffering.ServiceAnswer `json:"service" doc:"its services"`
	NetworkDomain       string                          `json:"networkdomain,omitempty" doc:"its DNS domain"`
	PhysicalNetworkID   cloud.ID                        `json:"physicalnetworkid,omitempty" doc:"physical network that carries it"`
	RestartRequired     bool                            `json:"restartrequired" doc:"its router has to be restarted"`
	SpecifyIPRanges     bool                            `json:"specifyipranges" doc:"it has ranges of its own"`
	SpecifyVLAN         bool                            `json:"specifyvlan" doc:"its VLAN or VNI was chosen by the caller"`
	CanUseForDeploy     bool                            `json:"canusefordeploy" doc:"VMs can be deployed on it"`
	IsPersistent        bool                            `json:"ispersistent" doc:"it runs without VMs as well"`
	IsDefault           bool                            `json:"isdefault" doc:"false"`
	RedundantRouter     bool                            `json:"redundantrouter" doc:"false"`
	EgressDefaultPolicy bool                            `json:"egressdefaultpolicy" doc:"guests may reach everything unless a rule denies it"`
	StretchedL2         bool                            `json:"strechedl2subnet" doc:"false"`
	DisplayNetwork      bool                            `json:"displaynetwork" doc:"true"`
	Created             api.Time                        `json:"created" doc:"when it was made"`
	PrivateMTU          int64                           `json:"privatemtu,omitempty" doc:"largest packet inside, in bytes"`
	ReservedIPRange     string                          `json:"reservediprange,omitempty" doc:"addresses of the subnet that VMs do not get"`
	Tags                []api.Tag                       `json:"tags" doc:"tags"`
	api.Remarked        `of:"network"`
}

// view makes the answer; root shows what only root admins see.
func view(r store.Reader, n *cloud.Network, root bool) Answer {
	a := Answer{
		ID: n.ID, Name: n.Name, DisplayText: n.DisplayText, BroadcastDomainType: "Vlan", TrafficType: "Guest", Gateway: n.Gateway,
		CIDR: n.CIDR, ZoneID: n.ZoneID, OfferingID: n.OfferingID, State: n.State.String(), Related: n.ID, DNS1: n.DNS1, DNS2: n.DNS2,
		Type: n.GuestType.String(), ACLType: n.ACLType, DomainID: n.DomainID, NetworkDomain: n.NetworkDomain,
		PhysicalNetworkID: n.PhysicalNetworkID, RestartRequired: n.RestartNeeded, CanUseForDeploy: n.State != cloud.NetworkDestroy,
		IsPersistent: n.Persistent, DisplayNetwork: true, Created: api.Time(n.Created), PrivateMTU: int64(n.MTU), Tags: api.TagsOf(r, n.ID),
		Service: []networkoffering.ServiceAnswer{}, ReservedIPRange: reserved(n),
	}
	if n.Isolation == "VXLAN" {
		a.BroadcastDomainType = "Vxlan"
	}
	if n.CIDR.IsValid() {
		a.Netmask = alloc.Netmask(n.CIDR.Bits())
	}
	if root && n.Segment != 0 {
		a.VLAN = strconv.Itoa(int(n.Segment))
		a.BroadcastURI = strings.ToLower(a.BroadcastDomainType) + "://" + a.VLAN
	}
	if z, ok := tables.Zones.Get(r, n.ZoneID); ok {
		a.ZoneName = z.Name
		if !n.DNS1.IsValid() {
			a.DNS1, a.DNS2 = z.DNS1, z.DNS2
		}
	}
	if o, ok := tables.NetworkOfferings.Get(r, n.OfferingID); ok {
		a.OfferingName, a.OfferingDisplayText, a.OfferingConserveMode = o.Name, o.DisplayText, o.ConserveMode
		a.OfferingAvailability, a.Service, a.SpecifyIPRanges = o.Availability, networkoffering.Services(o), o.SpecifyIPRanges
		a.SpecifyVLAN, a.EgressDefaultPolicy = o.SpecifyVLAN, o.EgressAllow
	}
	a.Account, a.InProject = api.OwnerNames(r, n.AccountID)
	if d, ok := tables.Domains.Get(r, n.DomainID); ok {
		a.Domain, a.DomainPath = d.Name, d.Path
	}
	return a
}

// reserved names the parts of the subnet outside of the guests' range.
func reserved(n *cloud.Network) string {
	if !n.CIDR.IsValid() || !n.StartIP.IsValid() {
		return ""
	}
	first, last := alloc.Usable(n.CIDR)
	var parts []string
	if first.Less(n.StartIP) {
		parts = append(parts, fmt.Sprintf("%s-%s", first, n.StartIP.Prev()))
	}
	if n.EndIP.Less(last) {
		parts = append(parts, fmt.Sprintf("%s-%s", n.EndIP.Next(), last))
	}
	return strings.Join(parts, ", ")
}
