package infra

import (
	_ "embed"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// guestOS lists the guest operating systems that CloudStack 4.1 knows: category, tab, name.
//
//go:embed guest-os.tsv
var guestOS string

// noCategory is the category that takes a host's preference back; it has no systems.
var noCategory = cloud.OSCategory{ID: cloud.NameID("os_category", "None"), Name: "None"}

// SeedOSTypes writes the built-in guest operating systems. Their ids derive from their names, so that they are the same
// in every cloud and a later version can add to them; it may be called at every start.
func SeedOSTypes(tx *store.Tx) error {
	for _, line := range strings.Split(strings.TrimSpace(guestOS), "\n")[1:] {
		category, name, ok := strings.Cut(line, "\t")
		if !ok {
			continue
		}
		id, kind := cloud.NameID("os_type", name), cloud.NameID("os_category", category)
		if tables.OSTypes.Has(tx, id) {
			continue
		}
		if err := tables.OSCategories.Put(tx, &cloud.OSCategory{ID: kind, Name: category}); err != nil {
			return wrap("seed", "OS category", kind, err)
		}
		if err := tables.OSTypes.Put(tx, &cloud.OSType{ID: id, CategoryID: kind, Description: name}); err != nil {
			return wrap("seed", "OS type", id, err)
		}
	}
	if tables.OSCategories.Has(tx, noCategory.ID) {
		return nil
	}
	return wrap("seed", "OS category", noCategory.ID, tables.OSCategories.Put(tx, &noCategory))
}
