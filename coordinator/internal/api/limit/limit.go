// Package limit holds the commands of resource limits, and the totals that accounts and domains show.
package limit

import (
	"iter"
	"strconv"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Totals are the limits and counts of an account or domain: limits and what is left as texts, "Unlimited" among them.
type Totals struct {
	VMLimit                   string `json:"vmlimit" doc:"most virtual machines"`
	VMTotal                   int64  `json:"vmtotal" doc:"virtual machines"`
	VMAvailable               string `json:"vmavailable" doc:"virtual machines left"`
	IPLimit                   string `json:"iplimit" doc:"most public addresses"`
	IPTotal                   int64  `json:"iptotal" doc:"public addresses"`
	IPAvailable               string `json:"ipavailable" doc:"public addresses left"`
	VolumeLimit               string `json:"volumelimit" doc:"most volumes"`
	VolumeTotal               int64  `json:"volumetotal" doc:"volumes"`
	VolumeAvailable           string `json:"volumeavailable" doc:"volumes left"`
	SnapshotLimit             string `json:"snapshotlimit" doc:"most snapshots"`
	SnapshotTotal             int64  `json:"snapshottotal" doc:"snapshots"`
	SnapshotAvailable         string `json:"snapshotavailable" doc:"snapshots left"`
	TemplateLimit             string `json:"templatelimit" doc:"most templates"`
	TemplateTotal             int64  `json:"templatetotal" doc:"templates"`
	TemplateAvailable         string `json:"templateavailable" doc:"templates left"`
	ProjectLimit              string `json:"projectlimit" doc:"most projects"`
	ProjectTotal              int64  `json:"projecttotal" doc:"projects"`
	ProjectAvailable          string `json:"projectavailable" doc:"projects left"`
	NetworkLimit              string `json:"networklimit" doc:"most guest networks"`
	NetworkTotal              int64  `json:"networktotal" doc:"guest networks"`
	NetworkAvailable          string `json:"networkavailable" doc:"guest networks left"`
	VPCLimit                  string `json:"vpclimit" doc:"most VPCs"`
	VPCTotal                  int64  `json:"vpctotal" doc:"VPCs"`
	VPCAvailable              string `json:"vpcavailable" doc:"VPCs left"`
	CPULimit                  string `json:"cpulimit" doc:"most virtual processors"`
	CPUTotal                  int64  `json:"cputotal" doc:"virtual processors"`
	CPUAvailable              string `json:"cpuavailable" doc:"virtual processors left"`
	MemoryLimit               string `json:"memorylimit" doc:"most memory in MiB"`
	MemoryTotal               int64  `json:"memorytotal" doc:"memory in MiB"`
	MemoryAvailable           string `json:"memoryavailable" doc:"memory left in MiB"`
	PrimaryStorageLimit       string `json:"primarystoragelimit" doc:"most primary storage in GiB"`
	PrimaryStorageTotal       int64  `json:"primarystoragetotal" doc:"primary storage in GiB"`
	PrimaryStorageAvailable   string `json:"primarystorageavailable" doc:"primary storage left in GiB"`
	SecondaryStorageLimit     string `json:"secondarystoragelimit" doc:"most secondary storage in GiB"`
	SecondaryStorageTotal     int64  `json:"secondarystoragetotal" doc:"secondary storage in GiB"`
	SecondaryStorageAvailable string `json:"secondarystorageavailable" doc:"secondary storage left in GiB"`
}

// OfAccount gives an account's totals.
func OfAccount(r store.Reader, a *cloud.Account) Totals {
	return totals(r, a.ID, func(t cloud.ResourceType) int64 { return identity.Limit(r, a, t) })
}

// OfDomain gives a domain's totals, all below it included.
func OfDomain(r store.Reader, d *cloud.Domain) Totals {
	return totals(r, d.ID, func(t cloud.ResourceType) int64 { return identity.DomainLimit(r, d.ID, t) })
}

func totals(r store.Reader, owner cloud.ID, max func(cloud.ResourceType) int64) (v Totals) {
	for _, f := range []struct {
		t     cloud.ResourceType
		limit *string
		total *int64
		left  *string
	}{
		{cloud.ResourceVM, &v.VMLimit, &v.VMTotal, &v.VMAvailable},
		{cloud.ResourcePublicIP, &v.IPLimit, &v.IPTotal, &v.IPAvailable},
		{cloud.ResourceVolume, &v.VolumeLimit, &v.VolumeTotal, &v.VolumeAvailable},
		{cloud.ResourceSnapshot, &v.SnapshotLimit, &v.SnapshotTotal, &v.SnapshotAvailable},
		{cloud.ResourceTemplate, &v.TemplateLimit, &v.TemplateTotal, &v.TemplateAvailable},
		{cloud.ResourceProject, &v.ProjectLimit, &v.ProjectTotal, &v.ProjectAvailable},
		{cloud.ResourceNetwork, &v.NetworkLimit, &v.NetworkTotal, &v.NetworkAvailable},
		{cloud.ResourceVPC, &v.VPCLimit, &v.VPCTotal, &v.VPCAvailable},
		{cloud.ResourceCPU, &v.CPULimit, &v.CPUTotal, &v.CPUAvailable},
		{cloud.ResourceMemory, &v.MemoryLimit, &v.MemoryTotal, &v.MemoryAvailable},
		{cloud.ResourcePrimaryStorage, &v.PrimaryStorageLimit, &v.PrimaryStorageTotal, &v.PrimaryStorageAvailable},
		{cloud.ResourceSecondaryStorage, &v.SecondaryStorageLimit, &v.SecondaryStorageTotal, &v.SecondaryStorageAvailable},
	} {
		*f.total = identity.Counted(r, owner, f.t)
		*f.limit, *f.left = "Unlimited", "Unlimited"
		if n := max(f.t); n != identity.Unlimited {
			*f.limit = strconv.FormatInt(n, 10)
			*f.left = strconv.FormatInt(maxInt(n-*f.total, 0), 10)
		}
	}
	return v
}

func maxInt(a, b int64) int64 {
	if a > b {
		return a
	}
	return b
}

// Commands lists the commands.
func Commands() []api.Command { return []api.Command{list()} }

// View is a limit in an answer.
type View struct {
	Account  string   `json:"account,omitempty" doc:"the account it holds for"`
	DomainID cloud.ID `json:"domainid,omitempty" doc:"the account's domain, or the domain it holds for"`
	Domain   string   `json:"domain,omitempty" doc:"name of that domain"`
	Type     string   `json:"resourcetype" doc:"number of the kind of resource"`
	TypeName string   `json:"resourcetypename" doc:"name of the kind of resource"`
	Max      int64    `json:"max" doc:"the limit; -1 is none"`
}

type params struct {
	api.ListParams
	api.OwnedParams
	ID   *int64 `api:"id" doc:"not in use"`
	Type *int   `api:"resourcetype" min:"0" max:"11" doc:"only of this kind of resource, by its number"`
	Name string `api:"resourcetypename" since:"4.19" doc:"only of this kind of resource, by its name"`
}

// row is one limit: of an account, or of a domain where account is nil.
type row struct {
	account *cloud.Account
	domain  *cloud.Domain
	kind    identity.ResourceKind
}

func list() api.Command {
	return api.Command{
		Name: "listResourceLimits", Doc: "Lists what an account, or a domain as a whole, may have.", Roles: api.Everyone,
		Object: "resourcelimit",
		Run: api.List(api.Lister[params, row, View]{
			Rows: rows,
			View: func(c *api.Call, r *row) View {
				v := View{Type: strconv.Itoa(int(r.kind.Type)), TypeName: r.kind.Name, DomainID: r.domain.ID, Domain: r.domain.Name}
				if r.account == nil {
					v.Max = identity.DomainLimit(c.Read, r.domain.ID, r.kind.Type)
				} else {
					v.Account, v.Max = r.account.Name, identity.Limit(c.Read, r.account, r.kind.Type)
				}
				return v
			},
			Keyword: func(r *row) string { return r.kind.Name },
		}),
	}
}

// rows follows 4.1: with domainid alone the domain's own limits, else those of one account.
func rows(c *api.Call, p *params) (iter.Seq[*row], error) {
	account, domain := c.Account, c.Domain
	if !p.DomainID.IsZero() && p.AccountName == "" {
		account = nil
		domain, _ = tables.Domains.Get(c.Read, p.DomainID)
		if !c.IsAdmin() {
			account, domain = c.Account, c.Domain
		}
	} else if id, ok := c.Scope.Account(); ok {
		account, _ = tables.Accounts.Get(c.Read, id)
		domain, _ = tables.Domains.Get(c.Read, account.DomainID)
	}
	return func(yield func(*row) bool) {
		for _, k := range identity.Kinds {
			if p.Type != nil && *p.Type != int(k.Type) || p.Name != "" && p.Name != k.Name {
				continue
			}
			if !yield(&row{account, domain, k}) {
				return
			}
		}
	}, nil
}
