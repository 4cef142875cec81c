package user

import (
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

type moveParams struct {
	ID        cloud.ID `api:"id,required" ref:"user" doc:"the user"`
	Account   string   `api:"account" doc:"name of the account that gets it; this or accountid"`
	AccountID cloud.ID `api:"accountid" ref:"account" doc:"the account that gets it"`
}

// target is the account that a call names, one of the user's domain.
func (p *moveParams) target(r store.Reader, u *cloud.User) (*cloud.Account, error) {
	if (p.Account == "") == p.AccountID.IsZero() {
		return nil, cloud.Errorf(cloud.Invalid, "Parameter account or accountid has to be given, and not both")
	}
	if !p.AccountID.IsZero() {
		a, ok := tables.Accounts.Get(r, p.AccountID)
		if !ok {
			return nil, api.NoEntity("accountid", p.AccountID)
		}
		return a, nil
	}
	a, ok := tables.Accounts.First(r, "name", store.K(u.DomainID, strings.ToLower(p.Account)))
	if !ok {
		return nil, cloud.Errorf(cloud.Invalid, "Unable to find account %s in the user's domain", p.Account)
	}
	return a, nil
}

func move() api.Command {
	return api.Command{
		Name: "moveUser", Doc: "Gives a user to another account of its domain.", Since: "4.11", Roles: api.AdminOnly,
		Event: "USER.MOVE", Entity: "User",
		Run: api.Delete(func(c *api.Call, tx *store.Tx, p *moveParams) error {
			u, err := managed(c, p.ID, "move")
			if err != nil {
				return err
			}
			to, err := p.target(tx, u)
			if err != nil {
				return err
			}
			if err := c.MayManage(to); err != nil {
				return err
			}
			if err := keepFirst(tx, u, "moved"); err != nil {
				return err
			}
			c.Describe(u.ID, "moving User. User Name: "+u.Username+", to account "+to.Name)
			return identity.MoveUser(tx, u, to)
		}),
	}
}
