package api

import (
	"fmt"
	"reflect"
	"unsafe"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Remarked is embedded in answers that show what can have remarks, with the entity's name in the tag `of:"zone"`. No view fills
// it in: the framework does, by the answer's ID, wherever such an answer is made.
type Remarked struct {
	HasAnnotations bool `json:"hasannotations" doc:"whether it has remarks that the caller sees: listAnnotations lists them"`
}

// MayRemark tells whether the caller may see and leave remarks at a row of an entity. What is no account's is the root
// admins' to remark on, and a domain its admins'.
func (c *Call) MayRemark(entity string, id cloud.ID) bool {
	e, ok := c.registry.Entity(entity)
	if !ok {
		return false
	}
	o, there := e.Lookup(c.Read, id)
	switch {
	case !there:
		return false
	case c.IsRoot():
		return true
	case entity == "domain":
		return c.IsAdmin() && c.InDomain(id)
	}
	return !o.Account.IsZero() && c.May(o)
}

// remarks is where a type of answers has its Remarked.
type remarks struct {
	entity string
	at, id uintptr
}

// remarksOf is nil for a type without.
func remarksOf(t reflect.Type) *remarks {
	if t.Kind() != reflect.Struct {
		return nil
	}
	for _, f := range reflect.VisibleFields(t) {
		if f.Type != reflect.TypeFor[Remarked]() {
			continue
		}
		id, ok := t.FieldByName("ID")
		entity := f.Tag.Get("of")
		if !ok || id.Type != reflect.TypeFor[cloud.ID]() || entity == "" {
			panic(fmt.Sprintf("api: %s has remarks, and no ID or no tag that names the entity", t))
		}
		return &remarks{entity, offsetIn(t, f.Index), offsetIn(t, id.Index)}
	}
	return nil
}

// offsetIn is the offset of a field, which may be one of embedded structs'.
func offsetIn(t reflect.Type, index []int) (at uintptr) {
	for _, i := range index {
		f := t.Field(i)
		at += f.Offset
		t = f.Type
	}
	return at
}

// fill says in an answer whether it has remarks that somebody sees: all, or those for everybody where may allows it. It
// reads nothing but the remarks where there are none, which is the rule.
func (m *remarks) fill(r store.Reader, answer unsafe.Pointer, root bool, may func(entity string, id cloud.ID) bool) {
	if m == nil {
		return
	}
	id := *(*cloud.ID)(unsafe.Add(answer, m.id))
	for a := range tables.Annotations.By(r, "entity", store.K(id)) {
		if (!a.AdminsOnly || root) && may(m.entity, id) {
			(*Remarked)(unsafe.Add(answer, m.at)).HasAnnotations = true
			return
		}
	}
}

// remark fills in what the caller of a command sees.
func (c *Call) remark(m *remarks, answer unsafe.Pointer) {
	if m != nil {
		m.fill(c.Read, answer, c.IsRoot(), c.MayRemark)
	}
}

// remarkResult fills in what the one sees who started a job: what that was about was theirs to see.
func remarkResult(r store.Reader, c *ResultContext, j *cloud.Job, v any) any {
	if v == nil {
		return nil
	}
	m := remarksOf(reflect.TypeOf(v))
	if m == nil {
		return v
	}
	answer := reflect.New(reflect.TypeOf(v))
	answer.Elem().Set(reflect.ValueOf(v))
	m.fill(r, answer.UnsafePointer(), c.IsRoot(r, j), func(string, cloud.ID) bool { return true })
	return answer.Elem().Interface()
}
