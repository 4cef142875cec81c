package network_test

import (
	"strings"
	"testing"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// A newer image is there: the router is told to need it, and upgradeRouterTemplate replaces it, the old one going on until
// the new one is ready.
func TestUpgradeRouterTemplate(t *testing.T) {
	s := newStory(t)
	s.infrastructure()
	s.systemVMs("vm")
	net := s.Must("a-user", "createNetwork", "name", "net", "networkofferingid", s.ids["offering"], "zoneid", s.zone.String())
	s.keep("network", net.String("network.id"))
	s.deploy("a-user")
	s.observe()
	expect := func(what string, upgrade bool) string {
		t.Helper()
		a := s.Must("root", "listRouters", "listall", "true")
		if a.Get("count") != 1.0 || a.Get("router.0.requiresupgrade") != upgrade || a.String("router.0.state") != "Running" {
			t.Fatalf("%s: %s", what, a.Raw)
		}
		return a.String("router.0.id")
	}
	old := expect("with the only image", false)
	s.Update(func(tx *store.Tx) error {
		return tables.Templates.Put(tx, &cloud.Template{
			ID: cloud.NameID("test", "newer"), Name: "SystemVM Template (KVM)", Format: cloud.FormatSystemVM, Type: cloud.TemplateSystem,
			State: cloud.TemplateReady, SHA256: strings.Repeat("cd", 32), Version: "2.0", Created: tx.Now().Add(time.Second),
		})
	})
	expect("with a newer image", true)
	a := s.Must("root", "upgradeRouterTemplate", "id", old)
	job := a.String("asyncjobs.0.jobid")
	both := s.Must("root", "listRouters", "listall", "true")
	if job == "" || both.Get("count") != 2.0 || !strings.Contains(string(both.Raw), old) {
		t.Fatalf("the old router does not go on: %s %s", a.Raw, both.Raw)
	}
	s.observe() // the new one is ready
	s.observe() // and connected
	if done := s.Job("root", job); done.Object["jobstatus"] != 1.0 {
		t.Fatalf("job: %s", done.Raw)
	}
	if expect("after the upgrade", false) == old {
		t.Error("it is the router of before")
	}
}
