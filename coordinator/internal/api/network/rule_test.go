package network_test

import (
	"strings"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Root admins hide rules from users, and give them other ids: with them go their tags, and the router has the rule as before.
func TestUpdateFirewallRules(t *testing.T) {
	s := newStory(t)
	s.infrastructure()
	s.keep("network", s.Must("a-user", "createNetwork", "name", "net", "networkofferingid", s.ids["offering"], "zoneid", s.zone.String()).String("network.id"))
	s.deploy("a-user")
	s.async("ip", "ipaddress", "a-user", "associateIpAddress", "networkid", s.ids["network"])
	s.async("ingress", "firewallrule", "a-user", "createFirewallRule", "ipaddressid", s.ids["ip"], "protocol", "tcp", "startport", "22")
	s.async("egress", "firewallrule", "root", "createEgressFirewallRule", "networkid", s.ids["network"], "protocol", "tcp", "fordisplay", "false")
	rules := []struct{ rule, other, update, list, remove, custom string }{
		{"ingress", "egress", "updateFirewallRule", "listFirewallRules", "deleteFirewallRule", "1a1a1a1a-1111-4111-8111-111111111111"},
		{"egress", "ingress", "updateEgressFirewallRule", "listEgressFirewallRules", "deleteEgressFirewallRule", "2b2b2b2b-2222-4222-8222-222222222222"},
	}
	for _, x := range rules {
		old, _ := cloud.ParseID(s.ids[x.rule])
		s.Update(func(tx *store.Tx) error {
			return tables.Tags.Put(tx, &cloud.Tag{ID: tx.NewID(), ResourceID: old, ResourceType: "FirewallRule", Key: "of", Value: x.rule})
		})
		id := old.String()
		update := func(user string, params ...string) {
			t.Helper()
			s.golden(x.update, "queryAsyncJobResult", s.Must(user, x.update, append([]string{"id", id}, params...)...))
		}
		sees := func(user, want string, params ...string) {
			t.Helper()
			got := "nothing"
			if a := s.Must(user, x.list, append([]string{"listall", "true"}, params...)...); a.Get("count") != nil {
				got = a.String("firewallrule.id")
			}
			if got != want {
				t.Errorf("%s by %s with %v shows %s, want %s", x.list, user, params, got, want)
			}
		}
		update("root", "fordisplay", "true")
		sees("a-user", id)
		sees("root", "nothing", "fordisplay", "false")
		update("root", "fordisplay", "false")
		sees("a-user", "nothing")
		sees("a-user", "nothing", "fordisplay", "false") // not for users to say
		sees("root", id)
		sees("root", id, "fordisplay", "false")
		sees("root", "nothing", "fordisplay", "true")
		update("a-user", "fordisplay", "true", "customid", x.custom) // nor these
		sees("a-user", "nothing")
		for _, bad := range []string{s.ids[x.other], "7", "00000000-0000-0000-0000-000000000000"} {
			if text, code := s.Call("root", x.update, "id", id, "customid", bad).Error(); code != 431 || !strings.HasPrefix(text, "Invalid customid="+bad+": ") {
				t.Errorf("customid=%s: %d %s", bad, code, text)
			}
		}
		text, code := s.Call("root", x.update, "id", s.ids[x.other], "fordisplay", "true").Error()
		if code != 431 || !strings.HasSuffix(text, "entity does not exist") {
			t.Errorf("%s with the other kind of rule: %d %s", x.update, code, text)
		}
		a := s.Must("root", x.update, "id", id, "customid", x.custom, "fordisplay", "true")
		s.keep(x.rule, x.custom)
		s.CheckSDK("queryAsyncJobResult", a)
		s.Golden(x.update, a)
		sees("a-user", x.custom)
		text, code = s.Call("root", x.update, "id", id, "fordisplay", "true").Error()
		if code != 431 || !strings.HasSuffix(text, "entity does not exist") {
			t.Errorf("by the id of before: %d %s", code, text)
		}
		s.observe()
		sees("a-user", x.custom)
	}
	for _, x := range rules {
		// A rule that is still on its way is known by its id to whoever waits for it.
		waits := s.Call("a-user", x.remove, "id", x.custom)
		text, code := s.Call("root", x.update, "id", x.custom, "customid", cloud.NameID("test", "other").String()).Error()
		if code != 431 || !strings.Contains(text, "is in the state Deleting") {
			t.Errorf("a new id for a rule that goes: %d %s", code, text)
		}
		s.observe()
		s.Job("a-user", waits.String("jobid"))
		if a := s.Must("root", x.list, "listall", "true"); a.Get("count") != nil {
			t.Errorf("left is %s", a.Raw)
		}
	}
	if n := tables.Tags.Len(s.Read()); n != 0 {
		t.Errorf("%d tags are left", n)
	}
}
