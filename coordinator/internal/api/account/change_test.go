package account_test

import (
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/api/account"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

func TestLifeOfAnAccount(t *testing.T) {
	stopped := 0
	c := apitest.New(t, apitest.Config{Commands: account.Commands(account.Deps{
		Stop: func(tx *store.Tx, vm *cloud.VM, _ bool) error {
			vm.State = cloud.VMStopped
			stopped++
			return tables.VMs.Put(tx, vm)
		},
	})})
	u := c.Users["a-user"]
	zone := cloud.NameID("zone", "test")
	c.Name(zone, "zone")
	c.Update(func(tx *store.Tx) error {
		if err := tables.Zones.Put(tx, &cloud.Zone{ID: zone, Name: "z"}); err != nil {
			return err
		}
		return tables.VMs.Put(tx, &cloud.VM{ID: tx.NewID(), Name: "vm", InstanceName: "i-1", AccountID: u.Account.ID, DomainID: u.Account.DomainID, State: cloud.VMRunning})
	})
	id, domain := u.Account.ID.String(), u.Account.DomainID.String()
	job := func(golden, command string, params ...string) {
		t.Helper()
		a := c.Call("root", command, params...)
		if a.Status != 200 {
			t.Fatalf("%s: %s", command, a.Raw)
		}
		a = c.Job("root", a.String("jobid"))
		c.Golden(golden, a)
	}
	sync := func(golden, command string, params ...string) {
		t.Helper()
		a := c.Must("root", command, params...)
		c.Golden(golden, a)
		c.CheckSDK(command, a)
	}
	sync("updateAccount", "updateAccount", "id", id, "newname", "renamed", "networkdomain", "a.example.org", "accountdetails[0].key", "k", "accountdetails[0].value", "v")
	sync("lockAccount", "lockAccount", "account", "renamed", "domainid", domain)
	if a := c.Call("a-user", "listAccounts"); a.Status != 401 {
		t.Errorf("a locked account calls: %s", a.Raw)
	}
	sync("enableAccount", "enableAccount", "id", id)
	job("disableAccount", "disableAccount", "id", id, "lock", "false")
	if a := c.Call("a-user", "listAccounts"); a.Status != 401 || stopped != 1 {
		t.Errorf("a disabled account calls: %s; %d VMs were stopped", a.Raw, stopped)
	}
	sync("enableAccount-again", "enableAccount", "account", "renamed", "domainid", domain)
	job("markDefaultZoneForAccount", "markDefaultZoneForAccount", "account", "renamed", "domainid", domain, "zoneid", zone.String())
	job("deleteAccount", "deleteAccount", "id", id)
	if tables.Accounts.Has(c.Read(), u.Account.ID) || tables.Users.Has(c.Read(), u.User.ID) {
		t.Error("the account is still there")
	}
	for _, x := range [][]string{
		{"a-admin", "disableAccount", "id", c.Users["a-admin"].Account.ID.String(), "lock", "true"},
		{"a-admin", "disableAccount", "id", c.Users["b-user"].Account.ID.String(), "lock", "true"},
		{"root", "deleteAccount", "id", c.Users["root"].Account.ID.String()},
	} {
		if a := c.Call(x[0], x[1], x[2:]...); a.Status == 200 {
			t.Errorf("%v: %s", x, a.Raw)
		}
	}
}
