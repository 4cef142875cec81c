package api_test

import (
	"errors"
	"io"
	"iter"
	"reflect"
	"slices"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/account"
	"github.com/wispcloud/wisp/coordinator/internal/api/apis"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/api/domain"
	"github.com/wispcloud/wisp/coordinator/internal/api/event"
	"github.com/wispcloud/wisp/coordinator/internal/api/session"
	"github.com/wispcloud/wisp/coordinator/internal/api/user"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// The commands of a made-up resource, things, kept in the table of key pairs: what the framework does is tested on it.

type thing struct {
	ID   cloud.ID `json:"id" doc:"the thing"`
	Name string   `json:"name" doc:"its name"`
}

type thingParams struct {
	api.ListParams
	api.OwnedParams
	ID cloud.ID `api:"id" ref:"thing" doc:"only this one"`
}

type oneThing struct {
	ID   cloud.ID `api:"id,required" ref:"thing" doc:"the thing"`
	Mode string   `api:"mode" doc:"what is to happen"`
}

type newThing struct {
	Name    string       `api:"name,required" doc:"its name"`
	Account string       `api:"account" doc:"the account it is for"`
	Domain  cloud.ID     `api:"domainid" ref:"domain,use" doc:"the account's domain"`
	Secret  cloud.Secret `api:"password" doc:"never to be seen"`
	Admin   string       `api:"hostid" role:"admin" doc:"for admins"`
}

func thingView(_ *api.Call, k *cloud.SSHKeyPair) thing { return thing{k.ID, k.Name} }

func thingOwner(_ *api.Call, k *cloud.SSHKeyPair) api.Owner {
	return api.Owner{Account: k.AccountID, Domain: k.DomainID}
}

func things() ([]api.Command, []api.Entity) {
	commands := []api.Command{
		{
			Name: "listThings", Doc: "Lists things.", Roles: api.Everyone, Object: "thing",
			Run: api.List(api.Lister[thingParams, cloud.SSHKeyPair, thing]{
				Rows: func(c *api.Call, p *thingParams) (iter.Seq[*cloud.SSHKeyPair], error) {
					if !p.ID.IsZero() {
						k, _ := tables.SSHKeyPairs.Get(c.Read, p.ID)
						return slices.Values([]*cloud.SSHKeyPair{k}), nil
					}
					return tables.SSHKeyPairs.All(c.Read), nil
				},
				Owner: thingOwner, Keyword: func(k *cloud.SSHKeyPair) string { return k.Name }, View: thingView,
				Less: func(a, b *cloud.SSHKeyPair) int {
					if a.Name < b.Name {
						return -1
					}
					return 1
				},
			}),
		},
		{
			Name: "createThing", Doc: "Makes a thing.", Roles: api.Everyone, Event: "THING.CREATE", Entity: "Thing", Object: "thing",
			Run: api.Change(func(c *api.Call, tx *store.Tx, p *newThing) (thing, error) {
				a, err := c.OwnerFor(p.Account, p.Domain, cloud.ID{})
				if err != nil {
					return thing{}, err
				}
				if err := identity.Count(tx, a.ID, cloud.ResourceVM, 1); err != nil {
					return thing{}, err
				}
				k := &cloud.SSHKeyPair{ID: tx.NewID(), AccountID: a.ID, DomainID: a.DomainID, Name: p.Name + p.Admin}
				c.Describe(k.ID, "creating thing "+k.Name)
				switch p.Name {
				case "panic":
					panic("a bug with " + string(p.Secret[:0]))
				case "broken":
					return thing{}, errors.New("the disk is on fire")
				}
				return thingView(c, k), tables.SSHKeyPairs.Put(tx, k)
			}),
		},
		{
			Name: "workThing", Doc: "Works on a thing.", Roles: api.Everyone, Event: "THING.WORK", Entity: "Thing", Object: "thing",
			Answer: reflect.TypeFor[thing](),
			Run: api.Async(func(c *api.Call, _ *store.Tx, p *oneThing) (*api.Start, error) {
				c.Describe(p.ID, "working on thing")
				return &api.Start{InstanceID: p.ID, Args: p.Mode}, nil
			}),
			Step: func(tx *store.Tx, j *job.State) (job.Outcome, error) {
				var mode string
				if err := j.Args(&mode); err != nil {
					return job.Outcome{}, err
				}
				switch mode {
				case "fail":
					return job.Fail(cloud.Errorf(cloud.NoCapacity, "No host has room")), nil
				case "broken":
					return job.Outcome{}, errors.New("the disk is on fire")
				}
				return job.Done(), nil
			},
			Result: func(r store.Reader, _ *api.ResultContext, j *cloud.Job) (any, error) {
				k, ok := tables.SSHKeyPairs.Get(r, j.InstanceID)
				if !ok {
					return nil, cloud.Errorf(cloud.Unavailable, "The thing is gone")
				}
				return thing{k.ID, k.Name}, nil
			},
		},
		{
			Name: "deleteThing", Doc: "Removes a thing.", Roles: api.Everyone, Event: "THING.DELETE", Entity: "Thing",
			Run: api.Delete(func(_ *api.Call, tx *store.Tx, p *oneThing) error { return tables.SSHKeyPairs.Delete(tx, p.ID) }),
		},
		{
			Name: "inspectThing", Doc: "Looks into a thing.", Roles: api.AdminOnly, Object: "thing",
			Run: api.Query(func(c *api.Call, p *oneThing) (thing, error) {
				k, _ := tables.SSHKeyPairs.Get(c.Read, p.ID)
				return thingView(c, k), nil
			}),
		},
	}
	entities := []api.Entity{{Name: "thing", Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) {
		k, ok := tables.SSHKeyPairs.Get(r, id)
		if !ok {
			return api.Owner{}, false
		}
		return thingOwner(nil, k), true
	}}}
	return commands, entities
}

// world serves the framework's own commands and those of things; every user has one, of its name.
func world(t testing.TB, log io.Writer) *apitest.Cloud {
	t.Helper()
	commands, entities := things()
	c := apitest.New(t, apitest.Config{
		Log: log, Entities: append(entities, event.Entities()...),
		Make: func(k *seal.Keeper) []api.Command {
			return slices.Concat(commands, session.Commands(session.Deps{}), user.Commands(user.Deps{Seal: k}), account.Commands(account.Deps{}), domain.Commands(domain.Deps{}),
				event.Commands(), apis.Commands())
		},
	})
	c.Update(func(tx *store.Tx) error {
		for name, u := range c.Users {
			k := &cloud.SSHKeyPair{ID: cloud.NameID("thing", name), AccountID: u.Account.ID, DomainID: u.Account.DomainID, Name: name}
			if err := tables.SSHKeyPairs.Put(tx, k); err != nil {
				return err
			}
		}
		return nil
	})
	for name := range c.Users {
		c.Name(cloud.NameID("thing", name), "thing:"+name)
	}
	return c
}

// names lists the name of each row of a list answer.
func names(a *apitest.Answer, key string) []string {
	rows, _ := a.Object[key].([]any)
	out := []string{}
	for _, r := range rows {
		m, _ := r.(map[string]any)
		n, _ := m["name"].(string)
		out = append(out, n)
	}
	return out
}
