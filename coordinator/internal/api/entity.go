package api

import (
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// Entity is a kind of thing that parameters refer to by id. It is registered once, by the package of its commands, and
// named in the ref tag of parameters; the framework resolves ids and checks access before a handler runs.
type Entity struct {
	Name string // "zone", "virtualmachine"
	// Lookup finds the owner of a row; ok is false where it does not exist or counts as gone (removed).
	Lookup func(r store.Reader, id cloud.ID) (o Owner, ok bool)
	// Usable, optional, says whether the caller may use a row that is not theirs, for parameters tagged `ref:"name,use"`
	// (public templates, offerings, shared networks). Infrastructure needs none: the zero Owner is free to all.
	Usable func(c *Call, id cloud.ID) bool
}

// noEntity is the refusal of an id that names nothing, and of one that names what the caller may not touch: both read
// alike, so that ids cannot be probed. Clients match the sentence.
func noEntity(param, value string) error {
	return cloud.Errorf(cloud.Invalid, "Invalid parameter %s value=%s due to incorrect long value format, or entity does not exist", param, value)
}

// NoEntity is that refusal for handlers that look something up by themselves.
func NoEntity(param string, id cloud.ID) error { return noEntity(param, id.String()) }

// check resolves one reference.
func (c *Call) check(e Entity, param string, id cloud.ID, use bool) error {
	o, ok := e.Lookup(c.looking(), id)
	if !ok {
		return noEntity(param, id.String())
	}
	if c.May(o) {
		if !use {
			c.about(param, o)
		}
		return nil
	}
	if use && e.Usable != nil && e.Usable(c, id) {
		return nil
	}
	if err := c.barred(o.Account); err != nil {
		return err
	}
	return noEntity(param, id.String())
}
