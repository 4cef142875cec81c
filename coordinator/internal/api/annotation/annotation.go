// Package annotation holds the commands of remarks that users leave at things. A user sees those at what it may operate on,
// unless they are for root admins only; what nobody owns (hosts, pods) is root admins' to remark on. That a remark goes
// with its thing is the tables'.
package annotation

import (
	"iter"
	"slices"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Commands lists the commands of this package.
func Commands() []api.Command { return []api.Command{add(), remove(), list(), show()} }

// Entities lists what this package's rows are called in parameters.
func Entities() []api.Entity {
	return []api.Entity{api.OwnedEntity("annotation", tables.Annotations, author)}
}

func author(a *cloud.Annotation) api.Owner {
	return api.Owner{Account: a.AccountID, Domain: a.DomainID}
}

// kind is a kind of thing that can be remarked on.
type kind struct {
	name   string // as entitytype says it
	entity string // what parameters call its rows
	title  func(r store.Reader, id cloud.ID) string
}

func titled[Row any](name, entity string, t *store.Table[Row], title func(*Row) string) kind {
	return kind{name, entity, func(r store.Reader, id cloud.ID) string {
		if row, ok := t.Get(r, id); ok {
			return title(row)
		}
		return ""
	}}
}

// kinds lists them all; those whose entities the program does not have are refused like unknown ones.
var kinds = []kind{
	titled("VM", "virtualmachine", tables.VMs, func(v *cloud.VM) string { return v.DisplayName }),
	titled("VOLUME", "volume", tables.Volumes, func(v *cloud.Volume) string { return v.Name }),
	titled("INSTANCE_GROUP", "instancegroup", tables.InstanceGroups, func(g *cloud.InstanceGroup) string { return g.Name }),
	titled("SSH_KEYPAIR", "sshkeypair", tables.SSHKeyPairs, func(k *cloud.SSHKeyPair) string { return k.Name }),
	titled("USER_DATA", "userdata", tables.UserDatas, func(u *cloud.UserData) string { return u.Name }),
	titled("NETWORK", "network", tables.Networks, func(n *cloud.Network) string { return n.Name }),
	titled("PUBLIC_IP_ADDRESS", "ipaddress", tables.PublicIPs, func(p *cloud.PublicIP) string { return p.Address.String() }),
	titled("TEMPLATE", "template", tables.Templates, func(t *cloud.Template) string { return t.Name }),
	titled("VR", "router", tables.Routers, func(r *cloud.Router) string { return r.Name }),
	titled("DOMAIN", "domain", tables.Domains, func(d *cloud.Domain) string { return d.Name }),
	titled("SERVICE_OFFERING", "serviceoffering", tables.ServiceOfferings, func(o *cloud.ServiceOffering) string { return o.Name }),
	titled("DISK_OFFERING", "diskoffering", tables.DiskOfferings, func(o *cloud.DiskOffering) string { return o.Name }),
	titled("NETWORK_OFFERING", "networkoffering", tables.NetworkOfferings, func(o *cloud.NetworkOffering) string { return o.Name }),
	titled("ZONE", "zone", tables.Zones, func(z *cloud.Zone) string { return z.Name }),
	titled("POD", "pod", tables.Pods, func(p *cloud.Pod) string { return p.Name }),
	titled("CLUSTER", "cluster", tables.Clusters, func(k *cloud.Cluster) string { return k.Name }),
	titled(infra.HostNote, "host", tables.Hosts, func(h *cloud.Host) string { return h.Name }),
	titled("PRIMARY_STORAGE", "storagepool", tables.StoragePools, func(p *cloud.StoragePool) string { return p.Name }),
	titled("SECONDARY_STORAGE", "imagestore", tables.ImageStores, func(s *cloud.ImageStore) string { return s.Name }),
}

// kindsOf reads an entitytype, in any case; "" stands for all that the program has.
func kindsOf(g *api.Registry, text string) ([]kind, error) {
	var here []kind
	var known []string
	for _, k := range kinds {
		if _, ok := g.Entity(k.entity); !ok {
			continue
		}
		if text == "" || strings.EqualFold(k.name, text) {
			here = append(here, k)
		}
		known = append(known, k.name)
	}
	if len(here) == 0 {
		return nil, cloud.Errorf(cloud.Invalid, "Invalid entity type %q in parameter entitytype; accepted are %s", text, strings.Join(known, ", "))
	}
	return here, nil
}

// find finds the thing that an id means, among some kinds.
func find(c *api.Call, among []kind, id cloud.ID) (kind, error) {
	for _, k := range among {
		if c.MayRemark(k.entity, id) {
			return k, nil
		}
	}
	return kind{}, api.NoEntity("entityid", id)
}

// Answer is a remark as clients see it.
type Answer struct {
	ID         cloud.ID `json:"id" doc:"the remark"`
	EntityType string   `json:"entitytype" doc:"kind of what it is about"`
	EntityID   cloud.ID `json:"entityid" doc:"what it is about"`
	EntityName string   `json:"entityname,omitempty" doc:"name of that"`
	Annotation string   `json:"annotation" doc:"the text"`
	UserID     cloud.ID `json:"userid" doc:"who left it"`
	Username   string   `json:"username" doc:"name of that user"`
	AdminsOnly bool     `json:"adminsonly" doc:"whether only root admins see it"`
	Created    api.Time `json:"created" doc:"when it was left"`
}

func view(c *api.Call, a *cloud.Annotation) Answer {
	v := Answer{
		ID: a.ID, EntityType: a.EntityType, EntityID: a.EntityID, Annotation: a.Text, UserID: a.UserID, Username: a.Username,
		AdminsOnly: a.AdminsOnly, Created: api.Time(a.Created),
	}
	for _, k := range kinds {
		if k.name == a.EntityType {
			v.EntityName = k.title(c.Read, a.EntityID)
		}
	}
	return v
}

type addParams struct {
	Type       string   `api:"entitytype,required" doc:"kind of the thing: VM, VOLUME, NETWORK, HOST, ..."`
	Entity     cloud.ID `api:"entityid,required" doc:"the thing"`
	Text       string   `api:"annotation,required" len:"4096" doc:"the text"`
	AdminsOnly bool     `api:"adminsonly" since:"4.16" doc:"whether only root admins see it; theirs to say"`
}

func add() api.Command {
	return api.Command{
		Name: "addAnnotation", Doc: "Leaves a remark at something.", Since: "4.11", Roles: api.Everyone, Event: "ANNOTATION.CREATE",
		Entity: "Annotation", Object: "annotation",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *addParams) (Answer, error) {
			among, err := kindsOf(c.Registry(), p.Type)
			if err != nil {
				return Answer{}, err
			}
			k, err := find(c, among, p.Entity)
			if err != nil {
				return Answer{}, err
			}
			if p.AdminsOnly && !c.IsRoot() {
				return Answer{}, cloud.Errorf(cloud.Denied, "Only root admins may leave remarks for themselves alone (parameter adminsonly)")
			}
			a, err := infra.Annotate(tx, c.User, k.name, p.Entity, p.Text, p.AdminsOnly)
			if err != nil {
				return Answer{}, err
			}
			c.Describe(p.Entity, "adding a remark to "+k.name+" "+p.Entity.String())
			return view(c, a), nil
		}),
	}
}

