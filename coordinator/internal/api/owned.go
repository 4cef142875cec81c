package api

import (
	"iter"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// OwnedEntity is the entity of rows that an account owns.
func OwnedEntity[Row any](name string, t *store.Table[Row], owner func(*Row) Owner) Entity {
	return Entity{Name: name, Lookup: func(r store.Reader, id cloud.ID) (Owner, bool) {
		row, ok := t.Get(r, id)
		if !ok {
			return Owner{}, false
		}
		return owner(row), true
	}}
}

// OwnedRows are the rows of a list of what accounts own: of one account where the call's scope is one, else all. The
// table has an index by account.
func OwnedRows[Row any](c *Call, t *store.Table[Row]) iter.Seq[*Row] {
	if account, ok := c.Scope.Account(); ok {
		return t.By(c.Read, "account", store.K(account))
	}
	return t.All(c.Read)
}

// OwnerParams say whom a new row belongs to; embed it.
type OwnerParams struct {
	Account   string   `api:"account" doc:"account it belongs to; needs domainid"`
	DomainID  cloud.ID `api:"domainid" ref:"domain" doc:"domain of that account"`
	ProjectID cloud.ID `api:"projectid" doc:"project it belongs to"`
}

// Owner is the account they name; the caller's where they name none.
func (p *OwnerParams) Owner(c *Call) (*cloud.Account, error) {
	return c.OwnerFor(p.Account, p.DomainID, p.ProjectID)
}

// InDomain says in an answer which domain a row's owner is of; embed it.
type InDomain struct {
	DomainID   cloud.ID `json:"domainid" doc:"domain of the owner"`
	Domain     string   `json:"domain" doc:"name of that domain"`
	DomainPath string   `json:"domainpath" doc:"path of that domain"`
}

// OwnedBy says in an answer who owns a row; embed it.
type OwnedBy struct {
	Account string `json:"account,omitempty" doc:"owning account"`
	InProject
	InDomain
}

// NameDomain gives what an answer tells of the domain of a row's owner.
func NameDomain(r store.Reader, domain cloud.ID) InDomain {
	in := InDomain{DomainID: domain}
	if d, ok := tables.Domains.Get(r, domain); ok {
		in.Domain, in.DomainPath = d.Name, d.Path
	}
	return in
}

// NameOwner gives what an answer tells of a row's owner.
func NameOwner(r store.Reader, o Owner) OwnedBy {
	by := OwnedBy{InDomain: NameDomain(r, o.Domain)}
	by.Account, by.InProject = OwnerNames(r, o.Account)
	return by
}
