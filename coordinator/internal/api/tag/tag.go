// Package tag holds the commands of tags: pairs of texts at resources. That lists filter by them and answers show them
// is package api's, for all resources at once; that a tag goes with its resource is the tables'.
package tag

import (
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// kind is a kind of resource that can have tags.
type kind struct {
	name     string   // as resourcetype says it
	entities []string // what parameters call its rows
}

// kinds lists them all; those whose entities the program does not have are refused like unknown ones.
var kinds = []kind{
	{"UserVm", []string{"virtualmachine"}},
	{"Template", []string{"template"}},
	{"ISO", []string{"iso"}},
	{"Volume", []string{"volume"}},
	{"Snapshot", []string{"snapshot"}},
	{"Network", []string{"network"}},
	{"LoadBalancer", []string{"loadbalancerrule"}},
	{"PortForwardingRule", []string{"portforwardingrule"}},
	{"FirewallRule", []string{"firewallrule", "egressfirewallrule"}},
	{"SecurityGroup", []string{"securitygroup"}},
	{"PublicIpAddress", []string{"ipaddress"}},
	{"Project", []string{"project"}},
	{"Vpc", []string{"vpc"}},
	{"NetworkACL", []string{"networkacl"}},
	{"StaticRoute", []string{"staticroute"}},
	{"Zone", []string{"zone"}},
	{"ServiceOffering", []string{"serviceoffering"}},
	{"DiskOffering", []string{"diskoffering"}},
	{"NetworkOffering", []string{"networkoffering"}},
}

// Commands lists the commands of this package.
func Commands() []api.Command {
	return []api.Command{create(), remove(), list(), addDetail(), removeDetail(), listDetails(), detailOptions()}
}

// find reads a resourcetype, in any case.
func find(g *api.Registry, text string) (name string, found []api.Entity, err error) {
	var known []string
	for _, k := range kinds {
		var here []api.Entity
		for _, n := range k.entities {
			if e, ok := g.Entity(n); ok {
				here = append(here, e)
			}
		}
		if len(here) == 0 {
			continue
		}
		if strings.EqualFold(k.name, text) {
			return k.name, here, nil
		}
		known = append(known, k.name)
	}
	return "", nil, cloud.Errorf(cloud.Invalid, "Invalid resource type %q in parameter resourcetype; accepted are %s", text, strings.Join(known, ", "))
}

// resource finds the owner of a resource that the caller may operate on. What nobody owns is the root admins' to tag.
func resource(c *api.Call, entities []api.Entity, id cloud.ID) (api.Owner, error) {
	for _, e := range entities {
		o, ok := e.Lookup(c.Read, id)
		if ok && c.May(o) && (o != api.Owner{} && !o.Account.IsZero() || c.IsRoot()) {
			return o, nil
		}
	}
	return api.Owner{}, api.NoEntity("resourceids", id)
}

// done is the step of commands that do everything in the call.
func done(*store.Tx, *job.State) (job.Outcome, error) { return job.Done(), nil }

// most bounds the tags of one resource, and the resources of one call.
const most = 200

type resourceParams struct {
	Type      string     `api:"resourcetype,required" doc:"kind of the resources: UserVm, Volume, Network, ..."`
	Resources []cloud.ID `api:"resourceids,required" type:"list" doc:"the resources"`
}

func (p *resourceParams) checkResources() error {
	if n := len(p.Resources); n == 0 || n > most {
		return cloud.Errorf(cloud.Invalid, "Parameter resourceids names %d resources; 1 to %d are accepted at once", n, most)
	}
	return nil
}

type createParams struct {
	resourceParams
	Tags     map[string]string `api:"tags,map,required" doc:"the tags: tags[0].key=..&tags[0].value=.."`
	Customer string            `api:"customer" doc:"customer the tags are for"`
}

func create() api.Command {
	return api.Command{
		Name: "createTags", Doc: "Puts tags at resources.", Roles: api.Everyone, Event: "CREATE_TAGS", Entity: "ResourceTag",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *createParams) (*api.Start, error) {
			name, entities, err := find(c.Registry(), p.Type)
			if err != nil {
				return nil, err
			}
			if err := p.checkResources(); err != nil {
				return nil, err
			}
			var owner api.Owner
			for _, id := range p.Resources {
				if owner, err = resource(c, entities, id); err != nil {
					return nil, err
				}
				for _, key := range slices.Sorted(maps.Keys(p.Tags)) {
					if err := put(tx, name, id, key, p.Tags[key], p.Customer, owner); err != nil {
						return nil, err
					}
				}
			}
			return start(c, p.Resources[0], owner, "creating resource tags"), nil
		}),
		Step: done,
	}
}

func start(c *api.Call, resource cloud.ID, owner api.Owner, text string) *api.Start {
	c.Describe(resource, text)
	if owner.Account.IsZero() {
		owner = c.Own()
	}
	c.EventOwner(owner)
	return &api.Start{InstanceID: resource, Owner: owner}
}

