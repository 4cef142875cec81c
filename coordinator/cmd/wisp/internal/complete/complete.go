// Package complete tells what may follow the words typed so far: verbs, nouns, parameters, and values, ids of what is
// in the cloud right now among them.
package complete

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/wispcloud/wisp/coordinator/cmd/wisp/internal/catalog"
	"github.com/wispcloud/wisp/coordinator/cmd/wisp/internal/client"
)

// Candidate is one possible word.
type Candidate struct {
	Word  string
	About string // a few words for people; may be empty
}

// Completer completes calls of one cloud.
type Completer struct {
	Catalog *catalog.Catalog
	// Call asks the cloud; an error is no candidate.
	Call func(ctx context.Context, command string, params map[string]string) (client.Object, error)
}

// Words lists what the last word, of which begun is typed, may become after the words before it.
func (c Completer) Words(ctx context.Context, before []string, begun string) []Candidate {
	cmd, rest := c.Catalog.Match(before)
	switch {
	case cmd != nil:
		return matching(c.parameters(ctx, cmd, rest, begun), begun)
	case len(before) == 0:
		var out []Candidate
		for _, v := range c.Catalog.Verbs() {
			out = append(out, Candidate{Word: v})
		}
		if out = matching(out, begun); len(out) > 0 || begun == "" {
			return out
		}
		for _, x := range c.Catalog.Commands {
			out = append(out, Candidate{x.Name, x.Description})
		}
		return matching(out, begun)
	case len(before) == 1:
		var out []Candidate
		nouns, about := c.Catalog.Nouns(before[0])
		for i, n := range nouns {
			out = append(out, Candidate{n, about[i]})
		}
		return matching(out, begun)
	}
	return nil
}

func matching(all []Candidate, begun string) []Candidate {
	return slices.DeleteFunc(all, func(c Candidate) bool {
		return len(c.Word) < len(begun) || !strings.EqualFold(c.Word[:len(begun)], begun)
	})
}

func (c Completer) parameters(ctx context.Context, cmd *catalog.Command, given []string, begun string) []Candidate {
	if name, value, ok := strings.Cut(begun, "="); ok {
		var out []Candidate
		for _, v := range c.values(ctx, cmd, name, given, value) {
			out = append(out, Candidate{name + "=" + v.Word, v.About})
		}
		return out
	}
	var out []Candidate
	for _, p := range cmd.Params {
		if slices.ContainsFunc(given, func(g string) bool { return strings.HasPrefix(strings.ToLower(g), p.Name+"=") }) {
			continue
		}
		about := p.Description
		if p.Required {
			about = "(needed) " + about
		}
		out = append(out, Candidate{p.Name + "=", about})
	}
	return out
}

// mostIDs bounds how many rows are asked for.
const mostIDs = "200"

// values are what a parameter may be: ids of the rows that its list command shows, with their names.
func (c Completer) values(ctx context.Context, cmd *catalog.Command, name string, given []string, begun string) []Candidate {
	p := cmd.Parameter(name)
	switch {
	case p == nil:
		return nil
	case p.Type == "boolean":
		return []Candidate{{"true", ""}, {"false", ""}}
	case p.Name == "templatefilter" || p.Name == "isofilter":
		var out []Candidate
		for _, f := range []string{"featured", "self", "selfexecutable", "sharedexecutable", "executable", "community", "all"} {
			out = append(out, Candidate{Word: f})
		}
		return out
	}
	lister := c.lister(cmd, p)
	if lister == nil {
		return nil
	}
	params := map[string]string{}
	for k, v := range map[string]string{"page": "1", "pagesize": mostIDs, "listall": "true", "templatefilter": "executable", "isofilter": "executable"} {
		if lister.Parameter(k) != nil {
			params[k] = v
		}
	}
	// What was chosen before narrows what can be chosen now: networks of the zone, say.
	for _, g := range given {
		if k, v, ok := strings.Cut(g, "="); ok && (k == "zoneid" || k == "projectid") && lister.Parameter(k) != nil {
			params[k] = v
		}
	}
	if lister.Check(params) != nil {
		return nil // it needs something that is not known here
	}
	answer, err := c.Call(ctx, lister.Name, params)
	if err != nil {
		return nil
	}
	// Of a list only the last item is being typed.
	done := ""
	if p.Type == "list" {
		done = begun[:strings.LastIndex(begun, ",")+1]
	}
	var out []Candidate
	for k, v := range answer {
		rows, ok := v.([]any)
		if !ok || k == "count" {
			continue
		}
		for _, r := range rows {
			m, ok := r.(map[string]any)
			if !ok {
				continue
			}
			o := client.Object(m)
			word := o.Text("id")
			if p.Name == "name" || p.Name == "keypair" || p.Name == "account" {
				word = o.Text("name")
			}
			if word != "" {
				out = append(out, Candidate{done + word, cmp.Or(o.Text("displayname"), o.Text("name"), o.Text("username"), o.Text("ipaddress"))})
			}
		}
	}
	return out
}

// lister is the command that lists what a parameter may name: the one that listApis relates to it, or for id the list
// command of the command's own noun.
func (c Completer) lister(cmd *catalog.Command, p *catalog.Parameter) *catalog.Command {
	first, _, _ := strings.Cut(p.Related, ",")
	if x := c.Catalog.Find(first); x != nil && strings.HasPrefix(x.Name, "list") {
		return x
	}
	var noun string
	switch {
	case p.Name == "id" || p.Name == "ids":
		noun = strings.ToLower(cmd.Name[len(catalog.Verb(cmd.Name)):])
	case p.Name == "keypair":
		noun = "sshkeypair"
	case p.Name == "account":
		noun = "account"
	case p.Name == "name" && catalog.Verb(cmd.Name) != "create":
		noun = strings.ToLower(cmd.Name[len(catalog.Verb(cmd.Name)):])
	case strings.HasSuffix(p.Name, "id") && p.Type == "uuid":
		noun = strings.TrimSuffix(p.Name, "id")
	default:
		return nil
	}
	noun = strings.TrimSuffix(noun, "s")
	for _, plural := range []string{"s", "es", ""} {
		if x := c.Catalog.Find("list" + noun + plural); x != nil {
			return x
		}
	}
	if before, ok := strings.CutSuffix(noun, "y"); ok {
		return c.Catalog.Find("list" + before + "ies")
	}
	return nil
}
