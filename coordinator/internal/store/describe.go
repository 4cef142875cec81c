package store

import (
	"fmt"
	"reflect"
	"strings"
)

// Describe lists what of a table is written to disk, a line each: its fields with
// their numbers and types, those of nested structs too, and its indexes. Lines that
// were released once must stay: a number never comes to mean something else.
func Describe(t AnyTable) []string {
	c := t.base()
	lines := describeFields(c.name, c.plan.typ)
	for _, x := range c.indexes {
		line := fmt.Sprintf("%s index %s", c.name, x.name)
		if x.unique {
			line += " unique"
		}
		lines = append(lines, line)
	}
	return lines
}

func describeFields(prefix string, t reflect.Type) (lines []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		number, ok := f.Tag.Lookup("row")
		if !ok {
			continue
		}
		lines = append(lines, fmt.Sprintf("%s %s %s %s", prefix, number, f.Name, strings.TrimPrefix(f.Type.String(), "cloud.")))
		inner := f.Type
		if inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct {
			lines = append(lines, describeFields(prefix+" "+number, inner)...)
		}
	}
	return lines
}
