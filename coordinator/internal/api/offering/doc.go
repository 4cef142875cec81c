// Package offering holds the commands of service offerings and disk offerings.
package offering

import (
	"slices"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Commands lists the commands of this package.
func Commands() []api.Command {
	return []api.Command{createService(), updateService(), listService(), deleteService(), createDisk(), updateDisk(), listDisk(), deleteDisk()}
}

// Entities lists what this package's rows are called in parameters. Offerings belong to nobody; Usable keeps those of
// a domain to it and what is below it.
func Entities() []api.Entity {
	return []api.Entity{
		{
			Name: "serviceoffering",
			Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) {
				o, ok := tables.ServiceOfferings.Get(r, id)
				if !ok || !o.Removed.IsZero() {
					return api.Owner{}, false
				}
				return domainOwner(o.DomainIDs), true
			},
			Usable: func(c *api.Call, id cloud.ID) bool {
				o, ok := tables.ServiceOfferings.Get(c.Read, id)
				return ok && !o.Inactive && inDomains(c, o.DomainIDs)
			},
		},
		{
			Name: "diskoffering",
			Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) {
				o, ok := tables.DiskOfferings.Get(r, id)
				if !ok || !o.Removed.IsZero() {
					return api.Owner{}, false
				}
				return domainOwner(o.DomainIDs), true
			},
			Usable: func(c *api.Call, id cloud.ID) bool {
				o, ok := tables.DiskOfferings.Get(c.Read, id)
				return ok && inDomains(c, o.DomainIDs)
			},
		},
	}
}

// domainOwner is nobody for a public offering, else the first domain it is restricted to.
func domainOwner(domains []cloud.ID) api.Owner {
	if len(domains) == 0 {
		return api.Owner{}
	}
	return api.Owner{Domain: domains[0]}
}

// inDomains tells whether the caller is in one of the domains, or below one; offerings without domains are public.
func inDomains(c *api.Call, domains []cloud.ID) bool {
	if len(domains) == 0 || c.IsRoot() {
		return true
	}
	for id := c.Account.DomainID; !id.IsZero(); {
		if slices.Contains(domains, id) {
			return true
		}
		d, ok := tables.Domains.Get(c.Read, id)
		if !ok {
			return false
		}
		id = d.ParentID
	}
	return false
}

// tags reads a comma-separated list of tags.
func tags(s string) []string {
	var out []string
	for _, t := range strings.Split(s, ",") {
		if t = strings.TrimSpace(t); t != "" {
			out = append(out, t)
		}
	}
	return out
}

// domainIDs is the domain restriction of a new offering.
func domainIDs(ids []cloud.ID) []cloud.ID {
	ids = slices.Clone(ids)
	slices.SortFunc(ids, func(a, b cloud.ID) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(ids)
}

// names gives the ids and names of domains as clients see several of them: separated by commas.
func names(r store.Reader, domains []cloud.ID) (ids, texts string) {
	var i, t []string
	for _, id := range domains {
		if d, ok := tables.Domains.Get(r, id); ok {
			i, t = append(i, id.String()), append(t, d.Name)
		}
	}
	return strings.Join(i, ","), strings.Join(t, ",")
}

func state(inactive bool) string {
	if inactive {
		return "Inactive"
	}
	return "Active"
}

// listed filters by the parameter state; an offering asked for by its id is shown in any.
func listed(want string, inactive bool, id cloud.ID) bool {
	if !id.IsZero() && want == "" || strings.EqualFold(want, "all") {
		return true
	}
	return strings.EqualFold(want, "Inactive") == inactive
}

// zoneNames is names for zones.
func zoneNames(r store.Reader, zones []cloud.ID) (ids, texts string) {
	var i, t []string
	for _, id := range zones {
		if z, ok := tables.Zones.Get(r, id); ok {
			i, t = append(i, id.String()), append(t, z.Name)
		}
	}
	return strings.Join(i, ","), strings.Join(t, ",")
}

// Restrict changes the domains and zones of an offering, as texts of ids separated by commas; "public" and "all" lift
// the restriction.
func Restrict(r store.Reader, domains, zones *string, toDomains, toZones *[]cloud.ID) error {
	for _, x := range []struct {
		param, all string
		text       *string
		to         *[]cloud.ID
		known      func(cloud.ID) bool
	}{
		{"domainid", "public", domains, toDomains, func(id cloud.ID) bool { return tables.Domains.Has(r, id) }},
		{"zoneid", "all", zones, toZones, func(id cloud.ID) bool { return tables.Zones.Has(r, id) }},
	} {
		if x.text == nil {
			continue
		}
		var ids []cloud.ID
		for _, text := range tags(*x.text) {
			if strings.EqualFold(text, x.all) {
				continue
			}
			id, err := cloud.ParseID(text)
			if err != nil || !x.known(id) {
				return cloud.Errorf(cloud.Invalid, "Invalid parameter %s value=%s due to incorrect long value format, or entity does not exist", x.param, text)
			}
			ids = append(ids, id)
		}
		*x.to = domainIDs(ids)
	}
	return nil
}
