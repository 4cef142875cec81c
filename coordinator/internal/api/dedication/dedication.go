// Package dedication holds the commands that give zones, pods, clusters and hosts to one account or domain. What they do is in
// package infra; where VMs go follows in package place.
package dedication

import (
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Commands lists the commands of this package.
func Commands() []api.Command {
	return slices.Concat(
		commandsOf[zoneParams, releaseZoneParams, listZoneParams](kind[ZoneAnswer]{cloud.ZonePlace, "Zone", viewZone}),
		commandsOf[podParams, releasePodParams, listPodParams](kind[PodAnswer]{cloud.PodPlace, "Pod", viewPod}),
		commandsOf[clusterParams, releaseClusterParams, listClusterParams](kind[ClusterAnswer]{cloud.ClusterPlace, "Cluster", viewCluster}),
		commandsOf[hostParams, releaseHostParams, listHostParams](kind[HostAnswer]{cloud.HostPlace, "Host", viewHost}),
	)
}

// kind is what the commands of one size of places differ in.
type kind[R any] struct {
	is   cloud.PlaceKind
	noun string // "Zone": dedicateZone
	view func(store.Reader, *cloud.Dedication) R
}

// Answers tell to whom a place is dedicated.
type common struct {
	ID        cloud.ID `json:"id" doc:"the dedication"`
	DomainID  cloud.ID `json:"domainid" doc:"domain that has the place for itself, or that of the account"`
	AccountID cloud.ID `json:"accountid,omitempty" doc:"account that has the place for itself"`
	GroupID   cloud.ID `json:"affinitygroupid" doc:"affinity group whose VMs are placed there"`
}

func commonOf(d *cloud.Dedication) common {
	return common{ID: d.ID, DomainID: d.DomainID, AccountID: d.AccountID, GroupID: d.GroupID}
}

// ZoneAnswer is a dedicated zone as clients see it.
type ZoneAnswer struct {
	common
	ZoneID   cloud.ID `json:"zoneid" doc:"the zone"`
	ZoneName string   `json:"zonename" doc:"its name"`
}

func viewZone(r store.Reader, d *cloud.Dedication) ZoneAnswer {
	return ZoneAnswer{commonOf(d), d.PlaceID, infra.PlaceName(r, d)}
}

// PodAnswer is a dedicated pod as clients see it.
type PodAnswer struct {
	common
	PodID   cloud.ID `json:"podid" doc:"the pod"`
	PodName string   `json:"podname" doc:"its name"`
}

func viewPod(r store.Reader, d *cloud.Dedication) PodAnswer {
	return PodAnswer{commonOf(d), d.PlaceID, infra.PlaceName(r, d)}
}

// ClusterAnswer is a dedicated cluster as clients see it.
type ClusterAnswer struct {
	common
	ClusterID   cloud.ID `json:"clusterid" doc:"the cluster"`
	ClusterName string   `json:"clustername" doc:"its name"`
}

func viewCluster(r store.Reader, d *cloud.Dedication) ClusterAnswer {
	return ClusterAnswer{commonOf(d), d.PlaceID, infra.PlaceName(r, d)}
}

// HostAnswer is a dedicated host as clients see it.
type HostAnswer struct {
	common
	HostID   cloud.ID `json:"hostid" doc:"the host"`
	HostName string   `json:"hostname" doc:"its name"`
}

func viewHost(r store.Reader, d *cloud.Dedication) HostAnswer {
	return HostAnswer{commonOf(d), d.PlaceID, infra.PlaceName(r, d)}
}

// named is a struct of parameters that names a place; zero is all of its kind.
type named[P any] interface {
	*P
	place() cloud.ID
}

// commandsOf are the three commands of a kind.
func commandsOf[D, F, L any, PD dedicating[D], PF named[F], PL listing[L], R any](k kind[R]) []api.Command {
	return []api.Command{dedicate[D, PD](k), release[F, PF](k), list[L, PL](k)}
}

// atOnce bounds jobs whose call has done it all.
const atOnce = time.Minute

func done(*store.Tx, *job.State) (job.Outcome, error) { return job.Done(), nil }

func dedicate[P any, PP dedicating[P], R any](k kind[R]) api.Command {
	c := api.Command{
		Name: "dedicate" + k.noun, Since: "4.2", Roles: api.AdminOnly, Event: "DEDICATE.RESOURCE",
		Doc:    "Gives a " + k.is.String() + " to one account or domain: VMs of others are placed there no more.",
		Entity: k.noun, Object: "dedicated" + k.is.String(),
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *P) (*api.Start, error) {
			who, id := PP(p).whom(), PP(p).place()
			var account *cloud.Account
			if who.Account != "" {
				var err error
				if account, err = c.OwnerFor(who.Account, who.DomainID, cloud.ID{}); err != nil {
					return nil, err
				}
			}
			d, err := infra.Dedicate(tx, k.is, id, who.DomainID, account)
			if err != nil {
				return nil, err
			}
			c.Describe(id, "dedicating "+k.is.String()+" "+id.String())
			return &api.Start{InstanceID: d.ID, Deadline: atOnce}, nil
		}),
		Step: done,
	}
	return api.ShowRow(tables.Dedications, k.view, c)
}

func release[P any, PP named[P], R any](k kind[R]) api.Command {
	return api.Command{
		Name: "releaseDedicated" + k.noun, Since: "4.2", Roles: api.AdminOnly, Event: "DEDICATE.RESOURCE.RELEASE",
		Doc:    "Gives a dedicated " + k.is.String() + " back to everybody; what runs there stays.",
		Entity: k.noun,
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *P) (*api.Start, error) {
			id := PP(p).place()
			c.Describe(id, "releasing dedicated "+k.is.String()+" "+id.String())
			return &api.Start{InstanceID: id, Deadline: atOnce}, infra.Release(tx, k.is, id)
		}),
		Step: done,
	}
}

func list[P any, PP listing[P], R any](k kind[R]) api.Command {
	return api.Command{
		Name: "listDedicated" + k.noun + "s", Doc: "Lists " + k.is.String() + "s that one account or domain has for itself.", Since: "4.2",
		Roles: api.AdminOnly, Object: "dedicated" + k.is.String(),
		Run: api.List(api.Lister[P, cloud.Dedication, R]{
			Rows: func(c *api.Call, p *P) (iter.Seq[*cloud.Dedication], error) {
				f, id := PP(p).filter(), PP(p).place()
				var account cloud.ID
				if f.Account != "" {
					a, err := c.OwnerFor(f.Account, f.DomainID, cloud.ID{})
					if err != nil {
						return nil, err
					}
					account = a.ID
				}
				return api.Filter(tables.Dedications.All(c.Read), func(d *cloud.Dedication) bool {
					return d.Kind == k.is && (id.IsZero() || d.PlaceID == id) && (account.IsZero() || d.AccountID == account) &&
						(f.DomainID.IsZero() || d.DomainID == f.DomainID) && (f.GroupID.IsZero() || d.GroupID == f.GroupID) &&
						strings.Contains(strings.ToLower(infra.PlaceName(c.Read, d)), strings.ToLower(f.Keyword))
				}), nil
			},
			View: func(c *api.Call, d *cloud.Dedication) R { return k.view(c.Read, d) },
		}),
	}
}
