package api

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// plan is a parameter type, compiled once: how each field is set from its text.
type plan struct {
	typ    reflect.Type
	fields []*field
	byName map[string]*field
	refs   []*field // those with references, also of object lists
	need   []*field // those required
}

// shape is how a parameter comes on the wire.
type shape uint8

const (
	scalarShape shape = iota // name=text
	listShape                // name=a,b
	mapShape                 // name[i].key=k, name[i].value=v, or name[i].k=v
	objectShape              // name[i].field=v
)

// field is one parameter.
type field struct {
	name     string
	offset   uintptr
	typ      reflect.Type // of the struct field
	shape    shape
	required bool
	doc      string
	length   int // greatest length of a text
	min, max float64
	bounded  bool
	enum     []string
	ref      string
	use      bool
	roles    Roles // who may send it
	since    string
	kind     string // listApis' type
	emptyOK  bool   // *string: empty is a value
	set      setter
	sub      *plan // of objects
	ids      func(p unsafe.Pointer) []cloud.ID
}

// setter stores a text in the field at p.
type setter func(f *field, p unsafe.Pointer, text string) error

var plans sync.Map // reflect.Type -> *plan

// planOf compiles a parameter type.
func planOf(t reflect.Type) (*plan, error) {
	if p, ok := plans.Load(t); ok {
		return p.(*plan), nil
	}
	p, err := compilePlan(t, false)
	if err != nil {
		return nil, err
	}
	plans.Store(t, p)
	return p, nil
}

func compilePlan(t reflect.Type, nested bool) (*plan, error) {
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("parameters must be a struct, not %s", t)
	}
	p := &plan{typ: t, byName: map[string]*field{}}
	if err := p.add(t, 0, nested); err != nil {
		return nil, err
	}
	for _, f := range p.fields {
		lower := strings.ToLower(f.name)
		if p.byName[lower] != nil {
			return nil, fmt.Errorf("%s: parameter %s is declared twice", t, f.name)
		}
		p.byName[lower] = f
		if f.required {
			p.need = append(p.need, f)
		}
		if f.ref != "" {
			p.refs = append(p.refs, f)
		}
	}
	return p, nil
}

func (p *plan) add(t reflect.Type, base uintptr, nested bool) error {
	for i := range t.NumField() {
		sf := t.Field(i)
		tag, tagged := sf.Tag.Lookup("api")
		if sf.Anonymous && !tagged && sf.Type.Kind() == reflect.Struct {
			if err := p.add(sf.Type, base+sf.Offset, nested); err != nil {
				return err
			}
			continue
		}
		if !tagged {
			if sf.IsExported() && !nested {
				return fmt.Errorf("%s.%s has no api tag", t, sf.Name)
			}
			continue
		}
		f, err := compileField(sf, tag, nested)
		if err != nil {
			return fmt.Errorf("%s.%s: %w", t, sf.Name, err)
		}
		f.offset += base
		p.fields = append(p.fields, f)
	}
	return nil
}

// all yields the fields, those of object lists too.
func (p *plan) all() []*field {
	var out []*field
	for _, f := range p.fields {
		out = append(out, f)
		if f.sub != nil {
			out = append(out, f.sub.all()...)
		}
	}
	return out
}

// defaultLength is that of 4.1 for texts without another one.
const defaultLength = 255

func compileField(sf reflect.StructField, tag string, nested bool) (*field, error) {
	parts := strings.Split(tag, ",")
	f := &field{
		name: parts[0], offset: sf.Offset, typ: sf.Type, length: defaultLength, roles: Everyone | NoLogin,
		doc: sf.Tag.Get("doc"), since: sf.Tag.Get("since"), kind: sf.Tag.Get("type"),
	}
	if f.name == "" || f.name != strings.ToLower(f.name) && !nested {
		return nil, fmt.Errorf("bad parameter name %q", f.name)
	}
	opts := map[string]bool{}
	for _, o := range parts[1:] {
		opts[o] = true
	}
	f.required = opts["required"]
	if err := f.readTags(sf.Tag); err != nil {
		return nil, err
	}
	return f, f.choose(opts)
}

