package identity

import (
	"fmt"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// SetKeys replaces a user's API key and secret key.
func SetKeys(tx *store.Tx, k *seal.Keeper, user cloud.ID, key string, secret cloud.Secret) error {
	err := tables.Users.Edit(tx, user, func(u *cloud.User) error {
		u.APIKey, u.SecretKey = key, k.Seal(string(secret))
		return nil
	})
	if err != nil {
		return fmt.Errorf("set keys of user %s: %w", user, err)
	}
	return nil
}

// MayHoldKeys tells whether a caller may read or replace a user's keys, which is to become that user: oneself; a root
// admin, who may do everything anyway; and a domain admin those of plain users in its domain and below, never those of
// another admin (inside tells whether the user's domain is there). Another user of the same account may not.
func MayHoldKeys(caller *cloud.User, callerType cloud.AccountType, user *cloud.User, userType cloud.AccountType, inside bool) bool {
	switch {
	case caller.ID == user.ID:
		return true
	case callerType == cloud.RootAdminAccount:
		return true
	case callerType == cloud.DomainAdminAccount || callerType == cloud.ResourceDomainAdminAccount:
		return inside && userType == cloud.UserAccount
	}
	return false
}
