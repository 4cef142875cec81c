package ldap

import (
	"cmp"
	"iter"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/account"
	"github.com/wispcloud/wisp/coordinator/internal/api/user"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	directory "github.com/wispcloud/wisp/coordinator/internal/ldap"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// UserView is a directory's user in an answer.
type UserView struct {
	Username  string `json:"username" doc:"the name it logs in with"`
	FirstName string `json:"firstname" doc:"first name"`
	LastName  string `json:"lastname" doc:"last name"`
	Email     string `json:"email" doc:"mail address"`
	Principal string `json:"principal" doc:"distinguished name of its entry"`
	Domain    string `json:"domain,omitempty" doc:"path of the domain that has a user of that name, or gets one"`
}

type listUsersParams struct {
	api.ListParams
	DomainID cloud.ID `api:"domainid" ref:"domain,use" doc:"as the directories of this domain know them; ROOT where absent"`
	ListType string   `api:"listtype" doc:"all, or new for those that the domain has no user for; all where absent"`
}

// found is an entry with the domain it is, or would be, a user of.
type found struct {
	directory.Entry
	domain *cloud.Domain
	known  bool
}

// entries asks the directories of a domain; zero is ROOT.
func (d Deps) entries(c *api.Call, domain cloud.ID, name string) ([]found, error) {
	if domain.IsZero() {
		domain = identity.Root(c.Read).ID
	}
	x, ok := tables.Domains.Get(c.Read, domain)
	if !ok {
		return nil, api.NoEntity("domainid", domain)
	}
	all, err := directory.Users(c.Context(), c.Read, d.Seal, domain, name)
	var out []found
	for _, e := range all {
		_, known := tables.Users.First(c.Read, "username", store.K(domain, strings.ToLower(e.Username)))
		out = append(out, found{e, x, known})
	}
	return out, err
}

func viewUser(_ *api.Call, f *found) UserView {
	v := UserView{Username: f.Username, FirstName: f.FirstName, LastName: f.LastName, Email: f.Email, Principal: f.DN}
	if f.known {
		v.Domain = f.domain.Path
	}
	return v
}

func (d Deps) listUsers() api.Command {
	return api.Command{
		Name: "listLdapUsers", Doc: "Lists the users that directories know, for root admins.", Since: "4.2.0",
		Roles: api.AdminOnly, Envelope: "ldapuserresponse", Object: "LdapUser",
		Run: api.List(api.Lister[listUsersParams, found, UserView]{
			Rows: func(c *api.Call, p *listUsersParams) (iter.Seq[*found], error) {
				kind := strings.ToLower(p.ListType)
				if kind != "" && kind != "all" && kind != "new" {
					return nil, cloud.Errorf(cloud.Invalid, "Invalid listtype %s: it must be all or new", p.ListType)
				}
				all, err := d.entries(c, p.DomainID, "")
				return func(yield func(*found) bool) {
					for i := range all {
						if kind == "new" && all[i].known {
							continue
						}
						if !yield(&all[i]) {
							return
						}
					}
				}, err
			},
			Keyword: func(f *found) string { return f.Username + " " + f.FirstName + " " + f.LastName + " " + f.Email },
			View:    viewUser,
		}),
	}
}

type createAccountParams struct {
	Username      string            `api:"username,required" doc:"the user's name in the directory"`
	Account       string            `api:"account" doc:"the account it belongs to, made where there is none; named as the user where absent"`
	DomainID      cloud.ID          `api:"domainid" ref:"domain,use" doc:"the account's domain; the caller's where absent"`
	Type          *int16            `api:"accounttype" doc:"0 user, 1 root admin, 2 domain admin; or roleid"`
	RoleID        cloud.ID          `api:"roleid" ref:"role" doc:"its role, which has a type"`
	NetworkDomain string            `api:"networkdomain" doc:"DNS domain of its guest networks"`
	Timezone      string            `api:"timezone" doc:"time zone of the user, as Europe/Berlin"`
	Details       map[string]string `api:"accountdetails,map" doc:"further facts about the account"`
	AccountID     string            `api:"accountid" doc:"the id the account gets; chosen at random where absent"`
	UserID        string            `api:"userid" doc:"the id the user gets; chosen at random where absent"`
}

func (d Deps) createAccount() api.Command {
	return api.Command{
		Name: "ldapCreateAccount", Doc: "Makes a user, and its account where there is none, of a directory's: the password stays there.",
		Since: "4.2.0", Roles: api.AdminOnly, Event: "ACCOUNT.CREATE", Entity: "Account", Envelope: "createaccountresponse", Object: "account",
		Run: api.ChangeWith(func(c *api.Call, p *createAccountParams) (found, error) {
			all, err := d.entries(c, cmp.Or(p.DomainID, c.Account.DomainID), p.Username)
			if err != nil {
				return found{}, err
			}
			if len(all) != 1 {
				return found{}, cloud.Errorf(cloud.Invalid, "No LDAP user exists with the username of %s", p.Username)
			}
			return all[0], nil
		}, func(c *api.Call, tx *store.Tx, p *createAccountParams, f found) (account.View, error) {
			role, err := account.ChosenRole(c, p.Type, p.RoleID)
			if err != nil {
				return account.View{}, err
			}
			a, err := p.enroll(c, tx, role, f)
			if err != nil {
				return account.View{}, err
			}
			c.Describe(a.ID, "creating Account. Account Name: "+a.Name)
			return account.NewView(c, a), nil
		}),
	}
}

// enroll makes a user of a directory's entry, and its account where there is none.
func (p *createAccountParams) enroll(c *api.Call, tx *store.Tx, role *cloud.Role, f found) (*cloud.Account, error) {
	if err := user.CheckTimezone(p.Timezone); err != nil {
		return nil, err
	}
	id, err := user.NewID("accountid", p.AccountID, func(id cloud.ID) bool { return tables.Accounts.Has(tx, id) })
	if err != nil {
		return nil, err
	}
	userID, err := user.NewID("userid", p.UserID, func(id cloud.ID) bool { return tables.Users.Has(tx, id) })
	if err != nil {
		return nil, err
	}
	name := cmp.Or(p.Account, f.Username)
	a, ok := tables.Accounts.First(tx, "name", store.K(f.domain.ID, strings.ToLower(name)))
	if ok {
		if a.Type == cloud.ProjectAccount {
			return nil, cloud.Errorf(cloud.Invalid, "Unable to find account %s in domain %s", name, f.domain.Name)
		}
		if err := c.MayManage(a); err != nil {
			return nil, err
		}
	} else if a, err = identity.CreateAccount(tx, identity.AccountSpec{
		ID: id, Name: name, Type: role.Type, Role: role, DomainID: f.domain.ID, NetworkDomain: p.NetworkDomain, Details: p.Details,
	}); err != nil {
		return nil, err
	}
	s := f.Spec(a.ID)
	s.ID, s.Timezone = userID, p.Timezone
	_, err = identity.CreateUser(tx, s)
	return a, err
}

type importParams struct {
	DomainID cloud.ID          `api:"domainid" ref:"domain,use" doc:"the domain that gets them; the caller's where absent"`
	Account  string            `api:"account" doc:"the account that all belong to, made where there is none; one for each user where absent"`
	Keyword  string            `api:"keyword" doc:"only those whose name or mail address contains this text"`
	Type     *int16            `api:"accounttype" doc:"0 user, 1 root admin, 2 domain admin; or roleid"`
	RoleID   cloud.ID          `api:"roleid" ref:"role" doc:"role of the accounts, which has a type"`
	Timezone string            `api:"timezone" doc:"time zone of the users, as Europe/Berlin"`
	Details  map[string]string `api:"accountdetails,map" doc:"further facts about the accounts"`
	Group    string            `api:"group" doc:"refused: only links read groups of directories"`
}

// Imported is the answer of importLdapUsers.
type Imported struct {
	Count int        `json:"count" doc:"how many users were made"`
	Users []UserView `json:"LdapUser,omitempty" doc:"the users that were made"`
}

func (d Deps) importUsers() api.Command {
	return api.Command{
		Name: "importLdapUsers", Doc: "Makes users, with their accounts, of all that directories know and the domain has not.", Since: "4.3.0",
		Roles: api.AdminOnly, Event: "ACCOUNT.CREATE", Entity: "Account", Envelope: "ldapuserresponse",
		Run: api.ChangeWith(func(c *api.Call, p *importParams) ([]found, error) {
			if p.Group != "" {
				return nil, cloud.Errorf(cloud.Unsupported, "Groups of directories are not read; narrow the directory by ldap.basedn, or the users by keyword")
			}
			return d.entries(c, cmp.Or(p.DomainID, c.Account.DomainID), "")
		}, func(c *api.Call, tx *store.Tx, p *importParams, all []found) (Imported, error) {
			var out Imported
			role, err := account.ChosenRole(c, p.Type, p.RoleID)
			if err != nil {
				return out, err
			}
			each := createAccountParams{Account: p.Account, Timezone: p.Timezone, Details: p.Details}
			for _, f := range all {
				_, known := tables.Users.First(tx, "username", store.K(f.domain.ID, strings.ToLower(f.Username)))
				if known || !strings.Contains(strings.ToLower(f.Username+" "+f.FirstName+" "+f.LastName+" "+f.Email), strings.ToLower(p.Keyword)) {
					continue
				}
				a, err := each.enroll(c, tx, role, f)
				if err != nil {
					return out, err
				}
				c.Describe(a.ID, "importing users of directories")
				f.known = true
				out.Users = append(out.Users, viewUser(c, &f))
			}
			out.Count = len(out.Users)
			return out, nil
		}),
	}
}
