package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	diff "github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/replica"
	"github.com/wispcloud/wisp/coordinator/internal/replica/replicatest"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// audit is a cluster that writes nothing, as dry, and keeps the events that each transaction would have written. While
// broken is set, the first transaction of a call is refused with it after it has run.
type audit struct {
	*replica.Replica
	before map[cloud.ID]bool
	events []*cloud.Event
	homes  map[cloud.ID]cloud.ID // account of an event -> its domain
	jobs   []*cloud.Job
	broken error
}

// Update implements api.Cluster.
func (a *audit) Update(ctx context.Context, f func(tx *store.Tx) error) error {
	refusal := a.broken
	a.broken = nil
	err := a.Replica.Update(ctx, func(tx *store.Tx) error {
		if err := f(tx); err != nil {
			return err
		}
		if refusal != nil {
			return refusal
		}
		for e := range tables.Events.All(tx) {
			if !a.before[e.ID] {
				a.events = append(a.events, e)
				if owner, ok := tables.Accounts.Get(tx, e.AccountID); ok {
					a.homes[owner.ID] = owner.DomainID
				}
			}
		}
		for j := range tables.Jobs.By(tx, "pending", nil) {
			a.jobs = append(a.jobs, j)
		}
		return errDry
	})
	if errors.Is(err, errDry) {
		return nil
	}
	return err
}

// acted is what a call wrote, without what differs from call to call.
type acted struct {
	Type, Level, State, Text string
	Follows                  bool // the first event
	User                     bool // is the caller
	Account                  bool // is one, and in the domain
}

// acted are the events of a call by a user, in order.
func (a *audit) acted(user cloud.ID) (out []acted) {
	events := a.events
	order := func(e *cloud.Event) int {
		return slices.Index([]cloud.EventState{cloud.EventCreated, cloud.EventScheduled, cloud.EventStarted, cloud.EventCompleted}, e.State)
	}
	slices.SortStableFunc(events, func(a, b *cloud.Event) int { return order(a) - order(b) })
	for _, e := range events {
		home, ok := a.homes[e.AccountID]
		out = append(out, acted{
			e.Type, e.Level.String(), e.State.String(), e.Description, e.ParentID == events[0].ID, e.UserID == user, ok && home == e.DomainID,
		})
	}
	return out
}

