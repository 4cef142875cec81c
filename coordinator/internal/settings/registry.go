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

// Set stores a value for everything, or removes the stored one where it is the default.
func (g *Registry) Set(tx *store.Tx, name, value string) error {
	return g.SetFor(tx, cloud.ID{}, name, value, nil)
}

// SetFor stores a value for one row, or with a zero scope for everything. The caller has checked that the setting can be
// set for rows of that kind (Def.Scopes). seal makes what is stored of a secret.
func (g *Registry) SetFor(tx *store.Tx, scope cloud.ID, name, value string, seal func(string) cloud.Sealed) error {
	d, ok := g.byName[name]
	if !ok {
		return cloud.Errorf(cloud.Invalid, "Config parameter with name %s doesn't exist", name)
	}
	if err := d.Check(value); err != nil {
		return err
	}
	if value == d.Default && scope.IsZero() {
		return g.Reset(tx, scope, name)
	}
	row := &cloud.Setting{ID: d.scoped(scope), Name: d.Name, ScopeID: scope}
	switch {
	case !d.Secret:
		row.Value = value
	case seal == nil:
		return fmt.Errorf("store setting %s: a secret needs sealing", name)
	default:
		row.Sealed = seal(value)
	}
	if err := tables.Settings.Put(tx, row); err != nil {
		return fmt.Errorf("store setting %s: %w", name, err)
	}
	return nil
}

// Reset removes the value for one row, or with a zero scope the one for everything: what holds then is the next wider
// value, at last the default.
func (g *Registry) Reset(tx *store.Tx, scope cloud.ID, name string) error {
	d, ok := g.byName[name]
	if !ok {
		return cloud.Errorf(cloud.Invalid, "Config parameter with name %s doesn't exist", name)
	}
	return tables.Settings.Delete(tx, d.scoped(scope))
}

// Forget removes the values for a row that goes away.
func Forget(tx *store.Tx, scope cloud.ID) error {
	for s := range tables.Settings.By(tx, "scope", store.K(scope)) {
		if err := tables.Settings.Delete(tx, s.ID); err != nil {
			return fmt.Errorf("forget settings of %s: %w", scope, err)
		}
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
func (v View) String(name string, in ...cloud.ID) string { return v.def(name).Text(v.r, in...) }

// Int is the value of an Integer or Seconds setting.
func (v View) Int(name string, in ...cloud.ID) int64 { return v.def(name).Int(v.r, in...) }

// Float is the value of a Float setting.
func (v View) Float(name string, in ...cloud.ID) float64 { return v.def(name).Float(v.r, in...) }

// Bool is the value of a Boolean setting.
func (v View) Bool(name string, in ...cloud.ID) bool { return v.def(name).Bool(v.r, in...) }

// Duration is the value of a Seconds setting.
func (v View) Duration(name string, in ...cloud.ID) time.Duration {
	return v.def(name).Duration(v.r, in...)
}
