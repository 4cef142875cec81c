package api

import (
	"reflect"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// TagParams is the filter by tags; embed it beside ListParams. The rows need an ID field, or the Lister an ID function.
type TagParams struct {
	Tags map[string]string `api:"tags,map" doc:"only what has one of these tags: tags[0].key=..&tags[0].value=.."`
}

func (t *TagParams) tags() map[string]string { return t.Tags }

type tagged interface{ tags() map[string]string }

// Tag is a tag in an answer.
type Tag struct {
	Key          string   `json:"key" doc:"the tag's key"`
	Value        string   `json:"value" doc:"the tag's value"`
	ResourceType string   `json:"resourcetype" doc:"kind of the resource"`
	ResourceID   cloud.ID `json:"resourceid" doc:"the resource"`
	Account      string   `json:"account,omitempty" doc:"owner of the resource"`
	InProject
	DomainID   cloud.ID `json:"domainid,omitempty" doc:"domain of the owner"`
	Domain     string   `json:"domain,omitempty" doc:"name of that domain"`
	DomainPath string   `json:"domainpath,omitempty" doc:"path of that domain"`
	Customer   string   `json:"customer,omitempty" doc:"customer it is for"`
}

// NewTag shows a tag.
func NewTag(r store.Reader, t *cloud.Tag) Tag {
	a := Tag{
		Key: t.Key, Value: t.Value, ResourceType: t.ResourceType, ResourceID: t.ResourceID, DomainID: t.DomainID, Customer: t.Customer,
	}
	a.Account, a.InProject = OwnerNames(r, t.AccountID)
	if d, ok := tables.Domains.Get(r, t.DomainID); ok {
		a.Domain, a.DomainPath = d.Name, d.Path
	}
	return a
}

// TagsOf shows the tags of a resource, by their keys. It is never nil: clients want a list.
func TagsOf(r store.Reader, resource cloud.ID) []Tag {
	out := []Tag{}
	for t := range tables.Tags.By(r, "resource", store.K(resource)) {
		out = append(out, NewTag(r, t))
	}
	return out
}

// taggedWith tells whether a resource has one of the wanted tags, as 4.1 understands several.
func (c *Call) taggedWith(id cloud.ID, want map[string]string) bool {
	for key, value := range want {
		for t := range tables.Tags.By(c.Read, "resource", store.K(id, key)) {
			if t.Value == value {
				return true
			}
		}
	}
	return false
}

// rowID finds the ID of rows of a type: their field ID. nil where they have none.
func rowID[Row any]() func(*Row) cloud.ID {
	t := reflect.TypeFor[Row]()
	if t.Kind() != reflect.Struct {
		return nil
	}
	f, ok := t.FieldByName("ID")
	if !ok || f.Type != reflect.TypeFor[cloud.ID]() {
		return nil
	}
	return func(row *Row) cloud.ID {
		id, _ := reflect.ValueOf(row).Elem().FieldByIndex(f.Index).Interface().(cloud.ID)
		return id
	}
}
