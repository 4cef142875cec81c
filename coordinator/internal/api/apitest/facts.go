package apitest

import (
	_ "embed" // the facts
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
)

//go:embed testdata/commands-4.1.txt
var commands41 string

//go:embed testdata/commands-4.22.txt
var commands422 string

//go:embed testdata/responses-4.22.txt
var responses422 string

//go:embed testdata/responses-4.1.txt
var responses41 string

//go:embed testdata/answers-4.1.txt
var answers41 string

// Fact is what 4.1 says of a command.
type Fact struct {
	Name, Kind, Roles, Envelope string
	Params                      map[string]FactParam
}

// FactParam is a parameter of 4.1.
type FactParam struct {
	Type     string
	Required bool
}

// Facts lists the commands of 4.1.
func Facts() map[string]Fact {
	out := map[string]Fact{}
	for _, f := range records(commands41) {
		c := Fact{Name: f[0], Kind: f[1], Roles: f[2], Envelope: f[3], Params: map[string]FactParam{}}
		for _, p := range f[4:] {
			name, t, _ := strings.Cut(p, "=")
			t, _, _ = strings.Cut(t, "*")
			kind, required := strings.CutSuffix(t, "!")
			c.Params[name] = FactParam{kind, required}
		}
		out[c.Name] = c
	}
	return out
}

func records(text string) (out [][]string) {
	for _, l := range strings.Split(text, "\n") {
		if l != "" && !strings.HasPrefix(l, "#") {
			out = append(out, strings.Fields(l))
		}
	}
	return out
}

// sdk is how the Go SDK of 4.22 decodes.
type sdk struct {
	answers map[string]string            // command -> type
	async   map[string]bool              //
	types   map[string]map[string]string // type -> field -> type
}

func loadSDK() sdk {
	s := sdk{answers: map[string]string{}, async: map[string]bool{}, types: map[string]map[string]string{}}
	for _, f := range records(commands422) {
		s.answers[f[0]], s.async[f[0]] = f[2], f[1] == "async"
	}
	for _, f := range records(responses422) {
		fields := map[string]string{}
		for _, p := range f[1:] {
			name, t, _ := strings.Cut(p, "=")
			fields[strings.ToLower(name)] = t // as encoding/json finds fields
		}
		s.types[f[0]] = fields
	}
	return s
}

// CheckSDK fails the test unless today's Go SDK can decode an answer of command: a.Object as the envelope's content,
// or, of an asynchronous command, as the jobresult. It says nothing of commands the SDK does not have.
func (c *Cloud) CheckSDK(command string, a *Answer) {
	c.t.Helper()
	bad, _ := DecodeSDK(command, a.Object)
	for _, e := range bad {
		c.t.Errorf("%s: the SDK cannot decode the answer: %s\n%s", command, e, a.Raw)
	}
}

// undecodable are answers that the SDK takes for something else than every server of CloudStack gives: the list of counts
// stands under the name of the count, and health checks are objects, not texts.
var undecodable = map[string]bool{"updateResourceCount": true, "getRouterHealthCheckResults": true}

// DecodeSDK lists what the SDK would stumble over, and the fields that it does not know and so loses, as "Type.field".
func DecodeSDK(command string, object map[string]any) (bad, lost []string) {
	s := loadSDK()
	t, ok := s.answers[command]
	if !ok || undecodable[command] {
		return nil, nil
	}
	fields := s.types[t]
	// The SDK unwraps one level where the envelope holds one object.
	if len(object) == 1 {
		for k, v := range object {
			inner, isObject := v.(map[string]any)
			// An object under the name of a scalar field is the wrapping: {"vlan":{"vlan":"untagged",...}}.
			want, known := fields[strings.ToLower(k)]
			known = known && !(isObject && scalar[want])
			if isObject && !known {
				object = inner
			}
			if l, isList := v.([]any); isList && !known && len(l) == 1 {
				object, _ = l[0].(map[string]any)
			}
		}
	}
	unknown := map[string]bool{}
	bad = s.object(t, object, t, unknown)
	return bad, slices.Sorted(maps.Keys(unknown))
}

// scalar are the SDK's field types that no object can be.
var scalar = map[string]bool{"string": true, "uuid": true, "boolean": true, "integer": true, "int64": true, "float": true, "float64": true}

func (s sdk) object(t string, v map[string]any, at string, lost map[string]bool) (bad []string) {
	for name, x := range v {
		want, ok := s.types[t][strings.ToLower(name)]
		if !ok {
			lost[t+"."+name] = true
		} else if x != nil {
			bad = append(bad, s.value(want, x, at+"."+name, lost)...)
		}
	}
	return bad
}

