package apitest

import (
	"slices"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/account"
	"github.com/wispcloud/wisp/coordinator/internal/api/domain"
	"github.com/wispcloud/wisp/coordinator/internal/api/role"
	"github.com/wispcloud/wisp/coordinator/internal/api/user"
)

// identityEntities are those of the world every test has.
func identityEntities() []api.Entity {
	return slices.Concat(domain.Entities(), account.Entities(), user.Entities(), role.Entities())
}
