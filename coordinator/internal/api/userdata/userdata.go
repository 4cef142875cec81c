// Package userdata holds the commands of user-data that is kept under a name. What they do is in package compute.
package userdata

import (
	"encoding/base64"
	"iter"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/template"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/compute"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Deps is what the commands need.
type Deps struct{ Area *compute.Area }

// Commands lists the commands of this package.
func Commands(d Deps) []api.Command {
	return []api.Command{register(d), list(), remove(), link()}
}

// Entities lists what this package's rows are called in parameters.
func Entities() []api.Entity {
	return []api.Entity{api.OwnedEntity("userdata", tables.UserDatas, owner)}
}

func owner(u *cloud.UserData) api.Owner { return api.Owner{Account: u.AccountID, Domain: u.DomainID} }

// Answer is kept user-data as clients see it.
type Answer struct {
	ID        cloud.ID `json:"id" doc:"the user-data"`
	Name      string   `json:"name" doc:"its name"`
	AccountID cloud.ID `json:"accountid" doc:"owning account"`
	Account   string   `json:"account,omitempty" doc:"name of that account"`
	api.InProject
	api.InDomain
	UserData     string `json:"userdata" doc:"the content, base64"`
	Params       string `json:"params,omitempty" doc:"names of its variables, separated by commas"`
	api.Remarked `of:"userdata"`
}

func view(r store.Reader, k *seal.Keeper, u *cloud.UserData) Answer {
	a := Answer{ID: u.ID, Name: u.Name, AccountID: u.AccountID, InDomain: api.NameDomain(r, u.DomainID), Params: strings.Join(u.Params, ",")}
	a.Account, a.InProject = api.OwnerNames(r, u.AccountID)
	if text, err := k.Open(u.Content); err == nil {
		a.UserData = base64.StdEncoding.EncodeToString([]byte(text))
	}
	return a
}

type registerParams struct {
	Name     string   `api:"name,required" doc:"its name, one of a kind in its account"`
	UserData string   `api:"userdata,required" len:"1048576" doc:"the content, base64; at most 32 KiB decoded"`
	Params   []string `api:"params" type:"string" doc:"names of its variables, separated by commas"`
	api.OwnerParams
}

func register(d Deps) api.Command {
	return api.Command{
		Name: "registerUserData", Doc: "Keeps user-data under a name, for VMs to be deployed with.", Since: "4.18", Roles: api.Everyone,
		Event: "REGISTER.USER.DATA", Entity: "UserData", Object: "userdata",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *registerParams) (Answer, error) {
			account, err := p.Owner(c)
			if err != nil {
				return Answer{}, err
			}
			raw, err := compute.DecodeUserData(p.UserData)
			if err != nil {
				return Answer{}, err
			}
			u, err := d.Area.RegisterUserData(tx, account, p.Name, raw, p.Params)
			if err != nil {
				return Answer{}, err
			}
			c.Describe(u.ID, "user-data "+u.Name)
			return view(tx, c.Seal, u), nil
		}),
	}
}

type listParams struct {
	api.ListParams
	api.OwnedParams
	ID   cloud.ID `api:"id" doc:"this one only"`
	Name string   `api:"name" doc:"the one of this name"`
}

func list() api.Command {
	return api.Command{
		Name: "listUserData", Doc: "Lists kept user-data.", Since: "4.18", Roles: api.Everyone, Object: "userdata",
		Run: api.List(api.Lister[listParams, cloud.UserData, Answer]{
			Rows: func(c *api.Call, p *listParams) (iter.Seq[*cloud.UserData], error) {
				return api.Filter(api.OwnedRows(c, tables.UserDatas), func(u *cloud.UserData) bool {
					return (p.ID.IsZero() || u.ID == p.ID) && (p.Name == "" || u.Name == p.Name)
				}), nil
			},
			Owner:   func(_ *api.Call, u *cloud.UserData) api.Owner { return owner(u) },
			Keyword: func(u *cloud.UserData) string { return u.Name },
			View:    func(c *api.Call, u *cloud.UserData) Answer { return view(c.Read, c.Seal, u) },
		}),
	}
}

type removeParams struct {
	ID cloud.ID `api:"id,required" ref:"userdata" doc:"the user-data"`
	api.OwnerParams
}

func remove() api.Command {
	return api.Command{
		Name: "deleteUserData", Doc: "Removes kept user-data that no template and no VM uses.", Since: "4.18", Roles: api.Everyone,
		Event: "DELETE.USER.DATA", Entity: "UserData",
		Run: api.Delete(func(c *api.Call, tx *store.Tx, p *removeParams) error {
			u, ok := tables.UserDatas.Get(tx, p.ID)
			if !ok {
				return api.NoEntity("id", p.ID)
			}
			if p.Account != "" || !p.ProjectID.IsZero() {
				named, err := p.Owner(c)
				if err != nil {
					return err
				}
				if named.ID != u.AccountID {
					return api.NoEntity("id", p.ID)
				}
			}
			c.Describe(u.ID, "user-data "+u.Name)
			return compute.DeleteUserData(tx, u)
		}),
	}
}

type linkParams struct {
	TemplateID cloud.ID `api:"templateid" ref:"template" doc:"the template"`
	UserDataID cloud.ID `api:"userdataid" ref:"userdata" doc:"user-data of the template's owner; none takes the present one away"`
	Policy     string   `api:"userdatapolicy" enum:"ALLOWOVERRIDE,DENYOVERRIDE,APPEND" doc:"what becomes of it where a deployment brings its own: ALLOWOVERRIDE (when absent), DENYOVERRIDE or APPEND"`
}

func link() api.Command {
	return api.Command{
		Name: "linkUserDataToTemplate", Doc: "Gives a template user-data that its VMs are deployed with.", Since: "4.18", Roles: api.Everyone,
		Event: "TEMPLATE.UPDATE", Entity: "Template", Object: "template",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *linkParams) (template.Answer, error) {
			t, ok := tables.Templates.Get(tx, p.TemplateID)
			if !ok {
				return template.Answer{}, cloud.Errorf(cloud.Invalid, "Unable to execute API command linkUserDataToTemplate due to missing parameter templateid")
			}
			policy := cloud.UserDataAllowOverride
			for _, x := range []cloud.UserDataPolicy{cloud.UserDataDenyOverride, cloud.UserDataAppend} {
				if x.String() == p.Policy {
					policy = x
				}
			}
			c.Describe(t.ID, "user-data of template "+t.Name)
			if err := compute.LinkUserData(tx, t, p.UserDataID, policy); err != nil {
				return template.Answer{}, err
			}
			return template.View(c, t), nil
		}),
	}
}
