// Package networkoffering holds the commands of network offerings and of the network services they are made of. What
// they do is in package network.
package networkoffering

import (
	"maps"
	"slices"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Deps is what the commands need.
type Deps struct{ Area *network.Area }

// Commands lists the commands of this package.
func Commands(d Deps) []api.Command {
	h := handlers{d}
	return []api.Command{h.create(), h.list(), h.update(), h.delete(), listServices()}
}

// Entities lists what this package's rows are called in parameters. Offerings belong to nobody; those restricted to
// domains are used from there and below.
func Entities() []api.Entity {
	return []api.Entity{{
		Name: "networkoffering",
		Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) {
			o, ok := tables.NetworkOfferings.Get(r, id)
			if !ok || !o.Removed.IsZero() {
				return api.Owner{}, false
			}
			if len(o.DomainIDs) > 0 {
				return api.Owner{Domain: o.DomainIDs[0]}, true
			}
			return api.Owner{}, true
		},
		Usable: func(c *api.Call, id cloud.ID) bool {
			o, ok := tables.NetworkOfferings.Get(c.Read, id)
			return ok && visible(c, o)
		},
	}}
}

type handlers struct{ Deps }

// visible tells whether an offering is for the caller's domain.
func visible(c *api.Call, o *cloud.NetworkOffering) bool {
	if len(o.DomainIDs) == 0 || c.IsRoot() {
		return true
	}
	for id := c.Account.DomainID; !id.IsZero(); {
		if slices.Contains(o.DomainIDs, id) {
			return true
		}
		d, ok := tables.Domains.Get(c.Read, id)
		if !ok {
			return false
		}
		id = d.ParentID
	}
	return false
}

// ServiceAnswer is a network service as clients see it.
type ServiceAnswer struct {
	Name       string             `json:"name" doc:"the service"`
	Provider   []ProviderAnswer   `json:"provider,omitempty" doc:"who provides it"`
	Capability []CapabilityAnswer `json:"capability,omitempty" doc:"what it can do"`
}

// ProviderAnswer names a provider of a service.
type ProviderAnswer struct {
	Name string `json:"name" doc:"the provider"`
}

// CapabilityAnswer is one property of a service.
type CapabilityAnswer struct {
	Name      string `json:"name" doc:"the capability"`
	Value     string `json:"value" doc:"its value"`
	CanChoose bool   `json:"canchooseservicecapability" doc:"false: an offering cannot choose it"`
}

// Services shows the services of an offering, as networks and offerings list them. What a service can do is what it can
// do here, but for what the offering says of it, which is all there is of a service that this version does not have.
func Services(o *cloud.NetworkOffering) []ServiceAnswer {
	list := []ServiceAnswer{}
	for _, offered := range o.Services {
		s, ok := network.ServiceByName(offered.Name)
		if !ok || !slices.Contains(offered.Providers, network.VirtualRouter) {
			s = network.Service{Name: offered.Name}
		}
		a := viewService(s, offered.Providers)
		for _, name := range slices.Sorted(maps.Keys(offered.Capabilities)) {
			if !slices.ContainsFunc(a.Capability, func(c CapabilityAnswer) bool { return strings.EqualFold(c.Name, name) }) {
				a.Capability = append(a.Capability, CapabilityAnswer{Name: name, Value: offered.Capabilities[name]})
			}
		}
		list = append(list, a)
	}
	return list
}

func viewService(s network.Service, providers []string) ServiceAnswer {
	a := ServiceAnswer{Name: s.Name}
	for _, p := range providers {
		a.Provider = append(a.Provider, ProviderAnswer{p})
	}
	for _, c := range s.Capabilities {
		a.Capability = append(a.Capability, CapabilityAnswer{Name: c.Name, Value: c.Value})
	}
	return a
}

