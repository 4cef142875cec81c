package physical

import (
	"iter"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// ProviderAnswer is a network service provider as clients see it.
type ProviderAnswer struct {
	ID                         cloud.ID `json:"id" doc:"the provider"`
	Name                       string   `json:"name" doc:"its name"`
	PhysicalNetworkID          cloud.ID `json:"physicalnetworkid" doc:"the physical network it is on"`
	State                      string   `json:"state" doc:"Enabled or Disabled"`
	ServiceList                []string `json:"servicelist" doc:"services it provides"`
	CanEnableIndividualService bool     `json:"canenableindividualservice" doc:"false: all its services or none"`
}

func viewProvider(_ store.Reader, s *cloud.ServiceProvider) ProviderAnswer {
	return ProviderAnswer{
		ID: s.ID, Name: s.Name, PhysicalNetworkID: s.PhysicalNetworkID, State: state(s.Enabled), ServiceList: append([]string{}, s.Services...),
	}
}

type listProvidersParams struct {
	api.ListParams
	Name              string   `api:"name" doc:"providers of this name"`
	PhysicalNetworkID cloud.ID `api:"physicalnetworkid" ref:"physicalnetwork" doc:"providers of this physical network"`
	State             string   `api:"state" doc:"Enabled or Disabled"`
}

func (h handlers) listProviders() api.Command {
	return api.Command{
		Name: "listNetworkServiceProviders", Doc: "Lists who provides network services on physical networks.", Roles: api.AdminOnly,
		Object: "networkserviceprovider",
		Run: api.List(api.Lister[listProvidersParams, cloud.ServiceProvider, ProviderAnswer]{
			Rows: func(c *api.Call, p *listProvidersParams) (iter.Seq[*cloud.ServiceProvider], error) {
				rows := tables.ServiceProviders.By(c.Read, "physical_network", nil)
				if !p.PhysicalNetworkID.IsZero() {
					rows = tables.ServiceProviders.By(c.Read, "physical_network", store.K(p.PhysicalNetworkID))
				}
				return filter(rows, func(s *cloud.ServiceProvider) bool {
					return (p.Name == "" || strings.EqualFold(s.Name, p.Name)) && (p.State == "" || strings.EqualFold(state(s.Enabled), p.State))
				}), nil
			},
			Keyword: func(s *cloud.ServiceProvider) string { return s.Name },
			View:    func(c *api.Call, s *cloud.ServiceProvider) ProviderAnswer { return viewProvider(c.Read, s) },
		}),
	}
}

type updateProviderParams struct {
	ID          cloud.ID `api:"id,required" ref:"serviceprovider" doc:"the provider"`
	State       string   `api:"state" doc:"Enabled or Disabled"`
	ServiceList []string `api:"servicelist" doc:"services to enable; none of the providers lets them be chosen"`
}

func (h handlers) updateProvider() api.Command {
	return api.ShowRow(tables.ServiceProviders, viewProvider, api.Command{
		Name: "updateNetworkServiceProvider", Doc: "Enables or disables a network service provider.", Roles: api.AdminOnly,
		Event: "SERVICE.PROVIDER.UPDATE", Entity: "PhysicalNetworkServiceProvider", Object: "networkserviceprovider",
		Run: onRow(tables.ServiceProviders,
			func(p *updateProviderParams) cloud.ID { return p.ID },
			func(c *api.Call, tx *store.Tx, s *cloud.ServiceProvider, p *updateProviderParams) error {
				c.Describe(s.ID, "Network service provider "+s.Name)
				return h.Area.UpdateProvider(tx, s, p.State, p.ServiceList)
			}),
		Step: network.Finished,
	})
}

// ElementAnswer is a virtual router element as clients see it.
type ElementAnswer struct {
	ID      cloud.ID `json:"id" doc:"the element"`
	NSPID   cloud.ID `json:"nspid" doc:"the provider it belongs to"`
	Enabled bool     `json:"enabled" doc:"true where its provider may be enabled"`
}

func viewElement(_ store.Reader, e *cloud.RouterElement) ElementAnswer {
	return ElementAnswer{ID: e.ID, NSPID: e.ProviderID, Enabled: e.Enabled}
}

type listElementsParams struct {
	api.ListParams
	ID      cloud.ID `api:"id" doc:"this element only"`
	NSPID   cloud.ID `api:"nspid" ref:"serviceprovider" doc:"the element of this provider"`
	Enabled *bool    `api:"enabled" doc:"only enabled, or only disabled ones"`
}

func (h handlers) listElements() api.Command {
	return api.Command{
		Name: "listVirtualRouterElements", Doc: "Lists virtual router elements.", Roles: api.Admins, Object: "virtualrouterelement",
		Run: api.List(api.Lister[listElementsParams, cloud.RouterElement, ElementAnswer]{
			Rows: func(c *api.Call, p *listElementsParams) (iter.Seq[*cloud.RouterElement], error) {
				rows := tables.RouterElements.By(c.Read, "provider", nil)
				if !p.NSPID.IsZero() {
					rows = tables.RouterElements.By(c.Read, "provider", store.K(p.NSPID))
				}
				return filter(rows, func(e *cloud.RouterElement) bool {
					return (p.ID.IsZero() || e.ID == p.ID) && (p.Enabled == nil || e.Enabled == *p.Enabled)
				}), nil
			},
			View: func(c *api.Call, e *cloud.RouterElement) ElementAnswer { return viewElement(c.Read, e) },
		}),
	}
}

type configureElementParams struct {
	ID      cloud.ID `api:"id,required" ref:"virtualrouterelement" doc:"the element"`
	Enabled *bool    `api:"enabled,required" doc:"enable or disable it"`
}

func (h handlers) configureElement() api.Command {
	return api.ShowRow(tables.RouterElements, viewElement, api.Command{
		Name: "configureVirtualRouterElement", Doc: "Enables or disables a virtual router element.", Roles: api.Admins,
		Event: "NETWORK.ELEMENT.CONFIGURE", Entity: "None", Object: "virtualrouterelement",
		Run: onRow(tables.RouterElements,
			func(p *configureElementParams) cloud.ID { return p.ID },
			func(c *api.Call, tx *store.Tx, e *cloud.RouterElement, p *configureElementParams) error {
				c.Describe(e.ID, "Virtual router element "+e.ID.String())
				return h.Area.ConfigureElement(tx, e, *p.Enabled)
			}),
		Step: network.Finished,
	})
}
