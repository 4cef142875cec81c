package dedication

import (
	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// whomParams say to whom a place is dedicated.
type whomParams struct {
	DomainID cloud.ID `api:"domainid,required" ref:"domain" doc:"domain that gets it for itself and those below"`
	Account  string   `api:"account" doc:"account of that domain that gets it instead"`
}

func (w *whomParams) whom() *whomParams { return w }

type dedicating[P any] interface {
	named[P]
	whom() *whomParams
}

// filterParams are those of the lists.
type filterParams struct {
	api.ListParams
	DomainID cloud.ID `api:"domainid" ref:"domain" doc:"what this domain, or an account in it, has"`
	Account  string   `api:"account" doc:"what this account has; with domainid"`
	GroupID  cloud.ID `api:"affinitygroupid" ref:"affinitygroup" doc:"where VMs of this affinity group are placed"`
}

func (f *filterParams) filter() *filterParams { return f }

type listing[P any] interface {
	named[P]
	filter() *filterParams
}

type (
	zoneParams struct {
		ID cloud.ID `api:"zoneid,required" ref:"zone" doc:"the zone"`
		whomParams
	}
	releaseZoneParams struct {
		ID cloud.ID `api:"zoneid,required" ref:"zone" doc:"the zone"`
	}
	listZoneParams struct {
		ID cloud.ID `api:"zoneid" ref:"zone" doc:"this zone only"`
		filterParams
	}
	podParams struct {
		ID cloud.ID `api:"podid,required" ref:"pod" doc:"the pod"`
		whomParams
	}
	releasePodParams struct {
		ID cloud.ID `api:"podid,required" ref:"pod" doc:"the pod"`
	}
	listPodParams struct {
		ID cloud.ID `api:"podid" ref:"pod" doc:"this pod only"`
		filterParams
	}
	clusterParams struct {
		ID cloud.ID `api:"clusterid,required" ref:"cluster" doc:"the cluster"`
		whomParams
	}
	releaseClusterParams struct {
		ID cloud.ID `api:"clusterid,required" ref:"cluster" doc:"the cluster"`
	}
	listClusterParams struct {
		ID cloud.ID `api:"clusterid" ref:"cluster" doc:"this cluster only"`
		filterParams
	}
	hostParams struct {
		ID cloud.ID `api:"hostid,required" ref:"host" doc:"the host"`
		whomParams
	}
	releaseHostParams struct {
		ID cloud.ID `api:"hostid,required" ref:"host" doc:"the host"`
	}
	listHostParams struct {
		ID cloud.ID `api:"hostid" ref:"host" doc:"this host only"`
		filterParams
	}
)

func (p *zoneParams) place() cloud.ID           { return p.ID }
func (p *releaseZoneParams) place() cloud.ID    { return p.ID }
func (p *listZoneParams) place() cloud.ID       { return p.ID }
func (p *podParams) place() cloud.ID            { return p.ID }
func (p *releasePodParams) place() cloud.ID     { return p.ID }
func (p *listPodParams) place() cloud.ID        { return p.ID }
func (p *clusterParams) place() cloud.ID        { return p.ID }
func (p *releaseClusterParams) place() cloud.ID { return p.ID }
func (p *listClusterParams) place() cloud.ID    { return p.ID }
func (p *hostParams) place() cloud.ID           { return p.ID }
func (p *releaseHostParams) place() cloud.ID    { return p.ID }
func (p *listHostParams) place() cloud.ID       { return p.ID }
