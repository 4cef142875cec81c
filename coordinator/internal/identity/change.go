package identity

import (
	"errors"
	"fmt"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// forget removes the settings of an account or domain that goes.
func forget(tx *store.Tx, id cloud.ID) error { return settings.Forget(tx, id) }

// IsDefault tells whether an account was there from the start: the cloud's own, and the first administrator's, which
// stays so that somebody can always log in.
func IsDefault(a *cloud.Account) bool { return a.Number <= 2 }

// EndSessions ends a user's logins.
func EndSessions(tx *store.Tx, user cloud.ID) error {
	for s := range tables.Sessions.By(tx, "user", store.K(user)) {
		if err := tables.Sessions.Delete(tx, s.ID); err != nil {
			return fmt.Errorf("end sessions of user %s: %w", user, err)
		}
	}
	return nil
}

// RemoveUser removes a user and its logins.
func RemoveUser(tx *store.Tx, u *cloud.User) error {
	if err := EndSessions(tx, u.ID); err != nil {
		return err
	}
	return tables.Users.Delete(tx, u.ID)
}

// MoveUser gives a user to another account of its domain. It keeps its name, keys and password; what it was to projects by
// itself, and its logins, belonged to the old account.
func MoveUser(tx *store.Tx, u *cloud.User, to *cloud.Account) error {
	switch {
	case u.AccountID == to.ID:
		return cloud.Errorf(cloud.Invalid, "User %s is of account %s already", u.Username, to.Name)
	case u.DomainID != to.DomainID:
		return cloud.Errorf(cloud.Invalid, "User %s cannot be moved to account %s, which is of another domain", u.Username, to.Name)
	case to.Removing:
		return cloud.Errorf(cloud.Invalid, "User %s cannot be moved to account %s, which is being removed", u.Username, to.Name)
	}
	for m := range tables.ProjectMembers.By(tx, "account", store.K(u.AccountID)) {
		if m.UserID == u.ID {
			if err := tables.ProjectMembers.Delete(tx, m.ID); err != nil {
				return fmt.Errorf("take user %s out of a project: %w", u.Username, err)
			}
		}
	}
	u.AccountID = to.ID
	if err := PutUser(tx, u); err != nil {
		return err
	}
	return EndSessions(tx, u.ID)
}

// SetUserState enables, disables or locks a user. One that is not enabled loses its logins.
func SetUserState(tx *store.Tx, u *cloud.User, s cloud.Lifecycle) error {
	if s == cloud.Locked && u.State == cloud.Disabled {
		return cloud.Errorf(cloud.Invalid, "User %s is disabled, and so cannot be locked", u.Username)
	}
	u.State = s
	if err := tables.Users.Put(tx, u); err != nil {
		return fmt.Errorf("change user %s: %w", u.Username, err)
	}
	if s == cloud.Enabled {
		return nil
	}
	return EndSessions(tx, u.ID)
}

// PutUser writes a changed user.
func PutUser(tx *store.Tx, u *cloud.User) error {
	if err := checkName("user", u.Username); err != nil {
		return err
	}
	err := tables.Users.Put(tx, u)
	var taken *store.Conflict
	switch {
	case errors.As(err, &taken) && taken.Index == "apikey":
		return cloud.Errorf(cloud.Invalid, "The API key of user %s is in use already", u.Username)
	case errors.As(err, &taken):
		return cloud.Errorf(cloud.Invalid, "The user %s already exists in domain %s", u.Username, u.DomainID)
	case err != nil:
		return fmt.Errorf("change user %s: %w", u.Username, err)
	}
	return nil
}

// SetAccountState enables, disables or locks an account. Its users lose their logins with it. Whoever disables it stops
// its virtual machines.
func SetAccountState(tx *store.Tx, a *cloud.Account, s cloud.Lifecycle) error {
	switch {
	case a.Removing:
		return cloud.Errorf(cloud.Invalid, "Account %s is being removed", a.Name)
	case s == cloud.Locked && a.State == cloud.Disabled:
		return cloud.Errorf(cloud.Invalid, "Account %s is disabled, and so cannot be locked", a.Name)
	}
	a.State = s
	if err := tables.Accounts.Put(tx, a); err != nil {
		return fmt.Errorf("change account %s: %w", a.Name, err)
	}
	if s == cloud.Enabled {
		return nil
	}
	for u := range tables.Users.By(tx, "account", store.K(a.ID)) {
		if err := EndSessions(tx, u.ID); err != nil {
			return err
		}
	}
	return nil
}

// PutAccount writes a changed account.
func PutAccount(tx *store.Tx, a *cloud.Account) error {
	if err := checkName("account", a.Name); err != nil {
		return err
	}
	if err := CheckNetworkDomain(a.NetworkDomain); err != nil {
		return err
	}
	err := tables.Accounts.Put(tx, a)
	var taken *store.Conflict
	if errors.As(err, &taken) {
		return cloud.Errorf(cloud.Invalid, "The specified account: %s already exists", a.Name)
	}
	if err != nil {
		return fmt.Errorf("change account %s: %w", a.Name, err)
	}
	return nil
}

// SetRole gives an account a role, and with it the role's type.
func SetRole(r store.Reader, a *cloud.Account, role *cloud.Role) error {
	if role.State != cloud.Enabled {
		return cloud.Errorf(cloud.Invalid, "Role %s is disabled", role.Name)
	}
	if role.Type == cloud.RootAdminAccount && Root(r).ID != a.DomainID {
		return cloud.Errorf(cloud.Invalid, "A root admin's account can be in the ROOT domain only")
	}
	a.Type, a.RoleID = role.Type, role.ID
	if IsDefaultRole(role.ID) {
		a.RoleID = cloud.ID{}
	}
	return nil
}

// Subtree is a domain and all below it, every domain after the one above it.
func Subtree(r store.Reader, top *cloud.Domain) []*cloud.Domain {
	all := []*cloud.Domain{top}
	for i := 0; i < len(all); i++ {
		for d := range tables.Domains.By(r, "parent", store.K(all[i].ID)) {
			all = append(all, d)
		}
	}
	return all
}

// UpdateDomain renames a domain, which changes the paths of all below it, and sets its network domain. nil leaves
// something as it is.
func UpdateDomain(tx *store.Tx, d *cloud.Domain, name, network *string) error {
	if network != nil {
		if err := CheckNetworkDomain(*network); err != nil {
			return err
		}
		d.Network = *network
	}
	if name != nil && *name != d.Name {
		if d.ParentID.IsZero() {
			return cloud.Errorf(cloud.Invalid, "The ROOT domain cannot be renamed")
		}
		if err := checkName("domain", *name); err != nil {
			return err
		}
		return rename(tx, d, *name)
	}
	return tables.Domains.Put(tx, d)
}

func rename(tx *store.Tx, d *cloud.Domain, name string) error {
	paths := map[cloud.ID]string{}
	for _, x := range Subtree(tx, d) {
		if x.ID == d.ID {
			x = d
			x.Name = name
			x.Path = x.Path[:strings.LastIndexByte(x.Path, '/')+1] + name
		} else {
			x.Path = paths[x.ParentID] + "/" + x.Name
		}
		paths[x.ID] = x.Path
		err := tables.Domains.Put(tx, x)
		var taken *store.Conflict
		if errors.As(err, &taken) {
			return cloud.Errorf(cloud.Invalid, "Domain with name %s already exists for the parent id=%s", name, d.ParentID)
		}
		if err != nil {
			return fmt.Errorf("rename domain %s: %w", x.Path, err)
		}
	}
	return nil
}

// CheckNetworkDomain refuses what cannot be the DNS domain of guest networks; empty is none.
func CheckNetworkDomain(name string) error {
	if name == "" {
		return nil
	}
	ok := len(name) <= 190
	for _, label := range strings.Split(name, ".") {
		ok = ok && label != "" && len(label) <= 63 && label[0] != '-' && label[len(label)-1] != '-'
		for _, c := range label {
			ok = ok && (c == '-' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z')
		}
	}
	if !ok {
		return cloud.Errorf(cloud.Invalid, "Invalid network domain %q: at most 190 characters; labels of letters, digits and hyphens between dots", name)
	}
	return nil
}
