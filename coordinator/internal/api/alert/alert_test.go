package alert_test

import (
	"slices"
	"testing"

	area "github.com/wispcloud/wisp/coordinator/internal/alert"
	"github.com/wispcloud/wisp/coordinator/internal/api/alert"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/api/pod"
	"github.com/wispcloud/wisp/coordinator/internal/api/zone"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

func TestAlerts(t *testing.T) {
	c := apitest.New(t, apitest.Config{
		Commands: alert.Commands(), Entities: slices.Concat(alert.Entities(), zone.Entities(), pod.Entities()),
	})
	golden := func(name, command string, params ...string) {
		t.Helper()
		a := c.Must("root", command, params...)
		c.Golden(name, a)
		c.CheckSDK(command, a)
	}
	listed := func(want int, params ...string) {
		t.Helper()
		if got := c.Must("root", "listAlerts", params...).Get("count"); got != float64(want) && (got != nil || want > 0) {
			t.Errorf("listAlerts %v: %v, want %d", params, got, want)
		}
	}
	for _, bad := range apitest.CheckFacts(c.Registry, nil) {
		t.Error(bad)
	}
	golden("generateAlert", "generateAlert", "name", "backup", "description", "the backup failed", "type", "11")
	c.Update(func(tx *store.Tx) error {
		return area.Raise(tx, area.Condition{Type: area.Host, Key: "host/1", Subject: "Host h1 is not heard from", Description: "Look at it."})
	})
	golden("listAlerts", "listAlerts")
	c.Golden("listAlerts", c.CallXML("root", "listAlerts", "type", "HOST"))
	golden("listAlertTypes", "listAlertTypes")
	listed(1, "type", "6")
	listed(1, "name", "BACKUP")
	listed(1, "keyword", "failed")
	listed(0, "type", "5")
	id := c.Must("root", "listAlerts", "name", "backup").String("alert.id")
	listed(1, "id", id)
	if a := c.Call("root", "deleteAlerts"); a.Status != 431 {
		t.Errorf("deleting all: %s", a.Raw)
	}
	golden("archiveAlerts", "archiveAlerts", "ids", id)
	listed(1)
	golden("deleteAlerts", "deleteAlerts", "type", "HOST", "enddate", "2030-01-01")
	listed(0)
	if a := c.Call("root", "deleteAlerts", "ids", "01234567-89ab-4def-8123-456789abcdef"); a.Status != 431 {
		t.Errorf("an unknown alert: %s", a.Raw)
	}
	for _, user := range []string{"a-admin", "a-user"} {
		for _, command := range []string{"listAlerts", "deleteAlerts", "archiveAlerts", "generateAlert"} {
			if a := c.Call(user, command); a.Status != 432 {
				t.Errorf("%s by %s: %d", command, user, a.Status)
			}
		}
	}
}
