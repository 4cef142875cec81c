package api

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// Roles is the set of account types that may call a command.
type Roles uint8

// Roles. NoLogin is for the commands that log in: they are called without credentials and are not in listApis.
const (
	RootAdmin Roles = 1 << iota
	ResourceAdmin
	DomainAdmin
	User
	NoLogin

	Everyone  = RootAdmin | ResourceAdmin | DomainAdmin | User
	AdminOnly = RootAdmin
	Admins    = RootAdmin | ResourceAdmin | DomainAdmin
)

// RoleOf is the role of an account type; types that nobody logs in with have none.
func RoleOf(t cloud.AccountType) Roles {
	switch t {
	case cloud.UserAccount:
		return User
	case cloud.RootAdminAccount:
		return RootAdmin
	case cloud.DomainAdminAccount:
		return DomainAdmin
	case cloud.ResourceDomainAdminAccount:
		return ResourceAdmin
	}
	return 0
}

// Command is one API command: everything about it stands in one literal.
type Command struct {
	Name  string // "deployVirtualMachine"
	Doc   string // one sentence in our own words
	Since string // version it appeared in, when after 4.1
	Roles Roles
	// Event is the type of the events it writes, as "VM.CREATE"; "" for commands that change nothing or are too chatty.
	Event string
	// Entity is what it works on, as jobs and events name it: "VirtualMachine".
	Entity string
	// Envelope is the top-level key of the answer where that is not the lower-case name + "response".
	Envelope string
	// Object is the key of the object (or of the list) inside the envelope: "virtualmachine". Empty: the answer's
	// fields stand in the envelope directly.
	Object string
	// Run is made by Query, List, Change, Delete, Async, AsyncCreate or Raw.
	Run Handler
	// Step moves a job of the command on; asynchronous commands only. See package job.
	Step job.Step
	// Result gives the object that queryAsyncJobResult shows under Object when a job is done: an answer struct. nil
	// stands for {"success":true}. It runs in the transaction that finishes the job.
	Result func(r store.Reader, c *ResultContext, j *cloud.Job) (any, error)
	// Answer is the type of Result's answer struct, for listApis: reflect.TypeFor[View](). nil: success.
	Answer reflect.Type
}

// envelope is the answer's top-level key.
func (c *Command) envelope() string {
	if c.Envelope != "" {
		return c.Envelope
	}
	return strings.ToLower(c.Name) + "response"
}

// EnvelopeName is the top-level key of the answer.
func (c *Command) EnvelopeName() string { return c.envelope() }

// AnswerType is the struct that the command answers, or its job; nil where it has none.
func (c *Command) AnswerType() reflect.Type {
	if c.Async() {
		return c.Answer
	}
	return c.Run.answer
}

// Lists tells whether the command answers a list.
func (c *Command) Lists() bool { return c.Run.kind == list }

// AnswersMany tells whether the answer is an array of objects and a count, as those of lists, and of some that change.
func (c *Command) AnswersMany() bool { return c.Run.many }

// Async tells whether calls of the command start a job.
func (c *Command) Async() bool { return c.Run.kind == async || c.Run.kind == asyncCreate }

// Changes tells whether calls of the command write rows.
func (c *Command) Changes() bool { return c.Async() || c.Run.kind == change }

// Creates tells whether the answer to an asynchronous call names the new object.
func (c *Command) Creates() bool { return c.Run.kind == asyncCreate }

// check finds mistakes in a literal.
func (c *Command) check(entities map[string]Entity) error {
	switch {
	case c.Name == "" || c.Doc == "":
		return fmt.Errorf("command %q needs a name and a doc", c.Name)
	case c.Run.kind == 0:
		return fmt.Errorf("command %s has no handler", c.Name)
	case c.Roles == 0:
		return fmt.Errorf("command %s has no roles", c.Name)
	case c.Async() != (c.Step != nil):
		return fmt.Errorf("command %s: exactly the asynchronous commands have a step", c.Name)
	case c.Async() && c.Entity == "":
		return fmt.Errorf("command %s: a job needs the name of its entity", c.Name)
	case c.Result != nil && c.Object == "":
		return fmt.Errorf("command %s: a job result needs the key of its object", c.Name)
	case (c.Result != nil) != (c.Answer != nil):
		return fmt.Errorf("command %s: a job result and its type for listApis go together", c.Name)
	case c.Run.kind == list && c.Object == "":
		return fmt.Errorf("command %s: a list needs the key of its rows", c.Name)
	}
	plan, err := planOf(c.Run.params)
	if err != nil {
		return fmt.Errorf("command %s: %w", c.Name, err)
	}
	for _, f := range plan.all() {
		if f.ref != "" {
			if _, ok := entities[f.ref]; !ok {
				return fmt.Errorf("command %s: parameter %s refers to the unknown entity %q", c.Name, f.name, f.ref)
			}
		}
	}
	for _, t := range []reflect.Type{c.Run.answer, c.Answer} {
		if _, err := encoderOf(t); err != nil {
			return fmt.Errorf("command %s: %w", c.Name, err)
		}
	}
	if c.Async() && c.Answer == nil {
		c.Answer = reflect.TypeFor[JobSuccess]()
	}
	return nil
}

// Registry is the list of all commands and entities.
type Registry struct {
	commands []*Command
	byName   map[string]*Command
	entities map[string]Entity
}

// NewRegistry composes the commands of all packages and checks every literal.
func NewRegistry(commands []Command, entities []Entity) (*Registry, error) {
	g := &Registry{byName: map[string]*Command{}, entities: map[string]Entity{}}
	for _, e := range entities {
		if _, dup := g.entities[e.Name]; dup || e.Name == "" || e.Lookup == nil {
			return nil, fmt.Errorf("entity %q is incomplete or registered twice", e.Name)
		}
		g.entities[e.Name] = e
	}
	for i := range commands {
		c := &commands[i]
		if g.byName[strings.ToLower(c.Name)] != nil {
			return nil, fmt.Errorf("command %s is registered twice", c.Name)
		}
		if err := c.check(g.entities); err != nil {
			return nil, err
		}
		g.byName[strings.ToLower(c.Name)] = c
		g.commands = append(g.commands, c)
	}
	slices.SortFunc(g.commands, func(a, b *Command) int { return strings.Compare(a.Name, b.Name) })
	return g, nil
}

// Commands lists all commands by name.
func (g *Registry) Commands() []*Command { return g.commands }

// Find finds a command. Names are matched in any case: clients that take what a person typed exist.
func (g *Registry) Find(name string) (*Command, bool) {
	c, ok := g.byName[strings.ToLower(name)]
	return c, ok
}
