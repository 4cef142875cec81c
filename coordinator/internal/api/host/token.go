package host

import (
	"iter"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Commands with which hosts join. CloudStack has none like them: it goes to a host by ssh as root instead.

// TokenAnswer is a join token; its text is told once, when it is made.
type TokenAnswer struct {
	ID      cloud.ID `json:"id" doc:"the token"`
	Token   string   `json:"token,omitempty" doc:"the token itself, for wisp-agent join; told once and stored nowhere"`
	Note    string   `json:"note,omitempty" doc:"what it was made for"`
	Uses    *uint32  `json:"uses,omitempty" doc:"how many hosts can still join with it; absent: any number"`
	Created api.Time `json:"created" doc:"when it was made"`
	Expires api.Time `json:"expires" doc:"when it ends"`
	Expired bool     `json:"expired" doc:"whether it has ended"`
}

func tokenView(now time.Time, t *cloud.JoinToken) TokenAnswer {
	a := TokenAnswer{ID: t.ID, Note: t.Note, Created: api.Time(t.Created), Expires: api.Time(t.Expires), Expired: !now.Before(t.Expires)}
	if !t.Unlimited {
		a.Uses = &t.Uses
	}
	return a
}

type createTokenParams struct {
	Lifetime *uint32 `api:"lifetime" min:"60" max:"31536000" doc:"seconds until it ends; a day when absent"`
	Uses     uint32  `api:"uses" min:"1" max:"100000" doc:"how many hosts may join with it; any number when absent"`
	Note     string  `api:"note" doc:"what it is for"`
}

func createToken(d Deps) api.Command {
	return api.Command{
		Name: "createHostJoinToken", Doc: "Makes a token with which agents of new hosts join the cloud.", Roles: api.AdminOnly,
		Event: "HOST.TOKEN.CREATE", Entity: "HostJoinToken", Object: "hostjointoken",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *createTokenParams) (TokenAnswer, error) {
			a, err := d.Authority()
			if err != nil {
				return TokenAnswer{}, err
			}
			n := infra.NewToken{Uses: p.Uses, Note: p.Note}
			if p.Lifetime != nil {
				n.Life = time.Duration(*p.Lifetime) * time.Second
			}
			t, row, err := infra.CreateToken(tx, a, n)
			if err != nil {
				return TokenAnswer{}, err
			}
			c.Describe(row.ID, "host join token "+row.ID.String())
			v := tokenView(tx.Now(), row)
			v.Token = t.Reveal()
			return v, nil
		}),
	}
}

type listTokenParams struct {
	api.ListParams
	ID cloud.ID `api:"id" ref:"hostjointoken" doc:"this token only"`
}

func listTokens() api.Command {
	return api.Command{
		Name: "listHostJoinTokens", Doc: "Lists the tokens with which hosts may join, without their secrets.", Roles: api.AdminOnly,
		Object: "hostjointoken",
		Run: api.List(api.Lister[listTokenParams, cloud.JoinToken, TokenAnswer]{
			Rows: func(c *api.Call, p *listTokenParams) (iter.Seq[*cloud.JoinToken], error) {
				return func(yield func(*cloud.JoinToken) bool) {
					for t := range tables.JoinTokens.By(c.Read, "created", nil) {
						if (p.ID.IsZero() || p.ID == t.ID) && !yield(t) {
							return
						}
					}
				}, nil
			},
			Keyword: func(t *cloud.JoinToken) string { return t.Note },
			View:    func(c *api.Call, t *cloud.JoinToken) TokenAnswer { return tokenView(c.Now, t) },
		}),
	}
}

type tokenIDParams struct {
	ID cloud.ID `api:"id,required" ref:"hostjointoken" doc:"the token"`
}

func deleteToken() api.Command {
	return api.Command{
		Name: "deleteHostJoinToken", Doc: "Ends a join token; hosts that have joined with it stay.", Roles: api.AdminOnly,
		Event: "HOST.TOKEN.DELETE", Entity: "HostJoinToken",
		Run: api.Delete(func(c *api.Call, tx *store.Tx, p *tokenIDParams) error {
			c.Describe(p.ID, "host join token "+p.ID.String())
			return infra.DeleteToken(tx, p.ID)
		}),
	}
}

// reconnectWithin is how long reconnectHost waits for the new link.
const reconnectWithin = 2 * time.Minute
