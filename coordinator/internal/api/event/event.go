// Package event holds the commands of the audit log.
package event

import (
	"iter"
	"slices"
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
func Commands() []api.Command {
	return []api.Command{
		list(), types(),
		change("archiveEvents", "Puts events out of sight.", "EVENT.ARCHIVE", func(tx *store.Tx, e *cloud.Event) error {
			e.Archived = true
			return tables.Events.Put(tx, e)
		}),
		change("deleteEvents", "Removes events.", "EVENT.DELETE", func(tx *store.Tx, e *cloud.Event) error {
			return tables.Events.Delete(tx, e.ID)
		}),
	}
}

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
	Duration   *int      `api:"duration" min:"0" max:"31536000" doc:"with entrytime: only events that began something which took at least so many seconds"`
	EntryTime  *int      `api:"entrytime" min:"0" max:"31536000" doc:"only of the last so many seconds"`
	ResourceID cloud.ID  `api:"resourceid" since:"4.17" doc:"only about this object"`
	StartID    cloud.ID  `api:"startid" ref:"event" since:"4.18" doc:"only this event and those that go on with it"`
	State      string    `api:"state" since:"4.20" enum:"Created,Scheduled,Started,Completed" doc:"only in this state"`
	Archived   bool      `api:"archived" since:"4.19" doc:"the archived events instead of the others"`
}

func list() api.Command {
	return api.Command{
		Name: "listEvents", Doc: "Lists the audit log, the newest entry first.", Roles: api.Everyone, Object: "event",
		Run: api.List(api.Lister[params, cloud.Event, View]{
			Rows: func(c *api.Call, p *params) (iter.Seq[*cloud.Event], error) {
				rows := candidates(c, p, store.K(p.Archived))
				return func(yield func(*cloud.Event) bool) {
					for e := range rows {
						if p.wants(c, e) && !yield(e) {
							return
						}
					}
				}, nil
			},
			Ranked: ranked, Table: tables.Events,
			Kept: func(*api.Call, *params) (uint8, bool) { return 0, true },
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

// ranked takes all events that are archived, or are not, and one's own, from an index.
func ranked(c *api.Call, p *params) (api.Ranked[cloud.Event], bool) {
	other := *p
	other.Archived = false
	if !api.Unfiltered(other) {
		return api.Ranked[cloud.Event]{}, false
	}
	archived := store.K(p.Archived)
	return api.Order[cloud.Event]{
		Table: tables.Events, All: "created", AllKey: archived, Own: "account", OwnKey: archived, Domain: "domain", DomainKey: archived,
		Descending: true,
	}.Rank(c)
}

// candidates are the archived events, the others, or with nil both.
func candidates(c *api.Call, p *params, archived store.Key) iter.Seq[*cloud.Event] {
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
		return tables.Events.By(c.Read, "account", store.K(a, archived))
	}
	return tables.Events.By(c.Read, "created", archived)
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
		!p.StartID.IsZero() && p.StartID != e.ID && p.StartID != e.ParentID,
		p.State != "" && p.State != e.State.String(),
		p.Archived != e.Archived,
		p.Duration != nil && p.EntryTime != nil && !lasted(c, e, time.Duration(*p.Duration)*time.Second):
		return false
	}
	return true
}

// lasted tells whether what an event began took at least d, or goes on for longer than that.
func lasted(c *api.Call, e *cloud.Event, d time.Duration) bool {
	if e.State == cloud.EventCompleted {
		return false
	}
	end := c.Now
	for x := range tables.Events.By(c.Read, "resource", store.K(e.ResourceID)) {
		if x.ParentID == e.ID && x.State == cloud.EventCompleted {
			end = x.Created
		}
	}
	return end.Sub(e.Created) >= d
}

// Type is a type of events.
type Type struct {
	Name string `json:"name" doc:"its name"`
}

// further are types of events that no command writes under its own name.
var further = []string{"ROUTER.HA", "USER.LOGIN", "VM.START", "VM.STOP", "TEMPLATE.DOWNLOAD.SUCCESS", "TEMPLATE.DOWNLOAD.FAILED"}

func types() api.Command {
	return api.Command{
		Name: "listEventTypes", Doc: "Lists the types of events that are written.", Roles: api.Everyone, Object: "eventtype",
		Run: api.List(api.Lister[struct{}, Type, Type]{
			Rows: func(c *api.Call, _ *struct{}) (iter.Seq[*Type], error) {
				names := slices.Clone(further)
				for _, cmd := range c.Registry().Commands() {
					if cmd.Event != "" {
						names = append(names, cmd.Event)
					}
				}
				slices.Sort(names)
				return func(yield func(*Type) bool) {
					for _, n := range slices.Compact(names) {
						if !yield(&Type{n}) {
							return
						}
					}
				}, nil
			},
			Unpaged: true,
			View:    func(_ *api.Call, t *Type) Type { return *t },
		}),
	}
}

type changeParams struct {
	IDs   []cloud.ID `api:"ids" ref:"event" doc:"these events"`
	Type  string     `api:"type" doc:"events of this type"`
	Start time.Time  `api:"startdate" doc:"events of then or later; with enddate"`
	End   time.Time  `api:"enddate" doc:"events until then; a day means the whole of it"`
}

func (p *changeParams) check() error {
	switch {
	case len(p.IDs) == 0 && p.Type == "" && p.End.IsZero():
		return cloud.Errorf(cloud.Invalid, "either ids, type or enddate must be specified")
	case !p.Start.IsZero() && p.End.IsZero():
		return cloud.Errorf(cloud.Invalid, "enddate must be specified with startdate parameter")
	}
	return nil
}

// changeAtOnce bounds what one call changes: each event is a row of its commit.
const changeAtOnce = 10000

func change(name, doc, event string, f func(*store.Tx, *cloud.Event) error) api.Command {
	return api.Command{
		Name: name, Doc: doc, Since: "4.2", Roles: api.Everyone, Event: event, Entity: "Event",
		Run: api.Delete(func(c *api.Call, tx *store.Tx, p *changeParams) error {
			if err := p.check(); err != nil {
				return err
			}
			if len(p.IDs) > 0 {
				return byID(tx, p, f)
			}
			c.Scope = c.AllVisible()
			want := params{Type: p.Type, Start: p.Start, End: p.End}
			n := 0
			for e := range candidates(c, &want, nil) {
				want.Archived = e.Archived // both kinds
				if !c.Scope.Has(api.Owner{Account: e.AccountID, Domain: e.DomainID}) || !want.wants(c, e) {
					continue
				}
				if n++; n > changeAtOnce {
					return cloud.Errorf(cloud.Invalid, "more than %d events are meant: give a shorter time (startdate, enddate)", changeAtOnce)
				}
				if err := f(tx, e); err != nil {
					return err
				}
			}
			return nil
		}),
	}
}

// byID changes the events of ids, each of which has to fit the other parameters as well.
func byID(tx *store.Tx, p *changeParams, f func(*store.Tx, *cloud.Event) error) error {
	for _, id := range p.IDs {
		e, ok := tables.Events.Get(tx, id)
		if !ok {
			return api.NoEntity("ids", id)
		}
		if p.Type != "" && !strings.EqualFold(p.Type, e.Type) || e.Created.Before(p.Start) || !p.End.IsZero() && e.Created.After(p.End) {
			return cloud.Errorf(cloud.Invalid, "Event %s does not fit type, startdate and enddate", id)
		}
		if err := f(tx, e); err != nil {
			return err
		}
	}
	return nil
}
