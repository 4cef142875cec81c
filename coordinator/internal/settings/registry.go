package settings

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Registry is the list of all settings of this program.
type Registry struct {
	defs   []*Def
	byName map[string]*Def
}

// New composes the settings of all areas. It panics where two have the same name.
func New(lists ...[]*Def) *Registry {
	g := &Registry{byName: map[string]*Def{}}
	for _, l := range lists {
		for _, d := range l {
			if g.byName[d.Name] != nil {
				panic(fmt.Sprintf("settings: %s is defined twice", d.Name))
			}
			g.byName[d.Name] = d
			g.defs = append(g.defs, d)
		}
	}
	slices.SortFunc(g.defs, func(a, b *Def) int { return strings.Compare(a.Name, b.Name) })
	return g
}

// All lists the settings by name.
func (g *Registry) All() []*Def { return g.defs }

// Get finds a setting.
func (g *Registry) Get(name string) (*Def, bool) {
	d, ok := g.byName[name]
	return d, ok
}

// Set stores a value, or removes the stored one where it is the default.
func (g *Registry) Set(tx *store.Tx, name, value string) error {
	d, ok := g.byName[name]
	if !ok {
		return cloud.Errorf(cloud.Invalid, "Config parameter with name %s doesn't exist", name)
	}
	if err := d.Check(value); err != nil {
		return err
	}
	if value == d.Default {
		return tables.Settings.Delete(tx, d.id)
	}
	if err := tables.Settings.Put(tx, &cloud.Setting{ID: d.id, Name: d.Name, Value: value}); err != nil {
		return fmt.Errorf("store setting %s: %w", name, err)
	}
	return nil
}

// View reads settings by name from one state. A name that is not defined panics: a mistake in the program.
type View struct {
	g *Registry
	r store.Reader
}

// View binds the registry to a state.
func (g *Registry) View(r store.Reader) View { return View{g, r} }

func (v View) def(name string) *Def {
	d, ok := v.g.byName[name]
	if !ok {
		panic(fmt.Sprintf("settings: %s is not defined", name))
	}
	return d
}

// String is the value of a setting as text.
func (v View) String(name string) string { return v.def(name).Text(v.r) }

// Int is the value of an Integer or Seconds setting.
func (v View) Int(name string) int64 { return v.def(name).Int(v.r) }

// Float is the value of a Float setting.
func (v View) Float(name string) float64 { return v.def(name).Float(v.r) }

// Bool is the value of a Boolean setting.
func (v View) Bool(name string) bool { return v.def(name).Bool(v.r) }

// Duration is the value of a Seconds setting.
func (v View) Duration(name string) time.Duration { return v.def(name).Duration(v.r) }
