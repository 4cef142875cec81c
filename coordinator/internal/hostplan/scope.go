package hostplan

import (
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/storage"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Watched lists the tables whose rows become part of specs.
func Watched() []store.AnyTable {
	return []store.AnyTable{
		tables.VMs, tables.Volumes, tables.NICs, tables.Networks, tables.Routers, tables.PublicIPs, tables.FirewallRules,
		tables.PortForwardingRules, tables.Hosts, tables.StoragePools, tables.Zones, tables.PhysicalNetworks,
		tables.TrafficTypes, tables.VLANRanges, tables.NetworkOfferings, tables.Settings, tables.RevokedCertificates,
		tables.Coordinators,
	}
}

// Scope says whose specs a change may touch.
type Scope struct {
	Hosts    map[cloud.ID]bool
	Networks map[cloud.ID]bool // every host that carries one of these
	All      bool
}

// Index finds out whose specs a change may touch. It remembers where rows belonged, because a deleted or moved row no
// longer says. It belongs to one goroutine.
type Index struct {
	network map[cloud.ID]cloud.ID // row of a network -> network
	host    map[cloud.ID]cloud.ID // VM, volume, router -> the host that had it
	hosts   map[cloud.ID]hostFacts
	pools   map[cloud.ID]poolFacts
}

// hostFacts are the columns of a host that reach specs; its many other changes (status, figures) do not.
type hostFacts struct {
	zone, cluster cloud.ID
	ip            string
	pending       bool
	reconnects    uint64
	serial        string
}

type poolFacts struct {
	host, cluster, zone cloud.ID
	path, source        string
	away                bool
}

// NewIndex makes the index of a state.
func NewIndex(r store.Reader) *Index {
	x := &Index{map[cloud.ID]cloud.ID{}, map[cloud.ID]cloud.ID{}, map[cloud.ID]hostFacts{}, map[cloud.ID]poolFacts{}}
	x.Reset(r)
	return x
}

// Reset reads a state anew.
func (x *Index) Reset(r store.Reader) {
	clear(x.network)
	clear(x.host)
	clear(x.hosts)
	clear(x.pools)
	var s Scope
	s.init()
	for v := range tables.VMs.All(r) {
		x.moved(&s, v.ID, v.HostID)
	}
	for v := range tables.Volumes.All(r) {
		x.moved(&s, v.ID, v.HostID)
	}
	for n := range tables.NICs.All(r) {
		x.belongs(&s, n.ID, n.NetworkID)
	}
	for n := range tables.Routers.All(r) {
		x.belongs(&s, n.ID, n.NetworkID)
		x.moved(&s, n.ID, n.HostID)
	}
	for n := range tables.PublicIPs.All(r) {
		x.belongs(&s, n.ID, n.NetworkID)
	}
	for n := range tables.FirewallRules.All(r) {
		x.belongs(&s, n.ID, n.NetworkID)
	}
	for n := range tables.PortForwardingRules.All(r) {
		x.belongs(&s, n.ID, n.NetworkID)
	}
	for h := range tables.Hosts.All(r) {
		x.hosts[h.ID] = factsOf(h)
	}
	for p := range tables.StoragePools.All(r) {
		x.pools[p.ID] = poolFactsOf(p)
	}
}

func (s *Scope) init() {
	s.Hosts, s.Networks = map[cloud.ID]bool{}, map[cloud.ID]bool{}
}

// belongs notes the network of a row, and puts the former and the present one into the scope.
func (x *Index) belongs(s *Scope, id, network cloud.ID) {
	note(x.network, s.Networks, id, network)
}

// moved does the same for the host of a row.
func (x *Index) moved(s *Scope, id, host cloud.ID) {
	note(x.host, s.Hosts, id, host)
}

func note(m map[cloud.ID]cloud.ID, into map[cloud.ID]bool, id, to cloud.ID) {
	if was, ok := m[id]; ok {
		into[was] = true
	}
	if to.IsZero() {
		delete(m, id)
		return
	}
	m[id] = to
	into[to] = true
}

func factsOf(h *cloud.Host) hostFacts {
	return hostFacts{h.ZoneID, h.ClusterID, h.IP.String(), h.ResourceState == cloud.HostPending, h.Reconnects, h.CertificateSerial}
}

func poolFactsOf(p *cloud.StoragePool) poolFacts {
	return poolFacts{p.HostID, p.ClusterID, p.ZoneID, p.Path, p.Source, storage.Away(p)}
}

// Scope finds whose specs the touched rows may change.
func (x *Index) Scope(r store.Reader, touched []store.Touched) Scope {
	var s Scope
	s.init()
	for _, t := range touched {
		x.add(r, t, &s)
	}
	return s
}

func (x *Index) add(r store.Reader, t store.Touched, s *Scope) {
	switch t.Table {
	case tables.VMs.Name():
		vm, ok := tables.VMs.Get(r, t.ID)
		if !ok {
			x.moved(s, t.ID, cloud.ID{})
			return
		}
		x.moved(s, t.ID, vm.HostID)
		for nic := range tables.NICs.By(r, "vm", store.K(t.ID)) {
			s.Networks[nic.NetworkID] = true
		}
	case tables.Volumes.Name():
		x.volume(r, t.ID, s)
	case tables.NICs.Name():
		x.belongs(s, t.ID, networkOf(r, tables.NICs, t.ID, func(n *cloud.NIC) cloud.ID { return n.NetworkID }))
	case tables.Networks.Name():
		s.Networks[t.ID] = true
	case tables.Routers.Name():
		n, ok := tables.Routers.Get(r, t.ID)
		if !ok {
			n = &cloud.Router{}
		}
		x.belongs(s, t.ID, n.NetworkID)
		x.moved(s, t.ID, n.HostID)
	case tables.PublicIPs.Name():
		x.belongs(s, t.ID, networkOf(r, tables.PublicIPs, t.ID, func(n *cloud.PublicIP) cloud.ID { return n.NetworkID }))
	case tables.FirewallRules.Name():
		x.belongs(s, t.ID, networkOf(r, tables.FirewallRules, t.ID, func(n *cloud.FirewallRule) cloud.ID { return n.NetworkID }))
	case tables.PortForwardingRules.Name():
		x.belongs(s, t.ID, networkOf(r, tables.PortForwardingRules, t.ID, func(n *cloud.PortForwardingRule) cloud.ID { return n.NetworkID }))
	case tables.Hosts.Name():
		x.hostRow(r, t.ID, s)
	case tables.StoragePools.Name():
		x.pool(r, t.ID, s)
	default:
		s.All = true
	}
}

func networkOf[R any](r store.Reader, t *store.Table[R], id cloud.ID, of func(*R) cloud.ID) cloud.ID {
	row, ok := t.Get(r, id)
	if !ok {
		return cloud.ID{}
	}
	return of(row)
}

func (x *Index) volume(r store.Reader, id cloud.ID, s *Scope) {
	v, ok := tables.Volumes.Get(r, id)
	if !ok {
		x.moved(s, id, cloud.ID{})
		return
	}
	x.moved(s, id, v.HostID)
	if vm, ok := tables.VMs.Get(r, v.VMID); ok && !vm.HostID.IsZero() {
		s.Hosts[vm.HostID] = true
	}
	if pool, ok := tables.StoragePools.Get(r, v.PoolID); ok && pool.HostID.IsZero() && v.State >= cloud.VolumeDestroy {
		x.reach(r, poolFactsOf(pool), s) // one of the hosts that share the pool deletes it
	}
}

func (x *Index) hostRow(r store.Reader, id cloud.ID, s *Scope) {
	h, ok := tables.Hosts.Get(r, id)
	was, had := x.hosts[id]
	if !ok {
		delete(x.hosts, id)
		s.Hosts[id] = true
		return
	}
	is := factsOf(h)
	x.hosts[id] = is
	if had && was == is {
		return
	}
	s.Hosts[id] = true
	if had && was.ip != is.ip {
		for _, n := range Carried(r, id) {
			s.Networks[n] = true // the others have to send their tunnels elsewhere
		}
	}
}

func (x *Index) pool(r store.Reader, id cloud.ID, s *Scope) {
	p, ok := tables.StoragePools.Get(r, id)
	was, had := x.pools[id]
	if had {
		if ok && poolFactsOf(p) == was {
			return
		}
		x.reach(r, was, s)
	}
	if !ok {
		delete(x.pools, id)
		return
	}
	x.pools[id] = poolFactsOf(p)
	x.reach(r, x.pools[id], s)
}

// reach puts the hosts that can reach a pool into the scope.
func (x *Index) reach(r store.Reader, p poolFacts, s *Scope) {
	switch {
	case !p.host.IsZero():
		s.Hosts[p.host] = true
	case !p.cluster.IsZero():
		for h := range tables.Hosts.IDs(r, "cluster", store.K(p.cluster)) {
			s.Hosts[h] = true
		}
	default:
		for h := range tables.Hosts.IDs(r, "zone", store.K(p.zone)) {
			s.Hosts[h] = true
		}
	}
}
