package apitest

import (
	"slices"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/account"
	"github.com/wispcloud/wisp/coordinator/internal/api/domain"
	"github.com/wispcloud/wisp/coordinator/internal/api/role"
	"github.com/wispcloud/wisp/coordinator/internal/api/user"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// identityEntities are those of the world every test has, and what its commands refer to.
func identityEntities() []api.Entity {
	return slices.Concat(domain.Entities(), account.Entities(), user.Entities(), role.Entities(), zoneEntity())
}

// zoneEntity stands in for that of package zone where a test does not serve zones: accounts have a default one.
func zoneEntity() []api.Entity {
	return []api.Entity{{Name: "zone", Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) {
		return api.Owner{}, tables.Zones.Has(r, id)
	}}}
}