// Answer is a network offering as clients see it.
type Answer struct {
	ID                  cloud.ID          `json:"id" doc:"the offering"`
	Name                string            `json:"name" doc:"its name"`
	DisplayText         string            `json:"displaytext" doc:"its description"`
	Tags                string            `json:"tags,omitempty" doc:"tags that choose the physical network"`
	Created             api.Time          `json:"created" doc:"when it was made"`
	TrafficType         string            `json:"traffictype" doc:"Guest"`
	IsDefault           bool              `json:"isdefault" doc:"one that every cloud has"`
	SpecifyVLAN         bool              `json:"specifyvlan" doc:"networks are made with a VLAN or VNI of the caller's choice"`
	ConserveMode        bool              `json:"conservemode" doc:"a public address may serve several purposes"`
	SpecifyIPRanges     bool              `json:"specifyipranges" doc:"networks have ranges of their own"`
	Availability        string            `json:"availability" doc:"Optional or Required"`
	NetworkRate         int64             `json:"networkrate,omitempty" doc:"Mbit/s"`
	State               string            `json:"state" doc:"Enabled or Disabled"`
	GuestIPType         string            `json:"guestiptype" doc:"Isolated, or Shared for one that waits for a version that has such networks"`
	ServiceOfferingID   cloud.ID          `json:"serviceofferingid,omitempty" doc:"size of its router when that is a system VM"`
	Service             []ServiceAnswer   `json:"service" doc:"its services"`
	ForVPC              bool              `json:"forvpc" doc:"for tiers of VPCs"`
	IsPersistent        bool              `json:"ispersistent" doc:"networks run without VMs as well"`
	EgressDefaultPolicy bool              `json:"egressdefaultpolicy" doc:"guests may reach everything unless a rule denies it"`
	MaxConnections      int64             `json:"maxconnections,omitempty" doc:"connections of the load balancer"`
	Details             map[string]string `json:"details,omitempty" doc:"details kept with it"`
	DomainID            string            `json:"domainid,omitempty" doc:"domains it is restricted to"`
	Domain              string            `json:"domain,omitempty" doc:"names of those domains"`
	ZoneID              string            `json:"zoneid,omitempty" doc:"zones it is restricted to"`
	Zone                string            `json:"zone,omitempty" doc:"names of those zones"`
	StretchedL2         bool              `json:"supportsstrechedl2subnet" doc:"false"`
	PublicAccess        bool              `json:"supportspublicaccess" doc:"false"`
	InternalLB          bool              `json:"supportsinternallb" doc:"false"`
	SpecifyAS           bool              `json:"specifyasnumber" doc:"false"`
	NetworkMode         string            `json:"networkmode,omitempty" doc:"NATTED, where it has source NAT"`
	InternetProtocol    string            `json:"internetprotocol" doc:"IPv4"`
	api.Remarked        `of:"networkoffering"`
}

// natted is the mode of networks that reach others by their router's addresses.
const natted = "NATTED"

func view(r store.Reader, o *cloud.NetworkOffering) Answer {
	a := Answer{
		ID: o.ID, Name: o.Name, DisplayText: o.DisplayText, Tags: strings.Join(o.Tags, ","), Created: api.Time(o.Created),
		TrafficType: o.TrafficType, IsDefault: o.Default, SpecifyVLAN: o.SpecifyVLAN, ConserveMode: o.ConserveMode,
		SpecifyIPRanges: o.SpecifyIPRanges, Availability: o.Availability, NetworkRate: int64(o.NetworkRate), State: o.State.String(),
		GuestIPType: o.GuestType.String(), ServiceOfferingID: o.ServiceOfferingID, Service: Services(o), ForVPC: o.ForVPC,
		IsPersistent: o.Persistent, EgressDefaultPolicy: o.EgressAllow, MaxConnections: int64(o.MaxConnections), Details: o.Details,
		InternetProtocol: "IPv4",
	}
	if network.Offers(o, network.SourceNat) {
		a.NetworkMode = natted
	}
	var ids, names []string
	for _, id := range o.DomainIDs {
		if d, ok := tables.Domains.Get(r, id); ok {
			ids, names = append(ids, id.String()), append(names, d.Name)
		}
	}
	a.DomainID, a.Domain = strings.Join(ids, ","), strings.Join(names, ",")
	ids, names = nil, nil
	for _, id := range o.ZoneIDs {
		if z, ok := tables.Zones.Get(r, id); ok {
			ids, names = append(ids, id.String()), append(names, z.Name)
		}
	}
	a.ZoneID, a.Zone = strings.Join(ids, ","), strings.Join(names, ",")
	return a
}
