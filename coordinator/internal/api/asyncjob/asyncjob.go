// Package asyncjob holds the commands that ask about asynchronous jobs.
package asyncjob

import (
	"encoding/json"
	"iter"
	"slices"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Deps is what the commands need.
type Deps struct{ Seal *seal.Keeper }

// Entities lists the entity of jobs.
func Entities() []api.Entity {
	return []api.Entity{{
		Name: "asyncjobs",
		Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) {
			j, ok := tables.Jobs.Get(r, id)
			if !ok {
				return api.Owner{}, false
			}
			return api.Owner{Account: j.AccountID, Domain: j.DomainID}, true
		},
	}}
}

// Commands lists the commands.
func Commands(d Deps) []api.Command {
	return []api.Command{d.query(), d.list()}
}

// View is a job in an answer.
type View struct {
	JobID        cloud.ID `json:"jobid" doc:"the job"`
	AccountID    cloud.ID `json:"accountid" doc:"the account it belongs to"`
	UserID       cloud.ID `json:"userid" doc:"the user who started it"`
	Command      string   `json:"cmd" doc:"the command that started it"`
	Status       int      `json:"jobstatus" doc:"0 pending, 1 done, 2 failed"`
	Progress     int      `json:"jobprocstatus" doc:"always 0"`
	ResultCode   int      `json:"jobresultcode" doc:"0, or the error code of a failed job"`
	ResultType   string   `json:"jobresulttype,omitempty" doc:"what kind of thing jobresult is"`
	Result       api.JSON `json:"jobresult,omitempty" doc:"the answer of the command, or the error"`
	InstanceType string   `json:"jobinstancetype,omitempty" doc:"kind of the object it works on"`
	InstanceID   cloud.ID `json:"jobinstanceid,omitempty" doc:"the object it works on"`
	Created      api.Time `json:"created" doc:"when it was started"`
	Completed    api.Time `json:"completed,omitempty" doc:"when it ended"`
}

// view shows a job. Who neither started it nor owns it sees no password in its result.
func (d Deps) view(c *api.Call, j *cloud.Job) View {
	v := View{
		JobID: j.ID, AccountID: j.AccountID, UserID: j.UserID, Command: j.Command, Status: int(j.Status),
		ResultCode: int(j.ResultCode), InstanceType: j.InstanceType, InstanceID: j.InstanceID,
		Created: api.Time(j.Created), Completed: api.Time(j.Completed),
	}
	if j.Status == cloud.JobPending {
		return v
	}
	result, err := d.Seal.Open(j.Result)
	if err != nil {
		c.Log.Error("cannot open a job's result", "job", j.ID, "error", err)
		result = `{"success":` + map[bool]string{true: "true", false: "false"}[j.Status == cloud.JobSucceeded] + `}`
	}
	if j.UserID != c.User.ID && j.AccountID != c.Account.ID {
		result = redact(result)
	}
	v.Result, v.ResultType = api.JSON(result), "object"
	return v
}

// secrets are the fields of results that are for the owner alone.
var secrets = []string{"password", "privatekey", "secretkey"}

// redact takes secrets out of a result.
func redact(result string) string {
	var v any
	if json.Unmarshal([]byte(result), &v) != nil {
		return "{}"
	}
	found := false
	var clean func(v any)
	clean = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, inner := range v {
				if slices.Contains(secrets, name) {
					delete(v, name)
					found = true
				} else {
					clean(inner)
				}
			}
		case []any:
			for _, inner := range v {
				clean(inner)
			}
		}
	}
	clean(v)
	if !found {
		return result
	}
	b, err := json.Marshal(v)
	if err != nil {
		return "{}"
	}
	return string(b)
}

type queryParams struct {
	JobID cloud.ID `api:"jobid,required" ref:"asyncjobs" doc:"the job that a call has started"`
}

func (d Deps) query() api.Command {
	return api.Command{
		Name: "queryAsyncJobResult", Doc: "Tells how far an asynchronous job is, and its result when it has ended.",
		Roles: api.Everyone,
		Run: api.Query(func(c *api.Call, p *queryParams) (View, error) {
			j, ok := tables.Jobs.Get(c.Remember(), p.JobID)
			if !ok {
				return View{}, api.NoEntity("jobid", p.JobID)
			}
			return d.view(c, j), nil
		}),
	}
}

type listParams struct {
	api.ListParams
	api.OwnedParams
	Start time.Time `api:"startdate" type:"tzdate" doc:"only jobs started then or later"`
}

func (d Deps) list() api.Command {
	return api.Command{
		Name: "listAsyncJobs", Doc: "Lists asynchronous jobs.", Roles: api.Everyone, Object: "asyncjobs",
		Run: api.List(api.Lister[listParams, cloud.Job, View]{
			// IDs are in the order of time (replica.NewIDSource), like Less.
			Ranked: func(c *api.Call, p *listParams) (api.Ranked[cloud.Job], bool) {
				if !api.Unfiltered(*p) {
					return api.Ranked[cloud.Job]{}, false
				}
				return api.Order[cloud.Job]{Table: tables.Jobs, Own: "account", ByID: true, Owner: "owner", Domain: "domain"}.Rank(c)
			},
			Rows: func(c *api.Call, p *listParams) (iter.Seq[*cloud.Job], error) {
				rows := tables.Jobs.All(c.Read)
				if a, ok := c.Scope.Account(); ok {
					rows = tables.Jobs.By(c.Read, "account", store.K(a))
				}
				return func(yield func(*cloud.Job) bool) {
					for j := range rows {
						if !j.Created.Before(p.Start) && !yield(j) {
							return
						}
					}
				}, nil
			},
			Owner:   func(_ *api.Call, j *cloud.Job) api.Owner { return api.Owner{Account: j.AccountID, Domain: j.DomainID} },
			Keyword: func(j *cloud.Job) string { return j.Command },
			Less:    func(a, b *cloud.Job) int { return a.Created.Compare(b.Created) },
			View:    d.view,
		}),
	}
}