func (s sdk) value(want string, x any, at string, lost map[string]bool) []string {
	wrong := func() []string { return []string{fmt.Sprintf("%s is %T %v, not %s", at, x, x, want)} }
	if elem, ok := strings.CutPrefix(want, "[]"); ok {
		l, ok := x.([]any)
		if !ok {
			return wrong()
		}
		var bad []string
		for _, e := range l {
			bad = append(bad, s.value(elem, e, at+"[]", lost)...)
		}
		return bad
	}
	ok := true
	switch want {
	case "string", "uuid":
		_, ok = x.(string)
		if n, isNumber := x.(float64); isNumber && (at[strings.LastIndexByte(at, '.'):] == ".id" || want == "uuid") {
			ok = n == float64(int64(n))
		}
	case "boolean":
		_, ok = x.(bool)
		if text, isText := x.(string); isText && strings.HasSuffix(at, "Response.success") {
			ok = text == "true" || text == "false"
		}
	case "integer", "int64":
		n, isNumber := x.(float64)
		ok = isNumber && n == float64(int64(n))
	case "float", "float64":
		_, ok = x.(float64)
	case "map", "map[string]string", "map[string]any":
		_, ok = x.(map[string]any)
	case "any", "json.RawMessage":
	default:
		m, isObject := x.(map[string]any)
		if !isObject {
			return wrong()
		}
		return s.object(want, m, at, lost)
	}
	if !ok {
		return wrong()
	}
	return nil
}

// letters are roles as the facts write them.
func letters(r api.Roles) string {
	var b strings.Builder
	for _, x := range []struct {
		role   api.Roles
		letter byte
	}{{api.RootAdmin, 'r'}, {api.ResourceAdmin, 'd'}, {api.DomainAdmin, 'a'}, {api.User, 'u'}} {
		if r&x.role != 0 {
			b.WriteByte(x.letter)
		}
	}
	return b.String()
}

// CheckFacts compares the registered commands with what 4.1 says: every command of it keeps its kind, its roles and, of
// the parameters it shares, type and required. Of allow, "command" lets roles differ and "command.parameter" a parameter.
func CheckFacts(g *api.Registry, allow map[string]bool) (bad []string) {
	facts := Facts()
	for _, d := range g.Describe(api.Everyone) {
		f, ok := facts[d.Name]
		if !ok {
			continue
		}
		cmd, _ := g.Find(d.Name)
		if (f.Kind != "sync") != cmd.Async() || (f.Kind == "async-create") != cmd.Creates() {
			bad = append(bad, fmt.Sprintf("%s: 4.1 has it %s", d.Name, f.Kind))
		}
		if got := letters(cmd.Roles); got != f.Roles && f.Roles != "-" && !allow[d.Name] {
			bad = append(bad, fmt.Sprintf("%s: roles %s are %s in 4.1", d.Name, got, f.Roles))
		}
		have := map[string]bool{}
		for _, p := range d.Params {
			have[p.Name] = true
			want, ok := f.Params[p.Name]
			if !ok || allow[d.Name+"."+p.Name] {
				continue
			}
			if want.Required != p.Required {
				bad = append(bad, fmt.Sprintf("%s.%s: required is %v in 4.1", d.Name, p.Name, want.Required))
			}
			if want.Type != p.Type {
				bad = append(bad, fmt.Sprintf("%s.%s: type %s is %s in 4.1", d.Name, p.Name, p.Type, want.Type))
			}
		}
		for name, p := range f.Params {
			if p.Required && !have[name] && !allow[d.Name+"."+name] {
				bad = append(bad, fmt.Sprintf("%s.%s: required in 4.1, and not there", d.Name, name))
			}
		}
	}
	return bad
}

// SDKCommands names the commands that today's SDK has.
func SDKCommands() (names []string) {
	for _, f := range records(commands422) {
		names = append(names, f[0])
	}
	return names
}

// Missing41 lists the parameters and the answer's fields of 4.1 that a command of the registry has not: as
// "command.parameter", and "command -> Object.field" where Object is 4.1's name of the answer. That answers can have
// jobid and jobstatus is so in 4.1 by the way its classes are made, and nothing a client could look for.
func Missing41(g *api.Registry) (missing []string) {
	facts, fields, answers := Facts(), map[string][]string{}, map[string]string{}
	for _, f := range records(responses41) {
		for _, x := range f[1:] {
			name, _, _ := strings.Cut(x, "=")
			fields[f[0]] = append(fields[f[0]], name)
		}
	}
	for _, f := range records(answers41) {
		answers[f[0]] = f[1]
	}
	for _, d := range g.Describe(api.Everyone) {
		have := map[string]bool{}
		for _, p := range d.Params {
			have[p.Name] = true
		}
		for _, name := range slices.Sorted(maps.Keys(facts[d.Name].Params)) {
			if !have[name] {
				missing = append(missing, d.Name+"."+name)
			}
		}
		told := map[string]bool{}
		for _, f := range d.Response {
			told[f.Name] = true
		}
		for _, name := range fields[answers[d.Name]] {
			if !told[name] {
				missing = append(missing, d.Name+" -> "+answers[d.Name]+"."+name)
			}
		}
	}
	return missing
}
