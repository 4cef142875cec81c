// Package ostype holds the commands of guest operating systems.
package ostype

import (
	"iter"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Commands lists the commands of this package.
func Commands() []api.Command { return []api.Command{types(), categories(), add(), update(), remove()} }

// Entities lists what this package's rows are called in parameters.
func Entities() []api.Entity {
	return []api.Entity{
		{Name: "ostype", Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) { return api.Owner{}, tables.OSTypes.Has(r, id) }},
		{Name: "oscategory", Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) {
			return api.Owner{}, tables.OSCategories.Has(r, id)
		}},
	}
}

// Answer is a guest operating system as clients see it.
type Answer struct {
	ID             cloud.ID `json:"id" doc:"the operating system"`
	OSCategoryID   cloud.ID `json:"oscategoryid" doc:"its category"`
	OSCategoryName string   `json:"oscategoryname,omitempty" doc:"name of that category"`
	Description    string   `json:"description" doc:"its name"`
	Name           string   `json:"name" doc:"its name"`
	UserDefined    bool     `json:"isuserdefined" doc:"whether it was added by an administrator"`
}

// Category is a category of guest operating systems.
type Category struct {
	ID   cloud.ID `json:"id" doc:"the category"`
	Name string   `json:"name" doc:"its name"`
}

func view(r store.Reader, t *cloud.OSType) Answer {
	a := Answer{ID: t.ID, OSCategoryID: t.CategoryID, Description: t.Description, Name: t.Description, UserDefined: t.UserDefined}
	if k, ok := tables.OSCategories.Get(r, t.CategoryID); ok {
		a.OSCategoryName = k.Name
	}
	return a
}

type typeParams struct {
	api.ListParams
	ID          cloud.ID `api:"id" ref:"ostype" doc:"this operating system only"`
	CategoryID  cloud.ID `api:"oscategoryid" ref:"oscategory" doc:"those of this category"`
	Description string   `api:"description" since:"3.0.1" doc:"the one of this name"`
}

func types() api.Command {
	return api.Command{
		Name: "listOsTypes", Doc: "Lists guest operating systems.", Roles: api.Everyone, Object: "ostype",
		Run: api.List(api.Lister[typeParams, cloud.OSType, Answer]{
			Rows: func(c *api.Call, p *typeParams) (iter.Seq[*cloud.OSType], error) {
				all := tables.OSTypes.By(c.Read, "description", nil)
				if !p.CategoryID.IsZero() {
					all = tables.OSTypes.By(c.Read, "category", store.K(p.CategoryID))
				}
				return func(yield func(*cloud.OSType) bool) {
					for t := range all {
						keep := (p.ID.IsZero() || p.ID == t.ID) && (p.Description == "" || strings.EqualFold(p.Description, t.Description))
						if keep && !yield(t) {
							return
						}
					}
				}, nil
			},
			Keyword: func(t *cloud.OSType) string { return t.Description },
			View:    func(c *api.Call, t *cloud.OSType) Answer { return view(c.Read, t) },
		}),
	}
}

type categoryParams struct {
	api.ListParams
	ID   cloud.ID `api:"id" ref:"oscategory" doc:"this category only"`
	Name string   `api:"name" since:"3.0.1" doc:"the category of this name"`
}

func categories() api.Command {
	return api.Command{
		Name: "listOsCategories", Doc: "Lists categories of guest operating systems.", Roles: api.Everyone, Object: "oscategory",
		Run: api.List(api.Lister[categoryParams, cloud.OSCategory, Category]{
			Rows: func(c *api.Call, p *categoryParams) (iter.Seq[*cloud.OSCategory], error) {
				return func(yield func(*cloud.OSCategory) bool) {
					for k := range tables.OSCategories.By(c.Read, "name", nil) {
						keep := (p.ID.IsZero() || p.ID == k.ID) && (p.Name == "" || strings.EqualFold(p.Name, k.Name))
						if keep && !yield(k) {
							return
						}
					}
				}, nil
			},
			Keyword: func(k *cloud.OSCategory) string { return k.Name },
			View:    func(_ *api.Call, k *cloud.OSCategory) Category { return Category{k.ID, k.Name} },
		}),
	}
}
