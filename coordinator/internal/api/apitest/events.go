package apitest

import (
	"net/http"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// checkEvents fails the test unless a call that did something wrote the events of its action: so every test of an API
// package is one of events, too. It looks them up by the request's id.
func (c *Cloud) checkEvents(user, command string, a *Answer) {
	c.t.Helper()
	cmd, ok := c.Registry.Find(command)
	if !ok || cmd.Event == "" || a.Status != http.StatusOK || c.Users[user] == nil {
		return
	}
	caller, known := tables.Users.First(c.Read(), "apikey", store.K(c.Users[user].APIKey))
	if !known { // it removed itself, or changed its keys
		caller = c.Users[user].User
	}
	var begun, last *cloud.Event
	for e := range tables.Events.All(c.Read()) {
		if e.RequestID != a.Header.Get("X-Request-Id") || e.Type != cmd.Event {
			continue
		}
		switch e.State {
		case cloud.EventCreated, cloud.EventScheduled:
			begun = e
		case cloud.EventStarted:
			last = e
		case cloud.EventCompleted:
			if !cmd.Async() { // a job's is checkJobEvents'
				last = e
			}
		}
	}
	switch {
	case last == nil:
		c.t.Errorf("%s by %s wrote no event %s", command, user, cmd.Event)
	case last.UserID != caller.ID || last.AccountID.IsZero() || last.DomainID.IsZero() || last.Description == "" || last.Level != cloud.EventInfo:
		c.t.Errorf("%s by %s wrote an event that does not tell who did what: %+v", command, user, last)
	case cmd.Async() && (begun == nil || last.ParentID != begun.ID):
		c.t.Errorf("%s by %s started a job whose event follows none: %+v", command, user, last)
	case begun != nil && (begun.State == cloud.EventCreated) != cmd.Creates():
		c.t.Errorf("%s by %s began with an event in state %s", command, user, begun.State)
	}
}

// checkJobEvents fails the test unless a job that has ended wrote its last event, in the transaction in which it ended.
// Jobs whose first event a test has removed are left out.
func (c *Cloud) checkJobEvents(id string, status any) {
	c.t.Helper()
	jobID, err := cloud.ParseID(id)
	if err != nil {
		return
	}
	j, ok := tables.Jobs.Get(c.Read(), jobID)
	if !ok {
		return
	}
	begun, ok := tables.Events.Get(c.Read(), j.EventID)
	if !ok {
		return
	}
	level, text := cloud.EventInfo, "Successfully completed "
	if status == 2.0 {
		level, text = cloud.EventError, "Error while "
	}
	for e := range tables.Events.All(c.Read()) {
		if e.ParentID == begun.ID && e.State == cloud.EventCompleted {
			if status == 1.0 && strings.Contains(e.Description, ", but: ") { // job.DoneBut
				level = cloud.EventWarn
			}
			if e.Type != begun.Type || e.Level != level || !strings.HasPrefix(e.Description, text) || e.UserID != j.UserID || e.AccountID != j.AccountID || e.DomainID != j.DomainID {
				c.t.Errorf("the job of %s ended with status %v and the event %+v", j.Command, status, e)
			}
			return
		}
	}
	c.t.Errorf("the job of %s ended with status %v and wrote no event", j.Command, status)
}