func put(tx *store.Tx, kind string, id cloud.ID, key, value, customer string, o api.Owner) error {
	switch {
	case key == "" || value == "":
		return cloud.Errorf(cloud.Invalid, "Value for the key %q of parameter tags is either null or empty", key)
	case len(key) > 255 || len(value) > 255:
		return cloud.Errorf(cloud.Invalid, "A key and a value of parameter tags have at most 255 bytes")
	case tables.Tags.Count(tx, "resource", store.K(id)) >= most:
		return cloud.Errorf(cloud.Invalid, "The %s %s has %d tags already, which is the most", kind, id, most)
	}
	t := &cloud.Tag{
		ID: tx.NewID(), ResourceType: kind, ResourceID: id, Key: key, Value: value, Customer: customer,
		AccountID: o.Account, DomainID: o.Domain, Created: tx.Now(),
	}
	err := tables.Tags.Put(tx, t)
	var taken *store.Conflict
	if errors.As(err, &taken) {
		return cloud.Errorf(cloud.Invalid, "Tag %s already exists for resource type %s with id %s", key, kind, id)
	}
	return err
}

type removeParams struct {
	resourceParams
	Tags map[string]string `api:"tags,map" doc:"tags to take away; a key without a value stands for any value. All when absent"`
}

func remove() api.Command {
	return api.Command{
		Name: "deleteTags", Doc: "Takes tags away from resources.", Roles: api.Everyone, Event: "DELETE_TAGS", Entity: "ResourceTag",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *removeParams) (*api.Start, error) {
			_, entities, err := find(c.Registry(), p.Type)
			if err != nil {
				return nil, err
			}
			if err := p.checkResources(); err != nil {
				return nil, err
			}
			var owner api.Owner
			gone := 0
			for _, id := range p.Resources {
				if owner, err = resource(c, entities, id); err != nil {
					return nil, err
				}
				for t := range tables.Tags.By(tx, "resource", store.K(id)) {
					if want, named := p.Tags[t.Key]; len(p.Tags) > 0 && (!named || want != "" && want != t.Value) {
						continue
					}
					gone++
					if err := tables.Tags.Delete(tx, t.ID); err != nil {
						return nil, err
					}
				}
			}
			if gone == 0 {
				return nil, cloud.Errorf(cloud.Invalid, "Unable to find any tags which conform to specified delete parameters.")
			}
			return start(c, p.Resources[0], owner, "deleting resource tags"), nil
		}),
		Step: done,
	}
}

type listParams struct {
	api.ListParams
	api.OwnedParams
	Key        string   `api:"key" doc:"only tags with this key"`
	Value      string   `api:"value" doc:"only tags with this value"`
	Customer   string   `api:"customer" doc:"only tags for this customer"`
	Type       string   `api:"resourcetype" doc:"only tags of resources of this kind"`
	ResourceID cloud.ID `api:"resourceid" type:"string" doc:"only tags of this resource"`
}

func list() api.Command {
	return api.Command{
		Name: "listTags", Doc: "Lists the tags of resources.", Roles: api.Everyone, Object: "tag",
		Run: api.List(api.Lister[listParams, cloud.Tag, api.Tag]{
			Rows: rows,
			Owner: func(_ *api.Call, t *cloud.Tag) api.Owner {
				return api.Owner{Account: t.AccountID, Domain: t.DomainID}
			},
			Keyword: func(t *cloud.Tag) string { return t.Key + "\n" + t.Value },
			View:    func(c *api.Call, t *cloud.Tag) api.Tag { return api.NewTag(c.Read, t) },
		}),
	}
}

func rows(c *api.Call, p *listParams) (iter.Seq[*cloud.Tag], error) {
	if p.Type != "" {
		name, _, err := find(c.Registry(), p.Type)
		if err != nil {
			return nil, err
		}
		p.Type = name
	}
	all := tables.Tags.By(c.Read, "resource", nil)
	account, one := c.Scope.Account()
	switch {
	case !p.ResourceID.IsZero():
		// Whose it is does not matter where the resource is named: the caller sees it or not.
		if p.AccountName == "" && p.ProjectID == "" && p.DomainID.IsZero() {
			c.Scope = c.AllVisible()
		}
		all = tables.Tags.By(c.Read, "resource", store.K(p.ResourceID))
	case one:
		all = tables.Tags.By(c.Read, "account", store.K(account))
	}
	return func(yield func(*cloud.Tag) bool) {
		for t := range all {
			if p.wants(t) && !yield(t) {
				return
			}
		}
	}, nil
}

func (p *listParams) wants(t *cloud.Tag) bool {
	is := func(want, have string) bool { return want == "" || want == have }
	return is(p.Key, t.Key) && is(p.Value, t.Value) && is(p.Customer, t.Customer) && is(p.Type, t.ResourceType)
}

// Kinds lists the kinds of resources that can have tags in this program, for tests.
func Kinds(g *api.Registry) []string {
	var out []string
	for _, k := range kinds {
		if slices.ContainsFunc(k.entities, func(n string) bool { _, ok := g.Entity(n); return ok }) {
			out = append(out, k.name)
		}
	}
	return out
}
