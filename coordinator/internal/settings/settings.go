// Package settings is the registry of global settings: what an operator may change while the cloud runs.
//
// A setting is defined once, in the package that honours it, as a *Def made by Define; a value is stored only where it
// differs from the default. There is no cache: a setting is read from the same state as everything else a call reads,
// so a change holds from the next call on, on every coordinator.
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
	// Restart says that a change holds after coordinators were restarted only.
	Restart bool

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

// Text is the setting's value as text.
func (d *Def) Text(r store.Reader) string {
	if row, ok := tables.Settings.Get(r, d.id); ok {
		return row.Value
	}
	return d.Default
}

// value is the stored text when it is good, else the default: a row written by another version may hold a value this
// one would refuse.
func (d *Def) value(r store.Reader) string {
	v := d.Text(r)
	if d.Check(v) != nil {
		return d.Default
	}
	return v
}

// Int is the value of an Integer or Seconds.
func (d *Def) Int(r store.Reader) int64 {
	n, _ := strconv.ParseInt(d.value(r), 10, 64)
	return n
}

// Float is the value of a Float.
func (d *Def) Float(r store.Reader) float64 {
	n, _ := strconv.ParseFloat(d.value(r), 64)
	return n
}

// Bool is the value of a Boolean.
func (d *Def) Bool(r store.Reader) bool {
	b, _ := parseBool(d.value(r))
	return b
}

// Duration is the value of Seconds.
func (d *Def) Duration(r store.Reader) time.Duration { return time.Duration(d.Int(r)) * time.Second }
