// Package account holds the commands of accounts.
package account

import (
	"iter"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/limit"
	"github.com/wispcloud/wisp/coordinator/internal/api/role"
	"github.com/wispcloud/wisp/coordinator/internal/api/user"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Entities lists the entity of accounts.
func Entities() []api.Entity {
	return []api.Entity{{
		Name: "account",
		Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) {
			a, ok := tables.Accounts.Get(r, id)
			if !ok || a.System || a.Type == cloud.ProjectAccount {
				return api.Owner{}, false
			}
			return api.Owner{Account: a.ID, Domain: a.DomainID}, true
		},
	}}
}

// Deps is what the commands need.
type Deps struct {
	// Owned are the kinds of things that accounts own, in the order in which they go.
	Owned []identity.Owned
	// Stop asks for a virtual machine to be stopped; it does nothing to one that is.
	Stop func(tx *store.Tx, vm *cloud.VM, forced bool) error
	// Hashers, optional, is shared with other commands that hash passwords.
	Hashers *identity.Hashers
}

// Commands lists the commands.
func Commands(d Deps) []api.Command {
	if d.Hashers == nil {
		d.Hashers = identity.NewHashers()
	}
	return []api.Command{list(), d.create(), update(), enable(), lock(), d.disable(), d.remove(), markZone()}
}

// View is an account in an answer.
type View struct {
	ID              cloud.ID          `json:"id" doc:"the account"`
	Name            string            `json:"name" doc:"its name"`
	Type            int               `json:"accounttype" doc:"0 user, 1 root admin, 2 domain admin"`
	RoleID          cloud.ID          `json:"roleid,omitempty" doc:"its role"`
	RoleType        string            `json:"roletype" doc:"kind of its role"`
	RoleName        string            `json:"rolename" doc:"name of its role"`
	DomainID        cloud.ID          `json:"domainid" doc:"its domain"`
	Domain          string            `json:"domain" doc:"name of its domain"`
	DomainPath      string            `json:"domainpath" doc:"path of its domain"`
	DefaultZoneID   cloud.ID          `json:"defaultzoneid,omitempty" doc:"its zone where none is named"`
	ReceivedBytes   int64             `json:"receivedbytes" doc:"bytes its networks received"`
	SentBytes       int64             `json:"sentbytes" doc:"bytes its networks sent"`
	VMRunning       int               `json:"vmrunning" doc:"its virtual machines that run"`
	VMStopped       int               `json:"vmstopped" doc:"its virtual machines that are stopped"`
	State           string            `json:"state" doc:"enabled, disabled or locked"`
	CleanupRequired bool              `json:"iscleanuprequired" doc:"whether its removal has to be finished"`
	NetworkDomain   string            `json:"networkdomain,omitempty" doc:"DNS domain of its guest networks"`
	IsDefault       bool              `json:"isdefault" doc:"whether it was there from the start"`
	Created         api.Time          `json:"created" doc:"when it was made"`
	Details         map[string]string `json:"accountdetails,omitempty" doc:"further facts about it"`
	Groups          []string          `json:"groups" doc:"always empty"`
	Users           []user.View       `json:"user" doc:"its users"`
	limit.Totals
}

// NewView shows an account.
func NewView(c *api.Call, a *cloud.Account) View {
	r := identity.RoleOf(c.Read, a)
	v := View{
		ID: a.ID, Name: a.Name, Type: int(a.Type), RoleID: r.ID, RoleType: role.TypeName(r.Type), RoleName: r.Name,
		DomainID: a.DomainID, DefaultZoneID: a.DefaultZoneID, State: a.State.String(), NetworkDomain: a.NetworkDomain,
		IsDefault: identity.IsDefault(a), CleanupRequired: a.Removing, Details: a.Details, Created: api.Time(a.Created), Totals: limit.OfAccount(c.Read, a),
	}
	if d, ok := tables.Domains.Get(c.Read, a.DomainID); ok {
		v.Domain, v.DomainPath = d.Name, d.Path
	}
	for vm := range tables.VMs.By(c.Read, "account", store.K(a.ID)) {
		switch vm.State {
		case cloud.VMRunning:
			v.VMRunning++
		case cloud.VMStopped:
			v.VMStopped++
		}
	}
	for u := range tables.Users.By(c.Read, "account", store.K(a.ID)) {
		v.Users = append(v.Users, user.NewView(c, u))
	}
	return v
}

type listParams struct {
	api.ListParams
	ID        cloud.ID `api:"id" ref:"account" doc:"only this account"`
	Name      string   `api:"name" doc:"only the account of this name"`
	Type      *int64   `api:"accounttype" doc:"only of this type: 0 user, 1 root admin, 2 domain admin"`
	State     string   `api:"state" doc:"only in this state: enabled, disabled or locked"`
	Cleanup   *bool    `api:"iscleanuprequired" doc:"only those whose removal has to be finished, or not"`
	DomainID  cloud.ID `api:"domainid" ref:"domain,use" doc:"only of this domain"`
	Recursive *bool    `api:"isrecursive" doc:"with domainid or listall: also of the domains below"`
	ListAll   bool     `api:"listall" doc:"all accounts the caller may see, not only its own"`
}

// Owned makes the scope work as in other lists: name takes the place of account.
func (p *listParams) Owned() *api.OwnedParams {
	return &api.OwnedParams{DomainID: p.DomainID, ListAll: p.ListAll || p.Name != "" && p.DomainID.IsZero(), Recursive: p.Recursive}
}

func list() api.Command {
	return api.Command{
		Name: "listAccounts", Doc: "Lists accounts with their limits and what they have.", Roles: api.Everyone, Object: "account",
		Run: api.List(api.Lister[listParams, cloud.Account, View]{
			Rows: func(c *api.Call, p *listParams) (iter.Seq[*cloud.Account], error) {
				return func(yield func(*cloud.Account) bool) {
					for a := range candidates(c, p) {
						if p.wants(a) && !yield(a) {
							return
						}
					}
				}, nil
			},
			Owner:   func(_ *api.Call, a *cloud.Account) api.Owner { return api.Owner{Account: a.ID, Domain: a.DomainID} },
			Keyword: func(a *cloud.Account) string { return a.Name },
			Less:    func(a, b *cloud.Account) int { return int(int64(a.Number) - int64(b.Number)) },
			View:    NewView,
		}),
	}
}

func candidates(c *api.Call, p *listParams) iter.Seq[*cloud.Account] {
	id := p.ID
	if only, ok := c.Scope.Account(); ok && id.IsZero() {
		id = only
	}
	if id.IsZero() {
		return tables.Accounts.All(c.Read)
	}
	return func(yield func(*cloud.Account) bool) {
		if a, ok := tables.Accounts.Get(c.Read, id); ok {
			yield(a)
		}
	}
}

func (p *listParams) wants(a *cloud.Account) bool {
	switch {
	case a.System || a.Type == cloud.ProjectAccount,
		p.Name != "" && !strings.EqualFold(a.Name, p.Name),
		p.Type != nil && *p.Type != int64(a.Type) && *p.Type != -1,
		p.State != "" && !strings.EqualFold(p.State, a.State.String()),
		p.Cleanup != nil && *p.Cleanup != a.Removing:
		return false
	}
	return true
}
