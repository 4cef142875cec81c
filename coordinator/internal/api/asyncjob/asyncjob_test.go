package asyncjob_test

import (
	"strings"
	"testing"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

func world(t *testing.T) (*apitest.Cloud, cloud.ID) {
	c := apitest.New(t, apitest.Config{})
	done := cloud.NameID("job", "done")
	u := c.Users["a-user"]
	c.Update(func(tx *store.Tx) error {
		j := cloud.Job{
			ID: done, Command: "deployVirtualMachine", UserID: u.User.ID, AccountID: u.Account.ID, DomainID: u.Account.DomainID,
			InstanceType: "VirtualMachine", InstanceID: cloud.NameID("vm", "x"), Status: cloud.JobSucceeded, Created: tx.Now(), Completed: tx.Now(),
			Result: c.Seal.Seal(`{"virtualmachine":{"name":"x","password":"hunter2","nic":[{"a":1}]}}`),
		}
		if err := tables.Jobs.Put(tx, &j); err != nil {
			return err
		}
		j.Completed = time.Time{}
		j.ID, j.Status, j.Result, j.Command = cloud.NameID("job", "pending"), cloud.JobPending, nil, "unknownToTheEngine"
		return tables.Jobs.Put(tx, &j)
	})
	return c, done
}

func TestAnswers(t *testing.T) {
	c, done := world(t)
	for golden, id := range map[string]cloud.ID{"queryAsyncJobResult": done, "queryAsyncJobResult-pending": cloud.NameID("job", "pending")} {
		a := c.Must("a-user", "queryAsyncJobResult", "jobId", id.String())
		c.Golden(golden, a)
		c.CheckSDK("queryAsyncJobResult", a)
		c.Golden(golden, c.CallXML("a-user", "queryAsyncJobResult", "jobId", id.String()))
	}
	a := c.Must("a-user", "listAsyncJobs")
	c.Golden("listAsyncJobs", a)
	c.CheckSDK("listAsyncJobs", a)
	c.Golden("queryAsyncJobResult-missing", c.Call("a-user", "queryAsyncJobResult"))
}

// An admin sees the jobs of others, but not the passwords that they told.
func TestCVE_2015_3251_PasswordsAreForTheirOwner(t *testing.T) {
	c, done := world(t)
	for _, user := range []string{"root", "a-admin"} {
		a := c.Must(user, "queryAsyncJobResult", "jobid", done.String())
		if a.Get("jobresult.virtualmachine.name") != "x" || strings.Contains(string(a.Raw), "hunter") {
			t.Errorf("%s sees %s", user, a.Raw)
		}
	}
	for _, user := range []string{"a-other", "b-admin", "x-user"} {
		if a := c.Call(user, "queryAsyncJobResult", "jobid", done.String()); a.Status != 431 {
			t.Errorf("%s sees %s", user, a.Raw)
		}
		if a := c.Call(user, "listAsyncJobs", "listall", "true"); len(a.Object) != 0 {
			t.Errorf("%s lists %s", user, a.Raw)
		}
	}
	if a := c.Must("a-user", "queryAsyncJobResult", "jobid", done.String()); a.String("jobresult.virtualmachine.password") != "hunter2" {
		t.Errorf("its owner sees %s", a.Raw)
	}
}

// Nor where they stand in a list inside the answer.
func TestCVE_2015_3251_PasswordsInLists(t *testing.T) {
	c, done := world(t)
	c.Update(func(tx *store.Tx) error {
		return tables.Jobs.Edit(tx, done, func(j *cloud.Job) error {
			j.Result = c.Seal.Seal(`{"virtualmachine":[{"name":"x","password":"hunter2"},[{"userkeys":{"secretkey":"hunter3"}}]]}`)
			return nil
		})
	})
	for _, command := range []string{"queryAsyncJobResult", "listAsyncJobs"} {
		params := map[string][]string{"queryAsyncJobResult": {"jobid", done.String()}, "listAsyncJobs": {"listall", "true"}}[command]
		if a := c.Must("root", command, params...); strings.Contains(string(a.Raw), "hunter") || !strings.Contains(string(a.Raw), `"name":"x"`) {
			t.Errorf("%s tells root %s", command, a.Raw)
		}
		if a := c.Must("a-user", command, params...); strings.Count(string(a.Raw), "hunter") != 2 {
			t.Errorf("%s tells the owner %s", command, a.Raw)
		}
	}
}
