// Package event holds the commands of the audit log.
package event

import (
	"iter"
	"strings"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Entities lists the entity of events.
func Entities() []api.Entity {
	return []api.Entity{{
		Name: "event",
		Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) {
			e, ok := tables.Events.Get(r, id)
			if !ok {
				return api.Owner{}, false
			}
			return api.Owner{Account: e.AccountID, Domain: e.DomainID}, true
		},
	}}
}

// Commands lists the commands.
func Commands() []api.Command { return []api.Command{list()} }

// View is an event in an answer.
type View struct {
	ID          cloud.ID `json:"id" doc:"the event"`
	Username    string   `json:"username" doc:"name of the user who caused it"`
	Type        string   `json:"type" doc:"what kind of event it is"`
	Level       string   `json:"level" doc:"INFO, WARN or ERROR"`
	Description string   `json:"description" doc:"what happened"`
	Account     string   `json:"account,omitempty" doc:"the account it belongs to"`
	api.InProject
	DomainID   cloud.ID `json:"domainid" doc:"the account's domain"`
	Domain     string   `json:"domain" doc:"name of that domain"`
	Created    api.Time `json:"created" doc:"when it happened"`
	State      string   `json:"state" doc:"Created, Scheduled, Started or Completed"`
	ParentID   cloud.ID `json:"parentid,omitempty" doc:"the event that began what this one ends"`
	ResourceID cloud.ID `json:"resourceid,omitempty" doc:"the object it is about"`
	Archived   bool     `json:"archived" doc:"whether it was archived"`
}

func view(c *api.Call, e *cloud.Event) View {
	v := View{
		ID: e.ID, Type: e.Type, Level: e.Level.String(), Description: e.Description, DomainID: e.DomainID,
		Created: api.Time(e.Created), State: e.State.String(), ParentID: e.ParentID, ResourceID: e.ResourceID, Archived: e.Archived,
		Username: "system",
	}
	if u, ok := tables.Users.Get(c.Read, e.UserID); ok {
		v.Username = u.Username
	}
	v.Account, v.InProject = api.OwnerNames(c.Read, e.AccountID)
	if d, ok := tables.Domains.Get(c.Read, e.DomainID); ok {
		v.Domain = d.Name
	}
	return v
}

type params struct {
	api.ListParams
	api.OwnedParams
	ID         cloud.ID  `api:"id" ref:"event" doc:"only this event"`
	Type       string    `api:"type" doc:"only of this type"`
	Level      string    `api:"level" enum:"INFO,WARN,ERROR" doc:"only of this level"`
	Start      time.Time `api:"startdate" doc:"only events then or later"`
	End        time.Time `api:"enddate" doc:"only events until then; a day means the whole of it"`
	Duration   *int      `api:"duration" min:"0" max:"31536000" doc:"not in use: with entrytime, seconds an event lasted"`
	EntryTime  *int      `api:"entrytime" min:"0" max:"31536000" doc:"only of the last so many seconds"`
	ResourceID cloud.ID  `api:"resourceid" since:"4.17" doc:"only about this object"`
	Archived   bool      `api:"archived" since:"4.19" doc:"the archived events instead of the others"`
}

func list() api.Command {
	return api.Command{
		Name: "listEvents", Doc: "Lists the audit log, the newest entry first.", Roles: api.Everyone, Object: "event",
		Run: api.List(api.Lister[params, cloud.Event, View]{
			Rows: func(c *api.Call, p *params) (iter.Seq[*cloud.Event], error) {
				rows := candidates(c, p)
				return func(yield func(*cloud.Event) bool) {
					for e := range rows {
						if p.wants(c, e) && !yield(e) {
							return
						}
					}
				}, nil
			},
			Owner: func(_ *api.Call, e *cloud.Event) api.Owner {
				return api.Owner{Account: e.AccountID, Domain: e.DomainID}
			},
			Keyword: func(e *cloud.Event) string { return e.Type + "\n" + e.Description },
			Less: func(a, b *cloud.Event) int {
				if d := b.Created.Compare(a.Created); d != 0 {
					return d
				}
				return strings.Compare(string(b.ID[:]), string(a.ID[:]))
			},
			View: view,
		}),
	}
}

func candidates(c *api.Call, p *params) iter.Seq[*cloud.Event] {
	switch a, ok := c.Scope.Account(); {
	case !p.ID.IsZero():
		return func(yield func(*cloud.Event) bool) {
			if e, ok := tables.Events.Get(c.Read, p.ID); ok {
				yield(e)
			}
		}
	case !p.ResourceID.IsZero():
		return tables.Events.By(c.Read, "resource", store.K(p.ResourceID))
	case ok:
		return tables.Events.By(c.Read, "account", store.K(a))
	}
	return tables.Events.By(c.Read, "created", nil)
}

func (p *params) wants(c *api.Call, e *cloud.Event) bool {
	end := p.End
	if !end.IsZero() && end.Equal(end.Truncate(24*time.Hour)) {
		end = end.Add(24*time.Hour - 1)
	}
	switch {
	case p.Type != "" && !strings.EqualFold(p.Type, e.Type),
		p.Level != "" && p.Level != e.Level.String(),
		e.Created.Before(p.Start),
		!end.IsZero() && e.Created.After(end),
		p.EntryTime != nil && c.Now.Sub(e.Created) > time.Duration(*p.EntryTime)*time.Second,
		p.Archived != e.Archived:
		return false
	}
	return true
}
