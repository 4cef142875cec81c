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
	return []api.Command{createService(), listService(), deleteService(), createDisk(), listDisk(), deleteDisk()}
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
				return ok && inDomains(c, o.DomainIDs)
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
