// Package alert holds the commands of alerts. What raises and mails them is in the area of the same name.
package alert

import (
	"iter"
	"strings"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/alert"
	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Commands lists the commands of this package.
func Commands() []api.Command {
	return []api.Command{
		list(), types(), generate(),
		change("archiveAlerts", "Puts alerts out of sight.", "ALERT.ARCHIVE", alert.Archive),
		change("deleteAlerts", "Removes alerts.", "ALERT.DELETE", alert.Delete),
	}
}

// Entities lists what this package's rows are called in parameters.
func Entities() []api.Entity {
	return []api.Entity{{Name: "alert", Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) {
		a, ok := tables.Alerts.Get(r, id)
		return api.Owner{}, ok && !a.Hidden
	}}}
}

// Answer is an alert as clients see it.
type Answer struct {
	ID          cloud.ID `json:"id" doc:"the alert"`
	Type        int      `json:"type" doc:"number of its type"`
	Name        string   `json:"name" doc:"name of its type, or the name it was generated with"`
	Description string   `json:"description" doc:"what happened"`
	Sent        api.Time `json:"sent" doc:"when it was raised"`
	Subject     string   `json:"subject,omitempty" doc:"the same in a few words"`
	Resolved    api.Time `json:"resolved,omitempty" doc:"when its condition ended"`
	ZoneID      cloud.ID `json:"zoneid,omitempty" doc:"the zone it is about"`
	PodID       cloud.ID `json:"podid,omitempty" doc:"the pod it is about"`
	ClusterID   cloud.ID `json:"clusterid,omitempty" doc:"the cluster it is about"`
}

func view(_ *api.Call, a *cloud.Alert) Answer {
	return Answer{
		ID: a.ID, Type: int(a.Type), Name: a.Name, Description: a.Description, Sent: api.Time(a.Created), Subject: a.Subject,
		Resolved: api.Time(a.Resolved), ZoneID: a.ZoneID, PodID: a.PodID, ClusterID: a.ClusterID,
	}
}

type listParams struct {
	api.ListParams
	ID   cloud.ID `api:"id" ref:"alert" doc:"this alert only"`
	Type string   `api:"type" doc:"alerts of this type: its number or name"`
	Name string   `api:"name" since:"4.5" doc:"alerts of this name"`
}

func list() api.Command {
	return api.Command{
		Name: "listAlerts", Doc: "Lists alerts that are not archived, the newest first.", Roles: api.RootAdmin | api.ResourceAdmin, Object: "alert",
		Run: api.List(api.Lister[listParams, cloud.Alert, Answer]{
			Rows: func(c *api.Call, p *listParams) (iter.Seq[*cloud.Alert], error) {
				return func(yield func(*cloud.Alert) bool) {
					for a := range tables.Alerts.By(c.Read, "created", nil) {
						keep := !a.Archived && !a.Hidden && (p.ID.IsZero() || p.ID == a.ID) && alert.OfType(a, p.Type) &&
							(p.Name == "" || strings.EqualFold(p.Name, a.Name))
						if keep && !yield(a) {
							return
						}
					}
				}, nil
			},
			Keyword: func(a *cloud.Alert) string { return a.Subject + "\n" + a.Description },
			Less:    func(a, b *cloud.Alert) int { return b.Created.Compare(a.Created) },
			View:    view,
		}),
	}
}

// Type is a type of alerts as clients see it.
type Type struct {
	Type int    `json:"type" doc:"its number"`
	Name string `json:"name" doc:"its name"`
}

func types() api.Command {
	return api.Command{
		Name: "listAlertTypes", Doc: "Lists the types of alerts.", Since: "4.18", Roles: api.AdminOnly, Object: "alerttype",
		Run: api.List(api.Lister[struct{}, Type, Type]{
			Rows: func(*api.Call, *struct{}) (iter.Seq[*Type], error) {
				return func(yield func(*Type) bool) {
					for n := range alert.Known {
						if !yield(&Type{n, alert.Type(n).String()}) {
							return
						}
					}
				}, nil
			},
			View: func(_ *api.Call, t *Type) Type { return *t },
		}),
	}
}

type changeParams struct {
	IDs   []cloud.ID `api:"ids" ref:"alert" doc:"these alerts"`
	Type  string     `api:"type" doc:"alerts of this type"`
	Start time.Time  `api:"startdate" doc:"alerts raised then or later; with enddate"`
	End   time.Time  `api:"enddate" doc:"alerts raised until then"`
}

func change(name, doc, event string, f func(*store.Tx, alert.Filter) error) api.Command {
	return api.Command{
		Name: name, Doc: doc, Since: "4.2", Roles: api.AdminOnly, Event: event, Entity: "Alert",
		Run: api.Delete(func(c *api.Call, tx *store.Tx, p *changeParams) error {
			return f(tx, alert.Filter{IDs: p.IDs, Type: p.Type, Start: p.Start, End: p.End})
		}),
	}
}

type generateParams struct {
	Name        string   `api:"name,required" len:"999" doc:"name of the alert"`
	Description string   `api:"description,required" len:"999" doc:"what it tells"`
	Type        *int     `api:"type" min:"0" max:"255" doc:"number of its type; 13, the coordinators, when absent"`
	ZoneID      cloud.ID `api:"zoneid" ref:"zone" doc:"the zone it is about"`
	PodID       cloud.ID `api:"podid" ref:"pod" doc:"the pod it is about"`
}

func generate() api.Command {
	return api.Command{
		Name: "generateAlert", Doc: "Raises an alert, which is mailed like any other.", Since: "4.3", Roles: api.AdminOnly,
		Event: "ALERT.GENERATE", Entity: "Alert",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *generateParams) (*api.Start, error) {
			kind := alert.Coordinator
			if p.Type != nil {
				kind = alert.Type(*p.Type)
			}
			a, err := alert.Generate(tx, kind, p.Name, p.Description, p.ZoneID, p.PodID)
			if err != nil {
				return nil, err
			}
			c.Describe(a.ID, "alert "+p.Name)
			return &api.Start{InstanceID: a.ID}, nil
		}),
		Step: func(*store.Tx, *job.State) (job.Outcome, error) { return job.Done(), nil },
	}
}
