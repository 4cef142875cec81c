// Package apilimit holds the commands that tell and reset how many calls an account has made. The counting itself is the
// API's: see api.Throttle.
package apilimit

import (
	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Commands lists the commands.
func Commands(t *api.Throttle) []api.Command { return []api.Command{get(t), reset(t)} }

// View is what an account has used of its limit.
type View struct {
	AccountID   cloud.ID `json:"accountid,omitempty" doc:"the account"`
	Account     string   `json:"account,omitempty" doc:"its name"`
	APIIssued   int64    `json:"apiIssued" doc:"calls in the present interval, this one included; 0 while calls are not limited"`
	APIAllowed  int64    `json:"apiAllowed" doc:"calls allowed in an interval"`
	ExpireAfter int64    `json:"expireAfter" doc:"milliseconds until the present interval ends"`
}

func get(t *api.Throttle) api.Command {
	return api.Command{
		Name: "getApiLimit", Doc: "Tells how many calls the caller's account has made and may make.", Roles: api.Everyone, Object: "apilimit",
		Run: api.Query(func(c *api.Call, _ *struct{}) (View, error) {
			issued, left := t.Issued(c.Account.ID, c.Now, c.Settings)
			return View{
				AccountID: c.Account.ID, Account: c.Account.Name, APIIssued: issued, APIAllowed: t.Allowed(c.Settings),
				ExpireAfter: left.Milliseconds(),
			}, nil
		}),
	}
}

type resetParams struct {
	Account cloud.ID `api:"account" ref:"account" doc:"the account whose calls are forgotten; all accounts where absent"`
}

func reset(t *api.Throttle) api.Command {
	return api.Command{
		Name: "resetApiLimit", Doc: "Lets an account, or every account, start a new interval of calls.", Roles: api.AdminOnly,
		Run: api.Query(func(c *api.Call, p *resetParams) (api.Success, error) {
			t.Reset(p.Account)
			who := "all accounts"
			if a, ok := tables.Accounts.Get(c.Read, p.Account); ok {
				who = a.Name
			}
			c.Log.Info("limit of calls reset", "account", who)
			return api.Success{Success: "true"}, nil
		}),
	}
}
