package identity

import (
	"fmt"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// SystemAccount owns what the cloud itself needs (routers). It has no user, so nobody logs in to it or holds its keys.
const SystemAccount = "system"

// AdminName is the first account, and its user.
const AdminName = "admin"

// Admin is what the first administrator logs in with. It is told once, to the machine's administrator.
type Admin struct {
	Username string
	Password cloud.Secret
	APIKey   string
	Secret   cloud.Secret
	hash     string
}

// NewAdmin chooses random credentials.
func NewAdmin() Admin {
	a := Admin{Username: AdminName, Password: NewPassword()}
	a.APIKey, a.Secret = NewKeys()
	a.hash = HashPassword(a.Password)
	return a
}

// Bootstrap makes the ROOT domain, the system account and the first administrator, in a state that has no domain.
// made is false where there was one already: the credentials are then not in use.
func Bootstrap(tx *store.Tx, a Admin, k *seal.Keeper) (made bool, err error) {
	if Root(tx) != nil {
		return false, nil
	}
	root := &cloud.Domain{ID: tx.NewID(), Name: RootName, Path: RootName, Created: tx.Now()}
	if err := tables.Domains.Put(tx, root); err != nil {
		return false, fmt.Errorf("create domain %s: %w", RootName, err)
	}
	if _, err := CreateAccount(tx, AccountSpec{Name: SystemAccount, Type: cloud.RootAdminAccount, DomainID: root.ID, System: true}); err != nil {
		return false, err
	}
	acct, err := CreateAccount(tx, AccountSpec{Name: a.Username, Type: cloud.RootAdminAccount, DomainID: root.ID})
	if err != nil {
		return false, err
	}
	u, err := CreateUser(tx, UserSpec{
		AccountID: acct.ID, Username: a.Username, PasswordHash: a.hash, FirstName: "Admin", LastName: "Cloud", Timezone: "UTC",
	})
	if err != nil {
		return false, err
	}
	if err := SetKeys(tx, k, u.ID, a.APIKey, a.Secret); err != nil {
		return false, fmt.Errorf("store the administrator's keys: %w", err)
	}
	return true, nil
}
