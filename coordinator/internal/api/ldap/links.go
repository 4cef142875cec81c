package ldap

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/account"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	directory "github.com/wispcloud/wisp/coordinator/internal/ldap"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// LinkView is a link in an answer.
type LinkView struct {
	DomainID    cloud.ID          `json:"domainid" doc:"the domain"`
	LDAPDomain  string            `json:"ldapdomain" doc:"distinguished name of the group or organizational unit"`
	Name        string            `json:"name" doc:"the same as ldapdomain"`
	Type        string            `json:"type" doc:"GROUP or OU"`
	AccountType cloud.AccountType `json:"accounttype" doc:"type of the accounts that users get: 0 user, 2 domain admin"`
	Account     string            `json:"account,omitempty" doc:"the account that gets the users; absent: each gets its own"`
	AccountID   cloud.ID          `json:"accountid,omitempty" doc:"the domain admin's account that admin asked for"`
}

func viewLink(l *cloud.LDAPLink) LinkView {
	v := LinkView{DomainID: l.DomainID, LDAPDomain: l.DN, Name: l.DN, Type: "OU", AccountType: l.AccountType}
	if l.Group {
		v.Type = "GROUP"
	}
	return v
}

// newLink makes the row of a link, checked against the domain's directories, and finds the user that is to be admin.
func (d Deps) newLink(c *api.Call, domain cloud.ID, kind, dn, admin string) (*cloud.LDAPLink, *directory.Entry, error) {
	l := &cloud.LDAPLink{DomainID: domain, DN: dn}
	switch strings.ToUpper(kind) {
	case "", "GROUP":
		l.Group = true
	case "OU":
	default:
		return nil, nil, cloud.Errorf(cloud.Invalid, "Invalid type %q: it must be GROUP or OU", kind)
	}
	if err := directory.CheckDN("ldapdomain", dn); err != nil {
		return nil, nil, err
	}
	e, err := directory.CheckLink(c.Context(), c.Read, d.Seal, l, admin)
	return l, e, err
}

// putLink writes a link, instead of the one that the domain or the account had.
func putLink(tx *store.Tx, l *cloud.LDAPLink) error {
	if x, ok := tables.Domains.Get(tx, l.DomainID); !ok || x.State != cloud.Enabled {
		return cloud.Errorf(cloud.Invalid, "Domain %s is being removed", l.DomainID)
	}
	l.ID, l.Created = tx.NewID(), tx.Now()
	if old, ok := tables.LDAPLinks.First(tx, "owner", store.K(l.DomainID, l.AccountID)); ok {
		l.ID = old.ID
	}
	err := tables.LDAPLinks.Put(tx, l)
	var taken *store.Conflict
	if errors.As(err, &taken) {
		return cloud.Errorf(cloud.Invalid, "Invalid ldapdomain %q: the domain, or another account of it, is linked to it already", l.DN)
	}
	if err != nil {
		return fmt.Errorf("write LDAP link to %s: %w", l.DN, err)
	}
	return nil
}

// makeAdmin makes a directory's user a domain admin, or finds it where it is one.
func makeAdmin(c *api.Call, tx *store.Tx, domain cloud.ID, e *directory.Entry) (cloud.ID, error) {
	if e == nil {
		return cloud.ID{}, nil
	}
	role := identity.DefaultRole(cloud.DomainAdminAccount)
	if err := c.MayGrant(role); err != nil {
		return cloud.ID{}, err
	}
	if u, ok := tables.Users.First(tx, "username", store.K(domain, strings.ToLower(e.Username))); ok {
		if a, _ := tables.Accounts.Get(tx, u.AccountID); a.Type == cloud.DomainAdminAccount {
			return a.ID, nil
		}
		return cloud.ID{}, cloud.Errorf(cloud.Invalid, "Invalid admin %q: the domain has a user of that name who is no domain admin", e.Username)
	}
	a, err := identity.CreateAccount(tx, identity.AccountSpec{Name: e.Username, Type: role.Type, Role: role, DomainID: domain})
	if err != nil {
		return cloud.ID{}, err
	}
	_, err = identity.CreateUser(tx, e.Spec(a.ID))
	return a.ID, err
}

// prepared is a link with its admin, before anything is written.
type prepared struct {
	link  *cloud.LDAPLink
	admin *directory.Entry
}

type linkDomainParams struct {
	DomainID   cloud.ID `api:"domainid,required" ref:"domain" doc:"the domain"`
	Type       string   `api:"type" doc:"GROUP or OU; GROUP where absent"`
	LDAPDomain string   `api:"ldapdomain" doc:"distinguished name of the group or organizational unit"`
	Name       string   `api:"name" doc:"older name of ldapdomain"`
	Account    int16    `api:"accounttype,required" doc:"type of the accounts that users get: 0 user, 2 domain admin"`
	Admin      string   `api:"admin" doc:"a user in it who is made a domain admin now"`
}

