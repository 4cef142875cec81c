package reference

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
)

// object is a JSON object; encoding/json sorts its keys, so a document is the same bytes each time.
type object = map[string]any

// OpenAPI gives the whole API as an OpenAPI 3.1 document in JSON.
//
// The API has one path and names the command in a parameter, which OpenAPI has no words for. The endpoint does not look
// at what follows its path, so each command is told as /client/api/<command>, and its parameter command is a constant.
func OpenAPI(g *api.Registry, version string) ([]byte, error) {
	doc := document{schemas: object{}, names: map[string]string{}}
	paths := object{}
	commands := map[string]*api.Command{}
	for _, c := range g.Commands() {
		commands[c.Name] = c
	}
	for _, d := range g.Describe(api.Everyone | api.NoLogin) {
		c := commands[d.Name]
		// Parameters go into the body: a query is written into other programs' logs, and is short.
		paths["/client/api/"+d.Name] = object{"post": doc.operation(c, &d)}
	}
	doc.schemas["error"] = object{
		"type": "object", "description": "why a call was refused",
		"properties": object{
			"errorcode":   object{"type": "integer", "description": "the HTTP status, as CloudStack numbers errors"},
			"cserrorcode": object{"type": "integer", "description": "the kind of error inside CloudStack"},
			"errortext":   object{"type": "string", "description": "a sentence for a person"},
			"uuidList":    object{"type": "array", "items": object{}, "description": "ids that the text is about"},
		},
	}
	b, err := json.MarshalIndent(object{
		"openapi": "3.1.0",
		"info": object{
			"title": "Wisp", "version": version,
			"description": "The CloudStack API as Wisp serves it. Calls are signed, or belong to a session of login; see the documentation for how a signature is made.",
			"license":     object{"name": "Apache-2.0", "identifier": "Apache-2.0"},
		},
		"servers": []any{object{"url": "/"}},
		"paths":   paths,
		"security": []any{
			object{"apiKey": []any{}, "signature": []any{}}, object{"session": []any{}, "sessionkey": []any{}},
		},
		"components": object{
			"schemas": doc.schemas,
			"securitySchemes": object{
				"apiKey":     object{"type": "apiKey", "in": "query", "name": "apiKey", "description": "a user's API key"},
				"signature":  object{"type": "apiKey", "in": "query", "name": "signature", "description": "HMAC of all other parameters with the user's secret key"},
				"session":    object{"type": "apiKey", "in": "cookie", "name": "JSESSIONID", "description": "what login sets"},
				"sessionkey": object{"type": "apiKey", "in": "query", "name": "sessionkey", "description": "what login answers"},
			},
			"responses": object{
				"refused": object{
					"description": "The call was refused; the status is the error code.",
					"content": object{"application/json": object{"schema": object{
						"type": "object", "additionalProperties": object{"$ref": "#/components/schemas/error"},
					}}},
				},
			},
		},
	}, "", " ")
	if err != nil {
		return nil, fmt.Errorf("write the OpenAPI document: %w", err)
	}
	return append(b, '\n'), nil
}

// document gathers the schemas of answers: equal ones are told once.
type document struct {
	schemas object
	names   map[string]string // canonical text of a schema -> its name
}

func (d *document) operation(c *api.Command, x *api.Description) object {
	op := object{
		"operationId": x.Name, "summary": x.Description, "tags": []any{tag(c)},
		"parameters": []any{
			object{"name": "command", "in": "query", "required": true, "schema": object{"const": x.Name}},
			object{"name": "response", "in": "query", "required": true, "description": "the format of the answer; XML without it", "schema": object{"const": "json"}},
		},
		"responses": object{
			"200":     object{"description": "The call was carried out.", "content": object{"application/json": object{"schema": d.answer(c, x)}}},
			"default": object{"$ref": "#/components/responses/refused"},
		},
		"x-roles": who(c),
	}
	if c.Roles&api.NoLogin != 0 {
		op["security"] = []any{}
	}
	if c.Event != "" {
		op["x-event"] = c.Event
	}
	if len(x.Params) > 0 {
		properties, required := object{}, []any{}
		for _, p := range x.Params {
			s := parameter(p)
			properties[p.Name] = s
			if p.Required {
				required = append(required, p.Name)
			}
		}
		form := object{"type": "object", "properties": properties}
		if len(required) > 0 {
			form["required"] = required
		}
		op["requestBody"] = object{"required": len(required) > 0, "content": object{"application/x-www-form-urlencoded": object{"schema": form}}}
	}
	return op
}

