package config_test

import (
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/api/config"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
)

func TestAnswers(t *testing.T) {
	c := apitest.New(t, apitest.Config{Commands: config.Commands(settings.New(api.Settings(), identity.Settings()))})
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
		c.Golden(x.golden, c.Call("root", "updateConfiguration", "name", x.name, "value", x.value))
	}
	for _, user := range []string{"a-admin", "a-user"} {
		for _, command := range []string{"listConfigurations", "updateConfiguration"} {
			if a := c.Call(user, command, "name", "default.page.size"); a.Status != 432 {
				t.Errorf("%s by %s: %d", command, user, a.Status)
			}
		}
	}
}
