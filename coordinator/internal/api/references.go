package api

// Reference is a parameter that names a row by its id.
type Reference struct {
	// Param is the parameter as it is sent: "zoneid", or "iptonetworklist[0].networkid" in a list of objects.
	Param  string
	Entity string // what it names
	// Use tells that rows of others will do where they are shared.
	Use   bool
	Roles Roles // who may send it
}

// References lists a command's parameters that are checked against an entity.
func (c *Command) References() []Reference {
	pl, err := planOf(c.Run.params)
	if err != nil {
		return nil // NewRegistry has refused the command
	}
	var out []Reference
	for _, f := range pl.fields {
		if f.ref != "" {
			out = append(out, Reference{f.name, f.ref, f.use, f.roles & c.Roles})
		}
		if f.sub == nil {
			continue
		}
		for _, s := range f.sub.fields {
			if s.ref != "" {
				out = append(out, Reference{f.name + "[0]." + s.name, s.ref, s.use, f.roles & s.roles & c.Roles})
			}
		}
	}
	return out
}

// Entity finds what references name.
func (g *Registry) Entity(name string) (Entity, bool) {
	e, ok := g.entities[name]
	return e, ok
}