func (f *field) readTags(tag reflect.StructTag) (err error) {
	if l := tag.Get("len"); l != "" {
		if f.length, err = strconv.Atoi(l); err != nil {
			return err
		}
	}
	lo, hasMin := tag.Lookup("min")
	hi, hasMax := tag.Lookup("max")
	if hasMin || hasMax {
		f.bounded, f.min, f.max = true, -1<<62, 1<<62
		if hasMin {
			if f.min, err = strconv.ParseFloat(lo, 64); err != nil {
				return err
			}
		}
		if hasMax {
			if f.max, err = strconv.ParseFloat(hi, 64); err != nil {
				return err
			}
		}
	}
	if e := tag.Get("enum"); e != "" {
		f.enum = strings.Split(e, ",")
	}
	switch role := tag.Get("role"); role {
	case "":
	case "admin":
		f.roles = RootAdmin
	case "admins":
		f.roles = Admins
	default:
		return fmt.Errorf("unknown role %q", role)
	}
	if ref := tag.Get("ref"); ref != "" {
		name, mode, _ := strings.Cut(ref, ",")
		f.ref, f.use = name, mode == "use"
		if mode != "" && mode != "use" {
			return fmt.Errorf("unknown mode of reference %q", mode)
		}
	}
	return nil
}

// decode fills the struct at p from the request's values, for a caller of the given role.
func (pl *plan) decode(command string, p unsafe.Pointer, v Values, role Roles) error {
	var groups map[*field]map[int]Values
	for i := range v {
		name, _, grouped := strings.Cut(v[i].lower, "[")
		f := pl.byName[name]
		if f == nil || f.roles&role == 0 {
			continue
		}
		if grouped != (f.shape == mapShape || f.shape == objectShape) {
			if v[i].text == "" {
				continue
			}
			return badValue(command, v[i].text, f)
		}
		if grouped {
			index, sub, err := splitGroup(v[i].name)
			if err != nil {
				return err
			}
			if groups == nil {
				groups = map[*field]map[int]Values{}
			}
			if groups[f] == nil {
				groups[f] = map[int]Values{}
			}
			groups[f][index] = append(groups[f][index], value{sub, strings.ToLower(sub), v[i].text})
			continue
		}
		if v[i].text == "" && !f.emptyOK {
			continue
		}
		if err := f.set(f, unsafe.Add(p, f.offset), v[i].text); err != nil {
			return refuse(command, v[i].text, f, err)
		}
	}
	for f, entries := range groups {
		if err := f.setGroups(command, unsafe.Add(p, f.offset), entries, role); err != nil {
			return err
		}
	}
	for _, f := range pl.need {
		if f.roles&role != 0 && !pl.present(f, v) {
			return cloud.Errorf(cloud.Invalid, "Unable to execute API command %s due to missing parameter %s", command, f.name)
		}
	}
	return nil
}

// present tells whether a required parameter was sent with a text.
func (pl *plan) present(f *field, v Values) bool {
	if f.shape == scalarShape || f.shape == listShape {
		return v.Get(strings.ToLower(f.name)) != ""
	}
	for i := range v {
		if name, _, grouped := strings.Cut(v[i].lower, "["); grouped && name == f.name {
			return true
		}
	}
	return false
}

// splitGroup reads "name[3].Sub"; Sub keeps its case.
func splitGroup(full string) (index int, sub string, err error) {
	malformed := func() (int, string, error) {
		return 0, "", cloud.Errorf(cloud.Malformed, "Invalid key when specifying a map parameter: %s; expected name[index].key", printable(full))
	}
	open := strings.IndexByte(full, '[')
	if open < 0 || strings.Count(full, "[") != 1 || strings.Count(full, "]") != 1 {
		return malformed()
	}
	inside, rest, ok := strings.Cut(full[open+1:], "]")
	if !ok || len(rest) < 2 || rest[0] != '.' {
		return malformed()
	}
	index, err = strconv.Atoi(inside)
	if err != nil || index < 0 {
		return malformed()
	}
	return index, rest[1:], nil
}

func badValue(command, text string, f *field) error {
	return refuse(command, text, f, errBadValue)
}
