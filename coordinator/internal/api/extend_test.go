package api

import (
	"reflect"
	"testing"
)

// A list that tells more of the same rows has all of the other's literal that says which rows there are.
func TestExtendKeepsWhatFindsRows(t *testing.T) {
	type row struct{ Name string }
	var l Lister[ListParams, row, row]
	v := reflect.ValueOf(&l).Elem()
	shows := map[string]bool{"View": true, "ViewFor": true, "Kept": true, "Volatile": true, "memo": true, "remarks": true}
	for i := range v.NumField() {
		f := v.Field(i)
		if shows[v.Type().Field(i).Name] {
			continue
		}
		switch f.Kind() {
		case reflect.Func:
			f.Set(reflect.MakeFunc(f.Type(), func([]reflect.Value) []reflect.Value { panic("not called") }))
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Pointer:
			f.Set(reflect.New(f.Type().Elem()))
		default:
			t.Fatalf("how to set %s?", v.Type().Field(i).Name)
		}
	}
	l.View = func(_ *Call, r *row) row { return row{r.Name + " shown"} }
	longer := Extend(l, func(_ *Call, _ *ListParams, r *row, shown row) [2]row { return [2]row{*r, shown} })
	e := reflect.ValueOf(longer)
	for i := range e.NumField() {
		name := e.Type().Field(i).Name
		if have := !e.Field(i).IsZero(); have == shows[name] && name != "ViewFor" {
			t.Errorf("%s is there: %v", name, have)
		}
	}
	if got, want := longer.view(nil, nil, &row{"a"}), ([2]row{{"a"}, {"a shown"}}); got != want {
		t.Errorf("a row is %v, want %v", got, want)
	}
}