// tag groups commands by what they work on.
func tag(c *api.Command) string {
	if c.Entity != "" {
		return strings.ToLower(c.Entity)
	}
	if c.Object != "" {
		return c.Object
	}
	return "other"
}

func parameter(p api.ParameterDescription) object {
	s := kind(p.Type)
	s["description"] = p.Description
	if p.Type == "string" && p.Length > 0 {
		s["maxLength"] = p.Length
	}
	switch p.Type {
	case "list":
		// Either a text with commas, or name[0].key=value for lists of objects: no schema says both.
		s = object{"description": p.Description + " (comma-separated, or name[0].key=value)"}
	case "map":
		s = object{"description": p.Description + " (name[0].key=value)"}
	}
	return s
}

// kind is the schema of a scalar type as listApis names it.
func kind(t string) object {
	switch t {
	case "boolean":
		return object{"type": "boolean"}
	case "integer", "short":
		return object{"type": "integer", "format": "int32"}
	case "long":
		return object{"type": "integer", "format": "int64"}
	case "float":
		return object{"type": "number", "format": "float"}
	case "double":
		return object{"type": "number", "format": "double"}
	case "uuid":
		return object{"type": "string", "format": "uuid"}
	case "map":
		return object{"type": "object", "additionalProperties": object{"type": "string"}}
	case "object":
		return object{"type": "object"}
	default: // string, date (which may lack the colon that RFC 3339 wants in an offset)
		return object{"type": "string"}
	}
}

// answer is the schema of what the envelope holds.
func (d *document) answer(c *api.Command, x *api.Description) object {
	inside := object{}
	switch {
	case c.Async():
		inside["jobid"] = object{"type": "string", "format": "uuid", "description": "to ask queryAsyncJobResult about"}
		if c.Creates() {
			inside["id"] = object{"type": "string", "format": "uuid", "description": "the new object"}
		}
		result := d.schema(name(c), x.Response)
		if c.Object != "" {
			result = object{"type": "object", "properties": object{c.Object: result}}
		}
		// Not part of this answer: what the job's result will be.
		inside["jobresult"] = object{"description": "of queryAsyncJobResult, once the job is done", "allOf": []any{result}, "readOnly": true}
	case c.AnswersMany():
		inside["count"] = object{"type": "integer", "description": "rows that there are, on all pages"}
		inside[c.Object] = object{"type": "array", "items": d.schema(name(c), x.Response)}
	case c.Object != "":
		inside[c.Object] = d.schema(name(c), x.Response)
	default:
		return envelope(c, d.schema(name(c), x.Response))
	}
	return envelope(c, object{"type": "object", "properties": inside})
}

func envelope(c *api.Command, s object) object {
	return object{"type": "object", "required": []any{c.EnvelopeName()}, "properties": object{c.EnvelopeName(): s}}
}

// name is what a schema of a command's answer is called, if it is not told already.
func name(c *api.Command) string {
	if c.Object != "" {
		return c.Object
	}
	return strings.ToLower(c.Name)
}

// schema refers to the schema of an object with these fields.
func (d *document) schema(name string, list []api.FieldDescription) object {
	properties := object{}
	for _, f := range list {
		var s object
		switch {
		case f.Type == "list" && len(f.Response) > 0:
			s = object{"type": "array", "items": d.schema(name+"."+f.Name, f.Response)}
		case f.Type == "list":
			s = object{"type": "array", "items": object{}}
		case len(f.Response) > 0:
			s = object{"allOf": []any{d.schema(name+"."+f.Name, f.Response)}}
		default:
			s = kind(f.Type)
		}
		s["description"] = f.Description
		properties[f.Name] = s
	}
	whole := object{"type": "object", "properties": properties}
	text, _ := json.Marshal(whole) // maps of texts and numbers: cannot fail
	ref, ok := d.names[string(text)]
	if !ok {
		ref = name
		for n := 2; d.schemas[ref] != nil; n++ {
			ref = fmt.Sprintf("%s-%d", name, n)
		}
		d.names[string(text)], d.schemas[ref] = ref, whole
	}
	return object{"$ref": "#/components/schemas/" + ref}
}
