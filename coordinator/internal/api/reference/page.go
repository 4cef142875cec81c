package reference

import (
	"fmt"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
)

// Index is the name of the page that lists all others.
const Index = "README.md"

// roles in the order of their rights, as pages name them.
var roles = []struct {
	role api.Roles
	name string
}{
	{api.RootAdmin, "root admin"}, {api.ResourceAdmin, "resource admin"}, {api.DomainAdmin, "domain admin"}, {api.User, "user"},
}

// Pages gives the pages in Markdown by file name: one per command, and the index.
func Pages(g *api.Registry) map[string]string {
	out := map[string]string{}
	described := map[string]api.Description{}
	for _, d := range g.Describe(api.Everyone | api.NoLogin) {
		described[d.Name] = d
	}
	var index strings.Builder
	index.WriteString("# API reference\n\n" +
		"Generated from the commands' own definitions. The endpoint is `/client/api`; see [the API](../api.md) for signatures, sessions,\n" +
		"errors and paging. `listApis` answers the same for the caller's role, `/client/api/openapi.json` as OpenAPI 3.1.\n\n" +
		"| command | what it does | job | who |\n|-|-|-|-|\n")
	for _, c := range g.Commands() {
		d := described[c.Name]
		job := ""
		if c.Async() {
			job = "yes"
		}
		fmt.Fprintf(&index, "| [%s](%s.md) | %s | %s | %s |\n", c.Name, c.Name, cell(d.Description), job, who(c))
		out[c.Name+".md"] = page(c, &d)
	}
	out[Index] = index.String()
	return out
}

// who lists the account types that may call a command.
func who(c *api.Command) string {
	if c.Roles&api.NoLogin != 0 {
		return "whoever, without credentials"
	}
	var names []string
	for _, r := range roles {
		if c.Roles&r.role != 0 {
			names = append(names, r.name)
		}
	}
	if len(names) == len(roles) {
		return "everyone"
	}
	return strings.Join(names, ", ")
}

// cell makes a text fit into a table.
func cell(s string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ").Replace(s)
}

func page(c *api.Command, d *api.Description) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s\n\n", c.Name, d.Description)
	fmt.Fprintf(&b, "- Who may call it: %s\n", who(c))
	switch {
	case c.Creates():
		b.WriteString("- Starts a job: the answer has the new object's `id` and a `jobid` for [queryAsyncJobResult](queryAsyncJobResult.md)\n")
	case c.Async():
		b.WriteString("- Starts a job: the answer has a `jobid` for [queryAsyncJobResult](queryAsyncJobResult.md)\n")
	}
	if c.Event != "" {
		fmt.Fprintf(&b, "- Writes events of type `%s`\n", c.Event)
	}
	if d.Since != "" {
		fmt.Fprintf(&b, "- Since %s\n", d.Since)
	}
	b.WriteString("\n## Parameters\n\n")
	if len(d.Params) == 0 {
		b.WriteString("None.\n")
	} else {
		b.WriteString("| name | type | required | what it is |\n|-|-|-|-|\n")
		for _, p := range d.Params {
			required, text := "", cell(p.Description)
			if p.Required {
				required = "yes"
			}
			if p.Related != "" {
				text += fmt.Sprintf(" ([%s](%s.md))", p.Related, p.Related)
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", p.Name, p.Type, required, text)
		}
	}
	b.WriteString("\n## Answer\n\n")
	fmt.Fprintf(&b, "Envelope `%s`", c.EnvelopeName())
	if c.Object != "" {
		fmt.Fprintf(&b, ", object `%s`", c.Object)
	}
	b.WriteString(".\n\n| field | type | what it tells |\n|-|-|-|\n")
	fields(&b, "", d.Response)
	return b.String()
}

// fields writes rows, those of objects in objects with their path.
func fields(b *strings.Builder, prefix string, list []api.FieldDescription) {
	for _, f := range list {
		fmt.Fprintf(b, "| `%s%s` | %s | %s |\n", prefix, f.Name, f.Type, cell(f.Description))
		fields(b, prefix+f.Name+".", f.Response)
	}
}