// Every action of the registry, called as it is in TestEveryCommandByEveryRole, writes its events: where it is carried
// out, that it was done, or that a job was scheduled and started; where its handler refuses, or the cloud does at the
// last moment, an error. They tell who did it, and whose it is. What jobs end with is the next test's, and that every
// action's real steps do is checked by package apitest at each job of every test of the API.
func TestEveryActionWritesItsEvents(t *testing.T) {
	w := newWorld(t)
	mine, _ := w.estates()
	r := mine["root"]
	r["account"], r["user"], r["domain"] = mine["neighbour"]["account"], mine["neighbour"]["user"], mine["foreigner"]["domain"]
	w.countEstate(w.callers["root"].AccountID)
	maps.Copy(r, w.providers(r))
	a := &audit{Replica: w.replica, before: map[cloud.ID]bool{}, homes: map[cloud.ID]cloud.ID{}}
	for e := range tables.Events.All(w.read()) {
		a.before[e.ID] = true
	}
	w.web = api.New(api.Config{
		Registry: w.registry, Cluster: a, Settings: w.Server.settings, Seal: w.seal, Now: time.Now, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	done, refused, unread := 0, 0, []string{}
	for _, i := range actions(w.registry) {
		c := i.command
		call := func() answered {
			a.events, a.jobs = nil, nil
			return w.call("root", c.Name, append(i.parameters(r, "")[2:], reach(c.Name, r)...)...)
		}
		got := call()
		switch {
		case got.code == http.StatusOK:
			done++
			w.wantEvents(c, a, wantDone(c)...)
			for _, j := range a.jobs {
				if j.EventID != first(a.events) || j.UserID != w.callers["root"].ID {
					t.Errorf("the job of %s follows event %s of user %s", c.Name, j.EventID, j.UserID)
				}
			}
			a.broken = cloud.Errorf(cloud.NoCapacity, "no room for this")
			if got := call(); got.code != 533 {
				t.Errorf("%s, refused at the last moment, is answered with %d", c.Name, got.code)
			}
			w.wantEvents(c, a, acted{Level: "ERROR", State: "Completed", Text: "no room for this"})
		case len(a.events) == 0:
			unread = append(unread, c.Name+": "+got.text())
		default:
			refused++
			w.wantEvents(c, a, acted{Level: "ERROR", State: "Completed", Text: got.text()})
		}
	}
	t.Logf("%d done and refused, %d refused, unread %v", done, refused, unread)
	if d := diff.Diff([]string{}, unread); d != "" {
		t.Errorf("actions whose handler was not reached, so that nothing is known of their events: %s", d)
	}
}

// providers is one of each kind of row that only root admins name, and that estates have not.
func (w *world) providers(r estate) estate {
	w.t.Helper()
	e := estate{}
	id := func(entity string) cloud.ID {
		e[entity] = cloud.NameID("provider's", entity)
		return e[entity]
	}
	w.update(func(tx *store.Tx) error {
		return errors.Join(
			tables.Routers.Put(tx, &cloud.Router{ID: id("systemvm"), Name: "r-system", NetworkID: cloud.NameID("provider's", "network"), ZoneID: r["zone"], Placement: cloud.InVM}),
			tables.RouterElements.Put(tx, &cloud.RouterElement{ID: id("virtualrouterelement"), ProviderID: r["serviceprovider"]}),
			tables.JoinTokens.Put(tx, &cloud.JoinToken{ID: id("hostjointoken")}),
			tables.ImageStores.Put(tx, &cloud.ImageStore{ID: id("imagestore"), Name: "images", URL: "file:///images", ZoneID: r["zone"]}),
			tables.RolePermissions.Put(tx, &cloud.RolePermission{ID: id("rolepermission"), RoleID: r["role"], Rule: "listZones"}),
			tables.StorageRanges.Put(tx, &cloud.StorageRange{ID: id("storagerange"), ZoneID: r["zone"], PodID: r["pod"]}),
			tables.StoragePools.Put(tx, &cloud.StoragePool{ID: id("storagepool"), Name: "pool", ZoneID: r["zone"], State: cloud.PoolUp}),
			tables.TrafficTypes.Put(tx, &cloud.TrafficType{ID: id("traffictype"), PhysicalNetworkID: r["physicalnetwork"], Type: "Storage"}),
			tables.GuestVLANRanges.Put(tx, &cloud.GuestVLANRange{ID: id("guestvlanrange"), PhysicalNetworkID: r["physicalnetwork"], AccountID: r["account"]}),
		)
	})
	return e
}

// reach are parameters with which a call gets to the command's handler, where those of every call do not.
func reach(command string, r estate) []string {
	switch command {
	case "addAnnotation":
		return []string{"entityid", r["virtualmachine"].String()}
	case "addResourceDetail", "removeResourceDetail":
		return []string{"resourceid", r["virtualmachine"].String()}
	case "createTags":
		return []string{"resourceids", r["virtualmachine"].String(), "resourcetype", "UserVm", "tags", "", "tags[0].key", "k", "tags[0].value", "v"}
	case "deleteTags":
		return []string{"resourceids", r["virtualmachine"].String(), "resourcetype", "UserVm"}
	case "addRegion", "updateRegion", "removeRegion":
		return []string{"id", "7"}
	case "importRole":
		return []string{"rules", "", "rules[0].rule", "listZones", "rules[0].permission", "allow"}
	}
	return nil
}

func first(events []*cloud.Event) cloud.ID {
	if len(events) == 0 {
		return cloud.ID{}
	}
	return events[0].ID
}

// actions are the commands that write events.
func actions(g *api.Registry) (out []identifier) {
	for _, d := range g.Describe(api.Everyone) {
		c, _ := g.Find(d.Name)
		if c.Event == "" {
			continue
		}
		i := identifier{c, "", "", c.Roles, map[string]string{}}
		entities := map[string]string{}
		for _, r := range c.References() {
			entities[r.Param] = r.Entity
		}
		for _, p := range d.Params {
			if p.Required {
				i.others[p.Name] = entities[p.Name]
			}
		}
		out = append(out, i)
	}
	return out
}

// wantDone are the events of a call that is carried out.
func wantDone(c *api.Command) []acted {
	switch {
	case c.Creates():
		return []acted{{State: "Created", Text: "Successfully created entity for "}, {State: "Started", Text: "Starting job for ", Follows: true}}
	case c.Async():
		return []acted{{State: "Scheduled", Text: "Scheduled async job for "}, {State: "Started", Text: "Starting job for ", Follows: true}}
	}
	return []acted{{State: "Completed", Text: "Successfully completed "}}
}

// wantEvents compares what a call by root wrote. A text need only have the one that is wanted in it.
func (w *world) wantEvents(c *api.Command, a *audit, want ...acted) {
	w.t.Helper()
	got := a.acted(w.callers["root"].ID)
	for n := range want {
		x := &want[n]
		x.Type, x.User, x.Account = c.Event, true, true
		if x.Level == "" {
			x.Level = "INFO"
		}
		if n < len(got) && strings.Contains(got[n].Text, x.Text) && len(got[n].Text) > len(x.Text) {
			x.Text = got[n].Text
		}
	}
	if d := diff.Diff(want, got); d != "" {
		w.t.Errorf("events of %s (-want +got): %s", c.Name, d)
	}
}

// The jobs of every asynchronous command end with an event of its type that follows the first one, of the one who
// called, of the one whose it is and about the same thing: of level ERROR, with the reason, where the job has failed.
func TestEveryJobEndsWithAnEvent(t *testing.T) {
	w := newWorld(t)
	kinds := w.registry.JobKinds(w.Server.settings, w.seal)
	user, cause := w.callers["user"], "there is no room for this"
	want := map[cloud.ID]string{} // first event -> what has to follow
	names := map[cloud.ID]string{}
	w.update(func(tx *store.Tx) error {
		for n := range kinds {
			k := &kinds[n]
			if k.Event == "" {
				continue
			}
			command := k.Command
			k.Result = nil // it tells of rows, which are not here
			k.Step = func(_ *store.Tx, j *job.State) (job.Outcome, error) {
				if j.Job.InstanceType == "fails" {
					return job.Outcome{}, cloud.Errorf(cloud.NoCapacity, "%s", cause)
				}
				return job.Done(), nil
			}
			for _, how := range []string{"works", "fails"} {
				text := "Successfully completed doing " + command
				if how == "fails" {
					text = "Error while doing " + command + ": " + cause
				}
				e := cloud.Event{
					Type: k.Event, State: cloud.EventScheduled, Description: "Scheduled async job for doing " + command,
					UserID: user.ID, AccountID: user.AccountID, DomainID: user.DomainID, ResourceID: tx.NewID(),
				}
				id, err := job.WriteEvent(tx, e)
				if err != nil {
					return err
				}
				want[id], names[id] = text, how+" "+command
				err = tables.Jobs.Put(tx, &cloud.Job{
					ID: tx.NewID(), Command: command, UserID: user.ID, AccountID: user.AccountID, DomainID: user.DomainID, InstanceType: how,
					InstanceID: e.ResourceID, Created: tx.Now(), EventID: id,
				})
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
	if len(want) < 150 {
		t.Fatalf("only %d jobs", len(want))
	}
	var log bytes.Buffer
	engine := job.New(job.Config{
		Cluster: w.replica, Kinds: kinds, Seal: w.seal, Log: slog.New(slog.NewTextHandler(&log, nil)), Failure: api.JobFailure, Parallel: 8,
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(ctx) }()
	replicatest.Wait(t, 30*time.Second, "all jobs", func() error {
		if n := tables.Jobs.Count(w.read(), "pending", nil); n > 0 {
			return errors.New("some are left")
		}
		return nil
	})
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	for e := range tables.Events.All(w.read()) {
		text, ok := want[e.ParentID]
		if !ok {
			continue
		}
		delete(want, e.ParentID)
		begun, _ := tables.Events.Get(w.read(), e.ParentID)
		level := cloud.EventInfo
		if strings.HasPrefix(names[e.ParentID], "fails") {
			level = cloud.EventError
		}
		expected := *begun
		expected.ID, expected.Created, expected.ParentID, expected.State, expected.Level, expected.Description = e.ID, e.Created, begun.ID, cloud.EventCompleted, level, text
		if d := diff.Diff(&expected, e); d != "" {
			t.Errorf("the last event of the job that %s (-want +got): %s", names[e.ParentID], d)
		}
	}
	for id := range want {
		t.Errorf("no event ended the job that %s", names[id])
	}
}
