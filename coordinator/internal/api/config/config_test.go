package config_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/api/cluster"
	"github.com/wispcloud/wisp/coordinator/internal/api/config"
	"github.com/wispcloud/wisp/coordinator/internal/api/storagepool"
	"github.com/wispcloud/wisp/coordinator/internal/api/zone"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// A setting of each kind: with scopes, and a secret.
var (
	factor = settings.Define(settings.Def{
		Name: "test.factor", Category: "Test", Type: settings.Float, Default: "1", Min: 0, Max: 9, Doc: "A factor.", Scopes: settings.Zone | settings.Account,
	})
	password = settings.Define(settings.Def{Name: "test.password", Category: "Secure", Doc: "A secret.", Secret: true})
)

func world(t *testing.T) *apitest.Cloud {
	g := settings.New(api.Settings(), identity.Settings(), []*settings.Def{factor, password})
	return apitest.New(t, apitest.Config{
		Commands: config.Commands(g), Entities: slices.Concat(zone.Entities(), cluster.Entities(), storagepool.Entities()),
	})
}

func TestScopes(t *testing.T) {
	c := world(t)
	z := cloud.ID{1, 2}
	c.Update(func(tx *store.Tx) error { return tables.Zones.Put(tx, &cloud.Zone{ID: z, Name: "z"}) })
	c.Must("root", "updateConfiguration", "name", "test.factor", "value", "2")
	c.Must("root", "updateConfiguration", "name", "test.factor", "value", "3", "zoneid", z.String())
	a := c.Must("root", "listConfigurations", "zoneid", z.String())
	c.Golden("listConfigurations-zone", a)
	if got := factor.Float(c.Read(), z); got != 3 {
		t.Errorf("the zone's factor is %v", got)
	}
	a = c.Must("root", "resetConfiguration", "name", "test.factor", "zoneid", z.String())
	c.Golden("resetConfiguration", a)
	c.CheckSDK("resetConfiguration", a)
	if a := c.Must("root", "resetConfiguration", "name", "test.factor"); a.String("configuration.value") != "1" {
		t.Errorf("after the reset: %s", a.Raw)
	}
	for _, x := range [][]string{
		{"name", "default.page.size", "value", "3", "zoneid", z.String()},
		{"name", "test.factor", "value", "3", "zoneid", z.String(), "accountid", c.Users["a-user"].Account.ID.String()},
		{"name", "test.factor", "value", "10", "zoneid", z.String()},
	} {
		if a := c.Call("root", "updateConfiguration", x...); a.Status != 431 {
			t.Errorf("%v: %s", x, a.Raw)
		}
	}
	a = c.Must("root", "listConfigurationGroups")
	c.Golden("listConfigurationGroups", a)
	c.CheckSDK("listConfigurationGroups", a)
}

func TestSecretsAreNotShown(t *testing.T) {
	c := world(t)
	for _, a := range []*apitest.Answer{
		c.Must("root", "updateConfiguration", "name", "test.password", "value", "hush-hush"),
		c.Must("root", "listConfigurations", "category", "Secure"),
	} {
		if strings.Contains(string(a.Raw), "hush") || a.String("configuration.value") != "********" {
			t.Errorf("%s", a.Raw)
		}
	}
	sealed, ok := password.Sealed(c.Read())
	if open, err := c.Seal.Open(sealed); !ok || err != nil || open != "hush-hush" {
		t.Errorf("%q %v", open, err)
	}
}

func TestAnswers(t *testing.T) {
	c := world(t)
	a := c.Must("root", "updateConfiguration", "name", "default.page.size", "value", "100")
	c.Golden("updateConfiguration", a)
	c.CheckSDK("updateConfiguration", a)
	a = c.Must("root", "listConfigurations", "category", "advanced")
	c.Golden("listConfigurations", a)
	c.CheckSDK("listConfigurations", a)
	c.Golden("listConfigurations", c.CallXML("root", "listConfigurations", "name", "default.page.size"))
	if a = c.Must("root", "updateConfiguration", "name", "default.page.size"); a.String("configuration.value") != "500" {
		t.Errorf("without a value it is not the default: %s", a.Raw)
	}
	for _, x := range []struct{ golden, name, value string }{
		{"bad-number", "default.page.size", "many"}, {"out-of-range", "default.page.size", "0"}, {"unknown", "no.such.setting", "1"},
	} {
		c.Golden("updateConfiguration-"+x.golden, c.Call("root", "updateConfiguration", "name", x.name, "value", x.value))
	}
	for _, user := range []string{"a-admin", "a-user"} {
		for _, command := range []string{"listConfigurations", "updateConfiguration"} {
			if a := c.Call(user, command, "name", "default.page.size"); a.Status != 432 {
				t.Errorf("%s by %s: %d", command, user, a.Status)
			}
		}
	}
}
