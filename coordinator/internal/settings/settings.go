// Package settings is the registry of global settings: what an operator may change while the cloud runs.
//
// A setting is defined once, in the package that honours it, as a *Def made by Define; a value is stored only where it
// differs from the default. There is no cache: a setting is read from the same state as everything else a call reads,
// so a change holds from the next call on, on every coordinator.
//
// A setting with Scopes can have a value for one zone, cluster, storage pool or account as well. Who reads it names the
// rows in question, the nearest first; the first of them with a value decides, else the value for everything.
package settings

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Type of a setting's value.
type Type uint8

// The types, named as listConfigurations shows them.
const (
	String Type = iota
	Integer
	Float
	Boolean
	Seconds // an Integer that Duration reads
)

func (t Type) String() string {
	return [...]string{"String", "Number", "Decimal", "Boolean", "Number"}[t]
}

// Scope is a set of kinds of rows that a setting can have a value of its own for.
type Scope uint8

// The scopes, in the order of scopeNames.
const (
	Zone Scope = 1 << iota
	Cluster
	Pool
	Account
	Domain
)

var scopeNames = [...]string{"Zone", "Cluster", "StoragePool", "Account", "Domain"}

// String lists the scopes as clients see them; every setting has a global value.
func (s Scope) String() string {
	text := "Global"
	for i, n := range scopeNames {
		if s&(1<<i) != 0 {
			text += "," + n
		}
	}
	return text
}

// Def defines a setting. Make it with Define.
type Def struct {
	Name     string
	Category string // "Advanced", "Account Defaults", ... as CloudStack groups them
	Doc      string
	Type     Type
	Default  string
	// Min and Max bound numbers, when they differ.
	Min, Max float64
	// Enum lists the values a String may have; empty is any.
	Enum []string
	// Rule tells what else is wrong with a value; nil is nothing. What it says follows "Value ... of ... ".
	Rule func(v string) error
	// Restart says that a change holds after coordinators were restarted only.
	Restart bool
	// Scopes are what it can be set for beside everything.
	Scopes Scope
	// Secret values are sealed in rows and never shown.
	Secret bool

	id cloud.ID
}

// Define completes a definition. It panics where the default is not a value of it: a mistake in the program.
func Define(d Def) *Def {
	d.id = cloud.NameID("setting", d.Name)
	if err := d.Check(d.Default); err != nil || d.Name == "" {
		panic(fmt.Sprintf("settings: %q: bad default: %v", d.Name, err))
	}
	return &d
}

// ID is the ID of the row that keeps a value other than the default.
func (d *Def) ID() cloud.ID { return d.id }

// Check tells what is wrong with a value.
func (d *Def) Check(v string) error {
	switch d.Type {
	case Boolean:
		if _, err := parseBool(v); err != nil {
			return cloud.Errorf(cloud.Invalid, "Value %q of %s must be true or false", v, d.Name)
		}
	case Integer, Seconds:
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return cloud.Errorf(cloud.Invalid, "Value %q of %s must be a whole number", v, d.Name)
		}
		return d.inRange(v, float64(n))
	case Float:
		n, err := strconv.ParseFloat(v, 64)
		if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
			return cloud.Errorf(cloud.Invalid, "Value %q of %s must be a number", v, d.Name)
		}
		return d.inRange(v, n)
	case String:
		if len(d.Enum) > 0 && !slices.Contains(d.Enum, v) {
			return cloud.Errorf(cloud.Invalid, "Value %q of %s must be one of: %s", v, d.Name, strings.Join(d.Enum, ", "))
		}
		if d.Rule != nil {
			if err := d.Rule(v); err != nil {
				return cloud.Errorf(cloud.Invalid, "Value %q of %s %v", v, d.Name, err)
			}
		}
	}
	return nil
}

func (d *Def) inRange(text string, n float64) error {
	if d.Min != d.Max && (n < d.Min || n > d.Max) {
		return cloud.Errorf(cloud.Invalid, "Value %s of %s must be between %v and %v", text, d.Name, d.Min, d.Max)
	}
	return nil
}

func parseBool(v string) (bool, error) {
	switch strings.ToLower(v) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, strconv.ErrSyntax
}

// scoped is the ID of the row that keeps a value for one row.
func (d *Def) scoped(scope cloud.ID) cloud.ID {
	if scope.IsZero() {
		return d.id
	}
	return cloud.NameID("setting", d.Name+"@"+scope.String())
}

// row finds what is stored for the first of in, else for everything.
func (d *Def) row(r store.Reader, in []cloud.ID) (*cloud.Setting, bool) {
	for _, id := range in {
		if id.IsZero() {
			continue
		}
		if row, ok := tables.Settings.Get(r, d.scoped(id)); ok {
			return row, true
		}
	}
	return tables.Settings.Get(r, d.id)
}

// SetFor tells whether a row has a value of its own.
func (d *Def) SetFor(r store.Reader, scope cloud.ID) bool {
	return !scope.IsZero() && tables.Settings.Has(r, d.scoped(scope))
}

// Text is the setting's value as text. in are the rows that may have a value of their own, the nearest first. A secret
// has no text: read it with Sealed.
func (d *Def) Text(r store.Reader, in ...cloud.ID) string {
	if row, ok := d.row(r, in); ok {
		return row.Value
	}
	return d.Default
}

// Sealed is the value of a Secret, zero where none is set.
func (d *Def) Sealed(r store.Reader) (cloud.Sealed, bool) {
	if row, ok := d.row(r, nil); ok {
		return row.Sealed, true
	}
	return nil, false
}

// value is the stored text when it is good, else the default: a row written by another version may hold a value this
// one would refuse.
func (d *Def) value(r store.Reader, in []cloud.ID) string {
	v := d.Text(r, in...)
	if d.Check(v) != nil {
		return d.Default
	}
	return v
}

// Int is the value of an Integer or Seconds.
func (d *Def) Int(r store.Reader, in ...cloud.ID) int64 {
	n, _ := strconv.ParseInt(d.value(r, in), 10, 64)
	return n
}

// Float is the value of a Float.
func (d *Def) Float(r store.Reader, in ...cloud.ID) float64 {
	n, _ := strconv.ParseFloat(d.value(r, in), 64)
	return n
}

// Bool is the value of a Boolean.
func (d *Def) Bool(r store.Reader, in ...cloud.ID) bool {
	b, _ := parseBool(d.value(r, in))
	return b
}

// Duration is the value of Seconds.
func (d *Def) Duration(r store.Reader, in ...cloud.ID) time.Duration {
	return time.Duration(d.Int(r, in...)) * time.Second
}