func (d Deps) linkDomain() api.Command {
	return api.Command{
		Name: "linkDomainToLdap", Since: "4.6.0", Roles: api.AdminOnly, Event: "LDAP.CONFIGURE", Entity: "Domain", Object: "LinkDomainToLdap",
		Doc: "Lets users of a directory's group or organizational unit log in to a domain, each to an account of its own that the first login makes.",
		Run: api.ChangeWith(func(c *api.Call, p *linkDomainParams) (prepared, error) {
			kind := cloud.AccountType(p.Account)
			if kind != cloud.UserAccount && kind != cloud.DomainAdminAccount {
				return prepared{}, cloud.Errorf(cloud.Invalid, "Invalid accounttype %d: it must be 0 (user) or 2 (domain admin)", p.Account)
			}
			l, e, err := d.newLink(c, p.DomainID, p.Type, cmp.Or(p.LDAPDomain, p.Name), p.Admin)
			if err == nil {
				l.AccountType = kind
			}
			return prepared{l, e}, err
		}, func(c *api.Call, tx *store.Tx, p *linkDomainParams, x prepared) (LinkView, error) {
			if err := c.MayGrant(identity.DefaultRole(x.link.AccountType)); err != nil {
				return LinkView{}, err
			}
			l := *x.link
			if err := putLink(tx, &l); err != nil {
				return LinkView{}, err
			}
			v := viewLink(&l)
			var err error
			v.AccountID, err = makeAdmin(c, tx, p.DomainID, x.admin)
			c.Describe(p.DomainID, "linking the domain to "+l.DN)
			return v, err
		}),
	}
}

type linkAccountParams struct {
	DomainID   cloud.ID `api:"domainid,required" ref:"domain" doc:"the account's domain"`
	Account    string   `api:"account,required" doc:"the account that gets the users; made where there is none"`
	Type       string   `api:"type" doc:"GROUP or OU; GROUP where absent"`
	LDAPDomain string   `api:"ldapdomain,required" doc:"distinguished name of the group or organizational unit"`
	Kind       *int16   `api:"accounttype" doc:"type of the account where it is made: 0 user, 2 domain admin; or roleid"`
	RoleID     cloud.ID `api:"roleid" ref:"role" doc:"role of the account where it is made, which has a type"`
	Admin      string   `api:"admin" doc:"a user in it who is made a domain admin now, with an account of its own"`
}

func (d Deps) linkAccount() api.Command {
	return api.Command{
		Name: "linkAccountToLdap", Since: "4.11.0", Roles: api.RootAdmin | api.DomainAdmin, Event: "LDAP.CONFIGURE", Entity: "Account",
		Object: "linkAccountToLdap",
		Doc:    "Lets users of a directory's group or organizational unit log in as users of an account; the first login makes each.",
		Run: api.ChangeWith(func(c *api.Call, p *linkAccountParams) (prepared, error) {
			l, e, err := d.newLink(c, p.DomainID, p.Type, p.LDAPDomain, p.Admin)
			return prepared{l, e}, err
		}, func(c *api.Call, tx *store.Tx, p *linkAccountParams, x prepared) (LinkView, error) {
			a, err := p.account(c, tx)
			if err != nil {
				return LinkView{}, err
			}
			l := *x.link
			l.AccountID, l.AccountType = a.ID, a.Type
			if err := putLink(tx, &l); err != nil {
				return LinkView{}, err
			}
			v := viewLink(&l)
			v.Account = a.Name
			v.AccountID, err = makeAdmin(c, tx, p.DomainID, x.admin)
			c.Describe(a.ID, "linking account "+a.Name+" to "+l.DN)
			return v, err
		}),
	}
}

// account finds the account that is to be linked, or makes it.
func (p *linkAccountParams) account(c *api.Call, tx *store.Tx) (*cloud.Account, error) {
	a, ok := tables.Accounts.First(tx, "name", store.K(p.DomainID, strings.ToLower(p.Account)))
	if !ok {
		role, err := account.ChosenRole(c, p.Kind, p.RoleID)
		if err != nil {
			return nil, err
		}
		if role.Type == cloud.RootAdminAccount {
			return nil, cloud.Errorf(cloud.Invalid, "A root admin's account cannot be linked to a directory")
		}
		return identity.CreateAccount(tx, identity.AccountSpec{Name: p.Account, Type: role.Type, Role: role, DomainID: p.DomainID})
	}
	if err := c.MayManage(a); err != nil {
		return nil, err
	}
	if a.Type == cloud.ProjectAccount || a.Type == cloud.RootAdminAccount || a.State != cloud.Enabled {
		return nil, cloud.Errorf(cloud.Invalid, "Invalid account %s: an enabled account of users or of domain admins can be linked", a.Name)
	}
	if p.Kind != nil && cloud.AccountType(*p.Kind) != a.Type || !p.RoleID.IsZero() && p.RoleID != identity.RoleOf(tx, a).ID {
		return nil, cloud.Errorf(cloud.Invalid, "Account %s exists, with another type or role than accounttype and roleid say", a.Name)
	}
	return a, nil
}
