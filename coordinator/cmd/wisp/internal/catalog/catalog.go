// Package catalog knows the commands of a cloud, as its listApis tells them. They are kept in a file, because tab
// completion cannot wait for half a megabyte at each key.
package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Catalog is what one user may call in one cloud.
type Catalog struct {
	Commands []Command `json:"api"`
	byName   map[string]*Command
}

// Command is one command.
type Command struct {
	Name        string      `json:"name"`
	Description string      `json:"description"`
	Async       bool        `json:"isasync"`
	Params      []Parameter `json:"params"`
	Response    []Field     `json:"response"`
}

// Parameter is one parameter of a command.
type Parameter struct {
	Name        string `json:"name"`
	Type        string `json:"type"`
	Required    bool   `json:"required"`
	Description string `json:"description"`
	Related     string `json:"related"`
}

// Field is one field of an answer.
type Field struct {
	Name string `json:"name"`
}

// Parse reads the object that listApis answers.
func Parse(b []byte) (*Catalog, error) {
	c := &Catalog{}
	if err := json.Unmarshal(b, c); err != nil {
		return nil, fmt.Errorf("read the list of commands: %w", err)
	}
	slices.SortFunc(c.Commands, func(a, b Command) int { return strings.Compare(a.Name, b.Name) })
	c.byName = make(map[string]*Command, len(c.Commands))
	for i := range c.Commands {
		c.byName[strings.ToLower(c.Commands[i].Name)] = &c.Commands[i]
	}
	return c, nil
}

// Find finds a command by its name in any case.
func (c *Catalog) Find(name string) *Command { return c.byName[strings.ToLower(name)] }

// Match finds the command that the first words name: "list virtualmachines", or "listVirtualMachines". rest is what
// follows; nil where no words do.
func (c *Catalog) Match(words []string) (cmd *Command, rest []string) {
	joined := ""
	for i, w := range words {
		if strings.Contains(w, "=") || i == 4 {
			break
		}
		joined += w
		if x := c.Find(joined); x != nil {
			return x, words[i+1:]
		}
	}
	return nil, nil
}

// Verb is the first word of a command's name: its lower-case beginning.
func Verb(name string) string {
	i := strings.IndexFunc(name, func(r rune) bool { return r >= 'A' && r <= 'Z' })
	if i < 0 {
		return name
	}
	return name[:i]
}

// Verbs lists all verbs.
func (c *Catalog) Verbs() []string {
	var out []string
	for _, x := range c.Commands {
		out = append(out, Verb(x.Name))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Nouns lists what a verb goes with, in lower case, and each command's description.
func (c *Catalog) Nouns(verb string) (nouns, about []string) {
	for _, x := range c.Commands {
		if v := Verb(x.Name); strings.EqualFold(v, verb) && len(x.Name) > len(v) {
			nouns = append(nouns, strings.ToLower(x.Name[len(v):]))
			about = append(about, x.Description)
		}
	}
	return nouns, about
}

// Like suggests commands for words that name none: those of the same verb or with the same noun.
func (c *Catalog) Like(words []string) []string {
	typed := strings.ToLower(strings.Join(words, ""))
	type near struct {
		name string
		far  int
	}
	var all []near
	for _, x := range c.Commands {
		if d := distance(typed, strings.ToLower(x.Name)); d <= max(2, len(typed)/4) {
			all = append(all, near{x.Name, d})
		}
	}
	slices.SortStableFunc(all, func(a, b near) int { return a.far - b.far })
	var out []string
	for i := range min(5, len(all)) {
		out = append(out, all[i].name)
	}
	return out
}

// distance is Levenshtein's: how many letters have to be changed, added or taken away.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next := min(row[j]+1, row[j+1]+1, before+cost)
			before, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}

// Parameter finds a parameter by its name; name[0].key is found as name.
func (c *Command) Parameter(name string) *Parameter {
	name, _, _ = strings.Cut(strings.ToLower(name), "[")
	for i := range c.Params {
		if strings.EqualFold(c.Params[i].Name, name) {
			return &c.Params[i]
		}
	}
	return nil
}

// Check tells what is wrong with the parameters of a call before it is made.
func (c *Command) Check(params map[string]string) error {
	for name := range params {
		if c.Parameter(name) == nil {
			var known []string
			for _, p := range c.Params {
				if distance(strings.ToLower(name), p.Name) <= 2 || strings.Contains(p.Name, strings.ToLower(name)) {
					known = append(known, p.Name)
				}
			}
			hint := "; see wisp describe " + c.Name
			if len(known) > 0 {
				hint = "; did you mean " + strings.Join(known, ", ") + "?"
			}
			return fmt.Errorf("%s has no parameter %q%s", c.Name, name, hint)
		}
	}
	var missing []string
	for _, p := range c.Params {
		given := func(k string) bool { x := c.Parameter(k); return x != nil && x.Name == p.Name && params[k] != "" }
		if p.Required && !slices.ContainsFunc(keys(params), given) {
			missing = append(missing, p.Name+" ("+p.Description+")")
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s needs %s", c.Name, strings.Join(missing, ", "))
	}
	return nil
}

// Unknown lists the columns that no row of the command's answers has, each with what may have been meant.
func (c *Command) Unknown(columns []string) (out []string) {
	for _, column := range columns {
		var near []string
		known := false
		for _, f := range c.Response {
			known = known || f.Name == column
			if distance(strings.ToLower(column), f.Name) <= 2 {
				near = append(near, f.Name)
			}
		}
		switch {
		case known || len(c.Response) == 0:
		case len(near) > 0:
			out = append(out, fmt.Sprintf("%s (did you mean %s?)", column, strings.Join(near, ", ")))
		default:
			out = append(out, column)
		}
	}
	return out
}

func keys(m map[string]string) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	return out
}

// Cache keeps catalogs in a directory, a file per endpoint and user.
type Cache struct{ Dir string }

// fresh is how long a kept catalog is believed.
const fresh = 24 * time.Hour

func (c Cache) path(endpoint, user string) string {
	sum := sha256.Sum256([]byte(endpoint + "\x00" + user))
	return filepath.Join(c.Dir, "apis-"+hex.EncodeToString(sum[:8])+".json")
}

// Load reads a kept catalog; nil where there is none, or an old one.
func (c Cache) Load(endpoint, user string, now time.Time) *Catalog {
	path := c.path(endpoint, user)
	st, err := os.Stat(path)
	if err != nil || now.Sub(st.ModTime()) > fresh {
		return nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	parsed, err := Parse(b)
	if err != nil || len(parsed.Commands) == 0 {
		return nil
	}
	return parsed
}

// Save keeps what listApis answered. An error costs time at the next call, nothing else.
func (c Cache) Save(endpoint, user string, answer []byte) error {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return fmt.Errorf("keep the list of commands: %w", err)
	}
	tmp, err := os.CreateTemp(c.Dir, ".apis-*")
	if err != nil {
		return fmt.Errorf("keep the list of commands: %w", err)
	}
	_, err = tmp.Write(answer)
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), c.path(endpoint, user))
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return fmt.Errorf("keep the list of commands: %w", err)
	}
	return nil
}