type idParams struct {
	ID cloud.ID `api:"id,required" ref:"annotation" doc:"the remark"`
}

func remove() api.Command {
	return api.Command{
		Name: "removeAnnotation", Doc: "Removes a remark: one's own, or as an admin of its author's domain.", Since: "4.11", Roles: api.Everyone,
		Event: "ANNOTATION.REMOVE", Entity: "Annotation", Object: "annotation",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *idParams) (Answer, error) {
			a, ok := tables.Annotations.Get(tx, p.ID)
			if !ok {
				return Answer{}, api.NoEntity("id", p.ID)
			}
			c.Describe(a.EntityID, "removing a remark from "+a.EntityType+" "+a.EntityID.String())
			return view(c, a), tables.Annotations.Delete(tx, p.ID)
		}),
	}
}

type showParams struct {
	ID         cloud.ID `api:"id,required" ref:"annotation" doc:"the remark"`
	AdminsOnly bool     `api:"adminsonly,required" doc:"whether only root admins see it"`
}

func show() api.Command {
	return api.Command{
		Name: "updateAnnotationVisibility", Doc: "Says who sees a remark.", Since: "4.16", Roles: api.AdminOnly, Event: "ANNOTATION.UPDATE",
		Entity: "Annotation", Object: "annotation",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *showParams) (Answer, error) {
			a, ok := tables.Annotations.Get(tx, p.ID)
			if !ok {
				return Answer{}, api.NoEntity("id", p.ID)
			}
			a.AdminsOnly = p.AdminsOnly
			c.Describe(a.EntityID, "changing who sees a remark at "+a.EntityType+" "+a.EntityID.String())
			return view(c, a), tables.Annotations.Put(tx, a)
		}),
	}
}

type listParams struct {
	api.ListParams
	ID     cloud.ID `api:"id" doc:"this remark only"`
	Type   string   `api:"entitytype" doc:"remarks at things of this kind"`
	Entity cloud.ID `api:"entityid" doc:"remarks at this thing"`
	UserID cloud.ID `api:"userid" since:"4.16" doc:"remarks of this user"`
	Filter string   `api:"annotationfilter" since:"4.16" enum:"all,self" doc:"all (the default), or self: one's own"`
}

func list() api.Command {
	return api.Command{
		Name: "listAnnotations", Doc: "Lists remarks at what the caller may operate on.", Since: "4.11", Roles: api.Everyone, Object: "annotation",
		Run: api.List(api.Lister[listParams, cloud.Annotation, Answer]{
			Rows: rows,
			Visible: func(c *api.Call, a *cloud.Annotation) bool {
				if a.AdminsOnly && !c.IsRoot() {
					return false
				}
				i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == a.EntityType })
				return i >= 0 && c.MayRemark(kinds[i].entity, a.EntityID)
			},
			Keyword: func(a *cloud.Annotation) string { return a.Text },
			Less:    func(a, b *cloud.Annotation) int { return b.Created.Compare(a.Created) },
			View:    view,
		}),
	}
}

func rows(c *api.Call, p *listParams) (iter.Seq[*cloud.Annotation], error) {
	among, err := kindsOf(c.Registry(), p.Type)
	if err != nil {
		return nil, err
	}
	all := tables.Annotations.All(c.Read)
	if !p.Entity.IsZero() {
		if _, err := find(c, among, p.Entity); err != nil {
			return nil, err
		}
		all = tables.Annotations.By(c.Read, "entity", store.K(p.Entity))
	}
	if p.Filter == "self" {
		p.UserID = c.User.ID
	}
	return api.Filter(all, func(a *cloud.Annotation) bool {
		return (p.ID.IsZero() || a.ID == p.ID) && (p.UserID.IsZero() || a.UserID == p.UserID) &&
			(p.Type == "" || strings.EqualFold(a.EntityType, p.Type))
	}), nil
}
