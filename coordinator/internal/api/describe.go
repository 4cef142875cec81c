package api

import (
	"slices"
	"strings"
)

// Description is one command as listApis shows it.
type Description struct {
	Name        string                 `json:"name" doc:"the command's name"`
	Description string                 `json:"description" doc:"what the command does"`
	IsAsync     bool                   `json:"isasync" doc:"whether a call starts a job"`
	Related     string                 `json:"related,omitempty" doc:"commands whose answers have the same shape"`
	Since       string                 `json:"since,omitempty" doc:"version of CloudStack the command appeared in"`
	Params      []ParameterDescription `json:"params" doc:"the parameters"`
	Response    []FieldDescription     `json:"response" doc:"the fields of the answer"`
}

// ParameterDescription is one parameter.
type ParameterDescription struct {
	Name        string `json:"name" doc:"the parameter's name"`
	Description string `json:"description" doc:"what the parameter is for"`
	Type        string `json:"type" doc:"the parameter's type"`
	Required    bool   `json:"required" doc:"whether a call must have it"`
	Length      int    `json:"length" doc:"greatest length of its text"`
	Related     string `json:"related,omitempty" doc:"commands that list what it may name"`
	Since       string `json:"since,omitempty" doc:"version of CloudStack the parameter appeared in"`
}

// FieldDescription is one field of an answer.
type FieldDescription struct {
	Name        string             `json:"name" doc:"the field's name"`
	Description string             `json:"description" doc:"what the field tells"`
	Type        string             `json:"type" doc:"the field's type"`
	Response    []FieldDescription `json:"response,omitempty" doc:"the fields of the objects in it"`
}

// Describe lists the commands that a role may call, by name.
func (g *Registry) Describe(role Roles) []Description {
	var out []Description
	for _, c := range g.commands {
		if c.Roles&role != 0 {
			out = append(out, g.describe(c, role))
		}
	}
	return out
}

func (g *Registry) describe(c *Command, role Roles) Description {
	d := Description{
		Name: c.Name, Description: c.Doc, IsAsync: c.Async(), Related: g.alike(c, role), Since: c.Since,
		Params: []ParameterDescription{}, Response: []FieldDescription{},
	}
	pl, err := planOf(c.Run.params)
	if err != nil {
		return d // checked when it was registered
	}
	for _, f := range pl.fields {
		if f.roles&role == 0 {
			continue
		}
		d.Params = append(d.Params, ParameterDescription{
			Name: f.name, Description: f.doc, Type: f.kind, Required: f.required, Length: f.length,
			Related: g.related(f.ref, role), Since: f.since,
		})
	}
	// Required ones first, as people read them; then by name.
	slices.SortFunc(d.Params, func(a, b ParameterDescription) int {
		if a.Required != b.Required {
			if a.Required {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	if enc, err := encoderOf(c.AnswerType()); err == nil && enc != nil {
		d.Response = append(d.Response, enc.describe(0)...)
	}
	if c.Async() {
		d.Response = append(d.Response,
			FieldDescription{Name: "jobid", Description: "the job to ask about with queryAsyncJobResult", Type: "string"},
			FieldDescription{Name: "jobstatus", Description: "how far the job is", Type: "integer"})
	}
	return d
}

// alike names the other commands of a role that answer the same object, or have it as their job's result: "a,b".
func (g *Registry) alike(c *Command, role Roles) string {
	if c.Object == "" {
		return ""
	}
	var names []string
	for _, o := range g.commands {
		if o != c && o.Object != "" && o.AnswerType() == c.AnswerType() && o.Roles&role != 0 {
			names = append(names, o.Name)
		}
	}
	return strings.Join(names, ",")
}

// related names the list command of an entity, where there is one.
func (g *Registry) related(ref string, role Roles) string {
	if ref == "" {
		return ""
	}
	for _, c := range g.commands {
		if c.Run.kind == list && c.Object == ref && c.Roles&role != 0 {
			return c.Name
		}
	}
	return ""
}

// maxNesting bounds the description of types that hold themselves.
const maxNesting = 3

func (e *encoder) describe(depth int) []FieldDescription {
	for e.shape == pointerAnswer || e.shape == sliceAnswer {
		e = e.elem
	}
	if e.shape != structAnswer || depth > maxNesting {
		return nil
	}
	var out []FieldDescription
	for _, f := range e.fields {
		out = append(out, FieldDescription{
			Name: f.name, Description: f.doc, Type: f.enc.kind, Response: f.enc.describe(depth + 1),
		})
	}
	return out
}
