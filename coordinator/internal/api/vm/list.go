package vm

import (
	"bytes"
	"encoding/base64"
	"iter"
	"slices"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

type listParams struct {
	api.ListParams
	api.OwnedParams
	api.TagParams
	ID          cloud.ID   `api:"id" doc:"this VM only"`
	IDs         []cloud.ID `api:"ids" since:"4.4" doc:"these VMs only"`
	Name        string     `api:"name" doc:"VMs whose host name contains this"`
	State       string     `api:"state" doc:"VMs in this state; Present is any but Destroyed and Expunging"`
	ZoneID      cloud.ID   `api:"zoneid" ref:"zone" doc:"VMs of this zone"`
	PodID       cloud.ID   `api:"podid" ref:"pod" role:"admin" doc:"VMs of this pod"`
	ClusterID   cloud.ID   `api:"clusterid" ref:"cluster" role:"admin" since:"4.16" doc:"VMs of this cluster"`
	HostID      cloud.ID   `api:"hostid" ref:"host" role:"admin" doc:"VMs on this host"`
	StorageID   cloud.ID   `api:"storageid" ref:"storagepool" role:"admin" doc:"VMs with a volume on this pool"`
	NetworkID   cloud.ID   `api:"networkid" ref:"network,use" doc:"VMs in this network"`
	TemplateID  cloud.ID   `api:"templateid" ref:"template,use" doc:"VMs made from this template"`
	OfferingID  cloud.ID   `api:"serviceofferingid" ref:"serviceoffering,use" since:"4.4" doc:"VMs of this service offering"`
	GroupID     cloud.ID   `api:"groupid" ref:"instancegroup" doc:"VMs of this instance group"`
	AffinityID  cloud.ID   `api:"affinitygroupid" ref:"affinitygroup,use" since:"4.2" doc:"VMs of this affinity group"`
	KeptID      cloud.ID   `api:"userdataid" ref:"userdata" since:"4.20" doc:"VMs with this kept user-data"`
	KeyPair     string     `api:"keypair" since:"4.2" doc:"VMs deployed with this SSH key pair"`
	Hypervisor  string     `api:"hypervisor" doc:"VMs of this kind of hypervisor"`
	Virtual     *bool      `api:"forvirtualnetwork" doc:"VMs whose default network is (or is not) an isolated one"`
	HA          *bool      `api:"haenable" since:"4.15" doc:"VMs with (or without) high availability"`
	Details     []string   `api:"details" doc:"what to tell: all, nics, stats, min and others, separated by commas"`
	UserDataToo bool       `api:"userdata" since:"4.18" doc:"tell the user-data as well"`
}

// detailNames are the values of the details parameter.
var detailNames = []string{"all", "group", "nics", "stats", "secgrp", "tmpl", "servoff", "iso", "volume", "min", "affgrp", "diskoff", "backoff"}

func (p *listParams) detail(name string) bool {
	return len(p.Details) == 0 || slices.Contains(p.Details, "all") || slices.Contains(p.Details, name)
}

func (h handlers) list() api.Command {
	return api.Command{
		Name: "listVirtualMachines", Doc: "Lists the VMs that the caller owns or may see.", Roles: api.Everyone, Object: "virtualmachine",
		Run: api.List(h.lister()),
	}
}

func (h handlers) metrics() api.Command {
	return api.Command{
		Name: "listVirtualMachinesMetrics", Doc: "Lists the VMs that the caller owns or may see, with what they use in larger units.", Since: "4.9.3",
		Roles: api.Everyone, Object: "virtualmachine",
		Run: api.List(api.Extend(h.lister(), func(_ *api.Call, _ *listParams, _ *cloud.VM, a Answer) MetricsAnswer { return metricsOf(a) })),
	}
}

// lister is the list of VMs, however much it tells of them.
func (h handlers) lister() api.Lister[listParams, cloud.VM, Answer] {
	return api.Lister[listParams, cloud.VM, Answer]{
		Rows: rows, Ranked: ranked, Table: tables.VMs,
		// UserData is sealed, and asked for of one VM.
		Kept: func(c *api.Call, p *listParams) (shape uint8, ok bool) {
			if c.IsRoot() {
				shape |= 1
			}
			if !p.detail("nics") {
				shape |= 2
			}
			return shape, !p.UserDataToo && p.ID.IsZero()
		},
		Volatile: func(_ *api.Call, p *listParams, vm cloud.ID) any {
			u, ok := h.Usage(vm)
			if !ok || !p.detail("stats") {
				return nil
			}
			a := usageAnswer(u)
			return &a
		},
		Owner: func(_ *api.Call, vm *cloud.VM) api.Owner {
			return api.Owner{Account: vm.AccountID, Domain: vm.DomainID}
		},
		Keyword: func(vm *cloud.VM) string { return vm.Name + "\n" + vm.DisplayName + "\n" + vm.InstanceName },
		ViewFor: func(c *api.Call, p *listParams, vm *cloud.VM) Answer {
			v := Viewer{Admin: c.IsRoot(), NoNICs: !p.detail("nics")}
			if u, ok := h.Usage(vm.ID); ok && p.detail("stats") {
				v.Usage = u
			}
			a := View(c.Remember(), vm, v)
			if p.UserDataToo || !p.ID.IsZero() {
				if text, err := c.Seal.Open(vm.UserData); err == nil && text != "" {
					a.UserData = base64.StdEncoding.EncodeToString([]byte(text))
				}
			}
			return a
		},
	}
}

// narrow is the index that has the VMs of one of the filters, in the order of their IDs, and what filters are left; index is
// "" without such a filter.
func (p *listParams) narrow() (index string, key store.Key, left listParams) {
	left = *p
	for _, f := range []struct {
		id    *cloud.ID
		index string
	}{{&left.HostID, "host"}, {&left.GroupID, "group"}, {&left.KeptID, "userdata"}, {&left.OfferingID, "offering"}, {&left.TemplateID, "template"}, {&left.ZoneID, "zone"}} {
		if !f.id.IsZero() {
			key = store.K(*f.id)
			*f.id = cloud.ID{}
			return f.index, key, left
		}
	}
	return "", nil, left
}

// ranked takes the lists that people and programs ask for again and again from an index: everything, of the domains of an
// admin, and one's own, with a state or without, and for root by what is in narrow.
func ranked(c *api.Call, p *listParams) (api.Ranked[cloud.VM], bool) {
	none := api.Ranked[cloud.VM]{}
	index, key, other := p.narrow()
	other.UserDataToo, other.State, other.Details = false, "", nil
	if !api.Unfiltered(other) || slices.ContainsFunc(p.Details, func(d string) bool { return !slices.Contains(detailNames, d) }) {
		return none, false
	}
	_, one := c.Scope.Account()
	state, named := stateByName[strings.ToLower(p.State)]
	order := api.Order[cloud.VM]{Table: tables.VMs, ByID: true, Owner: "owner"}
	switch {
	case index != "":
		if p.State != "" || one || !c.IsRoot() {
			return none, false
		}
		order.All, order.AllKey, order.Own, order.Narrow = index, key, "account", true
	case named:
		order.All, order.AllKey, order.Own, order.OwnKey = "state", store.K(state), "account-state", store.K(state)
	case one && (strings.EqualFold(p.State, "present") || p.State == "" && !c.IsRoot()):
		order.Own, order.Less, order.LessKeys = "account", "account-state", []store.Key{store.K(cloud.VMExpunging)}
		if p.State != "" || !c.IsAdmin() {
			order.LessKeys = append(order.LessKeys, store.K(cloud.VMDestroyed))
		}
	case p.State == "" && c.IsRoot():
		order.Own, order.Domain = "account", "domain"
	case p.State == "" && c.IsAdmin():
		order.Own, order.Domain, order.Hidden = "account", "domain", expunging
	default:
		return none, false
	}
	return order.Rank(c)
}

// expunging are the VMs that only root sees, by their IDs. One's own are not taken from here.
func expunging(r store.Reader, _ cloud.ID) (out []store.Entry) {
	for id := range tables.VMs.IDs(r, "state", store.K(cloud.VMExpunging)) {
		out = append(out, store.Entry(id[:]))
	}
	return out
}

// rows picks the narrowest index and filters the rest.
func rows(c *api.Call, p *listParams) (iter.Seq[*cloud.VM], error) {
	for _, d := range p.Details {
		if !slices.Contains(detailNames, d) {
			return nil, cloud.Errorf(cloud.Invalid, "Invalid value %q in parameter details; accepted are %s", d, strings.Join(detailNames, ", "))
		}
	}
	keep, err := filter(c, p)
	if err != nil {
		return nil, err
	}
	all := candidates(c, p)
	return func(yield func(*cloud.VM) bool) {
		for vm := range all {
			if keep(vm) && !yield(vm) {
				return
			}
		}
	}, nil
}

func candidates(c *api.Call, p *listParams) iter.Seq[*cloud.VM] {
	ids := p.IDs
	if !p.ID.IsZero() {
		ids = []cloud.ID{p.ID}
	}
	if len(ids) == 0 {
		if others, ok := p.others(c.Read); ok {
			slices.SortFunc(others, func(a, b cloud.ID) int { return bytes.Compare(a[:], b[:]) })
			if ids = slices.Compact(others); len(ids) == 0 {
				return func(func(*cloud.VM) bool) {}
			}
		}
	}
	if len(ids) > 0 {
		return func(yield func(*cloud.VM) bool) {
			for _, id := range ids {
				if vm, ok := tables.VMs.Get(c.Read, id); ok && !yield(vm) {
					return
				}
			}
		}
	}
	index, key, _ := p.narrow()
	if index != "" && index != "zone" {
		return tables.VMs.By(c.Read, index, key)
	}
	if account, ok := c.Scope.Account(); ok {
		return tables.VMs.By(c.Read, "account", store.K(account))
	}
	if all, ok := (api.Order[cloud.VM]{Table: tables.VMs, ByID: true, Owner: "owner", Own: "account", Domain: "domain"}).Each(c); ok && !c.Scope.Everything() {
		return all
	}
	if index != "" {
		return tables.VMs.By(c.Read, index, key)
	}
	return tables.VMs.All(c.Read)
}

// others gives the VMs that rows of other tables name: those of a network, a pool, an affinity group, in any order and perhaps
// more than once. false: no filter asks for them.
func (p *listParams) others(r store.Reader) (ids []cloud.ID, ok bool) {
	switch {
	case !p.NetworkID.IsZero():
		for n := range tables.NICs.By(r, "network", store.K(p.NetworkID)) {
			ids = append(ids, n.VMID)
		}
	case !p.StorageID.IsZero():
		for v := range tables.Volumes.By(r, "pool", store.K(p.StorageID)) {
			ids = append(ids, v.VMID)
		}
	case !p.AffinityID.IsZero():
		for m := range tables.AffinityMembers.By(r, "group", store.K(p.AffinityID)) {
			ids = append(ids, m.VMID)
		}
	default:
		return nil, false
	}
	return ids, true
}

// states that state= accepts beside the names of states.
var stateByName = func() map[string]cloud.VMState {
	m := map[string]cloud.VMState{}
	for s := cloud.VMStopped; s <= cloud.VMError; s++ {
		m[strings.ToLower(s.String())] = s
	}
	return m
}()

func stateFilter(c *api.Call, want string) (func(cloud.VMState) bool, error) {
	want = strings.ToLower(want)
	if s, ok := stateByName[want]; ok {
		return func(v cloud.VMState) bool { return v == s }, nil
	}
	switch want {
	case "present":
		return func(v cloud.VMState) bool { return v != cloud.VMDestroyed && v != cloud.VMExpunging }, nil
	case "":
		// Destroyed VMs are an admin's business; what is being expunged a root admin's.
		return func(v cloud.VMState) bool {
			return (v != cloud.VMDestroyed || c.IsAdmin()) && (v != cloud.VMExpunging || c.IsRoot())
		}, nil
	}
	return nil, cloud.Errorf(cloud.Invalid, "Invalid state %q in parameter state; accepted are Running, Starting, Stopping, Stopped, "+
		"Migrating, Destroyed, Expunging, Error and Present", want)
}

func filter(c *api.Call, p *listParams) (func(*cloud.VM) bool, error) {
	state, err := stateFilter(c, p.State)
	if err != nil {
		return nil, err
	}
	name := strings.ToLower(p.Name)
	is := func(want, have cloud.ID) bool { return want.IsZero() || want == have }
	return func(vm *cloud.VM) bool {
		return state(vm.State) && is(p.ID, vm.ID) && (len(p.IDs) == 0 || slices.Contains(p.IDs, vm.ID)) &&
			is(p.ZoneID, vm.ZoneID) && is(p.GroupID, vm.GroupID) && is(p.KeptID, vm.UserDataID) && is(p.PodID, vm.PodID) && is(p.HostID, vm.HostID) && is(p.TemplateID, vm.TemplateID) &&
			is(p.OfferingID, vm.OfferingID) && (name == "" || strings.Contains(strings.ToLower(vm.Name), name)) &&
			(p.KeyPair == "" || slices.Contains(strings.Split(vm.KeyPair, ","), p.KeyPair)) && (p.HA == nil || vm.HA == *p.HA) &&
			(p.Hypervisor == "" || strings.EqualFold(vm.Hypervisor, p.Hypervisor)) && related(c, p, vm)
	}, nil
}

// related checks the filters that need other rows.
func related(c *api.Call, p *listParams, vm *cloud.VM) bool {
	if !p.ClusterID.IsZero() {
		if h, ok := tables.Hosts.Get(c.Read, vm.HostID); !ok || h.ClusterID != p.ClusterID {
			return false
		}
	}
	if !p.StorageID.IsZero() && !has(tables.Volumes.By(c.Read, "vm", store.K(vm.ID)),
		func(v *cloud.Volume) bool { return v.PoolID == p.StorageID }) {
		return false
	}
	if !p.AffinityID.IsZero() && tables.AffinityMembers.Count(c.Read, "group", store.K(p.AffinityID, vm.ID)) == 0 {
		return false
	}
	nics := tables.NICs.By(c.Read, "vm", store.K(vm.ID))
	if !p.NetworkID.IsZero() && !has(nics, func(n *cloud.NIC) bool { return n.NetworkID == p.NetworkID }) {
		return false
	}
	if p.Virtual != nil {
		isolated := has(nics, func(nic *cloud.NIC) bool {
			n, ok := tables.Networks.Get(c.Read, nic.NetworkID)
			return ok && nic.Default && n.GuestType == cloud.Isolated
		})
		return isolated == *p.Virtual
	}
	return true
}

func has[T any](s iter.Seq[T], f func(T) bool) bool {
	for v := range s {
		if f(v) {
			return true
		}
	}
	return false
}
