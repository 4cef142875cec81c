package event_test

import (
	"testing"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/api/event"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

func world(t *testing.T) *apitest.Cloud {
	c := apitest.New(t, apitest.Config{Commands: event.Commands(), Entities: event.Entities()})
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c.Update(func(tx *store.Tx) error {
		for i, name := range []string{"a-user", "a-other", "b-user", "a-user"} {
			u := c.Users[name]
			_, err := job.WriteEvent(tx, cloud.Event{
				ID: cloud.NameID("event", string(rune('0'+i))), Type: []string{"VM.CREATE", "VM.STOP"}[i%2], Level: cloud.EventLevel(i % 3),
				State: cloud.EventState(i % 4), Description: "what happened", UserID: u.User.ID, AccountID: u.Account.ID,
				DomainID: u.Account.DomainID, Created: start.AddDate(0, 0, i), ResourceID: cloud.NameID("vm", "x"), Archived: i == 3,
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return c
}

func TestAnswers(t *testing.T) {
	c := world(t)
	a := c.Must("root", "listEvents", "listall", "true")
	c.Golden("listEvents", a)
	c.CheckSDK("listEvents", a)
	c.Golden("listEvents", c.CallXML("a-user", "listEvents"))
}

func TestFilters(t *testing.T) {
	c := world(t)
	for _, x := range []struct {
		user   string
		params []string
		want   int // rows; a refusal is -1
	}{
		{"root", nil, 0},
		{"root", []string{"listall", "true", "type", "vm.stop"}, 1},
		{"root", []string{"listall", "true", "level", "error"}, 1},
		{"root", []string{"listall", "true", "level", "loud"}, -1},
		{"root", []string{"listall", "true", "startdate", "2026-01-02"}, 2},
		{"root", []string{"listall", "true", "enddate", "2026-01-02"}, 2},
		{"root", []string{"listall", "true", "startdate", "2026-01-02", "enddate", "2026-01-02T00:00:01+0000"}, 1},
		{"root", []string{"listall", "true", "archived", "true"}, 1},
		{"root", []string{"listall", "true", "resourceid", cloud.NameID("vm", "x").String()}, 3},
		{"root", []string{"listall", "true", "entrytime", "90000"}, 2},
		{"root", []string{"listall", "true", "keyword", "happened"}, 3},
		{"a-user", []string{"listall", "true"}, 1},
		{"a-user", []string{"resourceid", cloud.NameID("vm", "x").String()}, 1}, // not what others did to the same object
		{"a-user", []string{"id", cloud.NameID("event", "2").String()}, -1},
		{"a-admin", []string{"listall", "true"}, 2},
	} {
		a := c.Call(x.user, "listEvents", x.params...)
		rows, _ := a.Object["event"].([]any)
		got := len(rows)
		if a.Status != 200 {
			got = -1
		}
		if got != x.want {
			t.Errorf("%s %v: %d, want %d: %s", x.user, x.params, got, x.want, a.Raw)
		}
	}
}

// Users change what is theirs, admins what they see; a call without any condition changes nothing.
func TestArchiveAndDelete(t *testing.T) {
	c := world(t)
	a := c.Must("root", "listEventTypes")
	c.Golden("listEventTypes", a)
	c.CheckSDK("listEventTypes", a)
	id := func(n string) string { return cloud.NameID("event", n).String() }
	left := func(user string, want int, params ...string) {
		t.Helper()
		rows, _ := c.Must(user, "listEvents", append(params, "listall", "true")...).Object["event"].([]any)
		n := 0
		for _, r := range rows {
			if kind := r.(map[string]any)["type"]; kind != "EVENT.ARCHIVE" && kind != "EVENT.DELETE" {
				n++
			}
		}
		if n != want {
			t.Errorf("%s sees %d events, want %d", user, n, want)
		}
	}
	for _, command := range []string{"archiveEvents", "deleteEvents"} {
		for _, params := range [][]string{nil, {"startdate", "2026-01-01"}, {"ids", id("2")}, {"ids", id("0") + "," + id("2")}} {
			if a := c.Call("a-user", command, params...); a.Status != 431 {
				t.Errorf("%s %v by a user: %s", command, params, a.Raw)
			}
		}
	}
	left("root", 3)
	a = c.Must("a-user", "archiveEvents", "ids", id("0"))
	c.Golden("archiveEvents", a)
	left("root", 2)
	left("root", 2, "archived", "true")
	c.Golden("deleteEvents", c.Must("a-user", "deleteEvents", "enddate", "2026-12-31"))
	left("root", 2)
	left("root", 0, "archived", "true")
	c.Must("a-admin", "deleteEvents", "type", "VM.STOP")
	left("root", 1)
	c.Must("a-admin", "deleteEvents", "type", "VM.CREATE") // b-user's is not its own
	left("root", 1)
}
