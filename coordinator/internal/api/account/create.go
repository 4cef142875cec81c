package account

import (
	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/user"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

type createParams struct {
	Type          *int16            `api:"accounttype" doc:"0 user, 1 root admin, 2 domain admin; or roleid"`
	RoleID        cloud.ID          `api:"roleid" ref:"role" since:"4.9.0" doc:"its role, which has a type"`
	Username      string            `api:"username,required" doc:"name of the first user"`
	Password      cloud.Secret      `api:"password,required" len:"1024" doc:"password of the first user"`
	FirstName     string            `api:"firstname,required" doc:"first name of the user"`
	LastName      string            `api:"lastname,required" doc:"last name of the user"`
	Email         string            `api:"email,required" doc:"mail address of the user"`
	Account       string            `api:"account" doc:"name of the account; that of the user where absent"`
	DomainID      cloud.ID          `api:"domainid" ref:"domain,use" doc:"the account's domain; the caller's where absent"`
	NetworkDomain string            `api:"networkdomain" doc:"DNS domain of its guest networks"`
	Timezone      string            `api:"timezone" doc:"time zone of the user, as Europe/Berlin"`
	Details       map[string]string `api:"accountdetails,map" doc:"further facts about the account"`
	AccountID     string            `api:"accountid" doc:"the id the account gets; chosen at random where absent"`
	UserID        string            `api:"userid" doc:"the id the user gets; chosen at random where absent"`
}

// hash is made before the transaction.
func (d Deps) hash(c *api.Call, p *createParams) (string, error) {
	return d.Hashers.Hash(c.Context(), p.Password)
}

// ChosenRole is the role that accounttype and roleid ask for, and that the caller may grant.
func ChosenRole(c *api.Call, accountType *int16, id cloud.ID) (*cloud.Role, error) {
	if id.IsZero() {
		kind := cloud.UserAccount
		if accountType != nil {
			switch kind = cloud.AccountType(*accountType); kind {
			case cloud.UserAccount, cloud.RootAdminAccount, cloud.DomainAdminAccount:
			default:
				return nil, cloud.Errorf(cloud.Invalid, "Invalid account type %d: it must be 0 (user), 1 (root admin) or 2 (domain admin)", *accountType)
			}
		}
		r := identity.DefaultRole(kind)
		return r, c.MayGrant(r)
	}
	r, ok := identity.Role(c.Read, id)
	if !ok {
		return nil, api.NoEntity("roleid", id)
	}
	if accountType != nil && cloud.AccountType(*accountType) != r.Type {
		return nil, cloud.Errorf(cloud.Invalid, "Role %s is of another type than accounttype says; one of both is enough", r.Name)
	}
	return r, c.MayGrant(r)
}

func (d Deps) create() api.Command {
	return api.Command{
		Name: "createAccount", Doc: "Makes an account with its first user.", Roles: api.RootAdmin | api.ResourceAdmin,
		Event: "ACCOUNT.CREATE", Entity: "Account", Object: "account",
		Run: api.ChangeWith(d.hash, func(c *api.Call, tx *store.Tx, p *createParams, hash string) (View, error) {
			role, err := ChosenRole(c, p.Type, p.RoleID)
			if err != nil {
				return View{}, err
			}
			a, err := p.account(c, tx, role)
			if err != nil {
				return View{}, err
			}
			if err := p.user(tx, a, hash); err != nil {
				return View{}, err
			}
			c.Describe(a.ID, "creating Account. Account Name: "+a.Name)
			return NewView(c, a), nil
		}),
	}
}

func (p *createParams) account(c *api.Call, tx *store.Tx, role *cloud.Role) (*cloud.Account, error) {
	id, err := user.NewID("accountid", p.AccountID, func(id cloud.ID) bool { return tables.Accounts.Has(tx, id) })
	if err != nil {
		return nil, err
	}
	s := identity.AccountSpec{
		ID: id, Name: p.Account, Type: role.Type, Role: role, DomainID: p.DomainID, NetworkDomain: p.NetworkDomain, Details: p.Details,
	}
	if s.Name == "" {
		s.Name = p.Username
	}
	if s.DomainID.IsZero() {
		s.DomainID = c.Domain.ID
	}
	return identity.CreateAccount(tx, s)
}

func (p *createParams) user(tx *store.Tx, a *cloud.Account, hash string) error {
	if err := identity.CheckNewPassword(tx, a.DomainID, p.Username, p.Password); err != nil {
		return err
	}
	if err := user.CheckTimezone(p.Timezone); err != nil {
		return err
	}
	id, err := user.NewID("userid", p.UserID, func(id cloud.ID) bool { return tables.Users.Has(tx, id) })
	if err != nil {
		return err
	}
	_, err = identity.CreateUser(tx, identity.UserSpec{
		ID: id, AccountID: a.ID, Username: p.Username, PasswordHash: hash, FirstName: p.FirstName,
		LastName: p.LastName, Email: p.Email, Timezone: p.Timezone,
	})
	return err
}
