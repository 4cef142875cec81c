package storage

import (
	"cmp"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// mountRoot is where hosts mount the shares of NFS pools.
const mountRoot = "/var/lib/wisp/mnt/"

// NewPool describes a primary storage pool to make.
type NewPool struct {
	Name                   string
	ZoneID, PodID, Cluster cloud.ID
	URL                    string
	Scope                  string // "cluster" (the default) or "zone"
	Tags                   []string
	Details                map[string]string
}

// CreatePool makes a pool of a cluster or zone.
func CreatePool(tx *store.Tx, n NewPool) (*cloud.StoragePool, error) {
	p := &cloud.StoragePool{
		ID: tx.NewID(), Name: n.Name, ZoneID: n.ZoneID, PodID: n.PodID, ClusterID: n.Cluster, State: cloud.PoolUp, Scope: "CLUSTER",
		URL: n.URL, Tags: n.Tags, Details: n.Details, Created: tx.Now(),
	}
	switch {
	case strings.EqualFold(n.Scope, "zone"):
		p.Scope, p.PodID, p.ClusterID = "ZONE", cloud.ID{}, cloud.ID{}
	case n.Scope != "" && !strings.EqualFold(n.Scope, "cluster"):
		return nil, cloud.Errorf(cloud.Invalid, "invalid scope for pool %s; cluster and zone are supported", n.Scope)
	case n.Cluster.IsZero():
		return nil, cloud.Errorf(cloud.Invalid, "A pool of scope cluster needs clusterid and podid")
	default:
		c, ok := tables.Clusters.Get(tx, n.Cluster)
		if !ok || c.ZoneID != n.ZoneID || !n.PodID.IsZero() && c.PodID != n.PodID {
			return nil, cloud.Errorf(cloud.Invalid, "Cluster %s is not in the pod and zone specified", n.Cluster)
		}
		p.PodID = c.PodID
	}
	hosts := hostsUp(tx, p)
	if len(hosts) == 0 {
		return nil, cloud.Errorf(cloud.Unavailable, "No host up to associate a storage pool with in cluster %s", n.Cluster)
	}
	if err := readURL(p, n.URL, hosts); err != nil {
		return nil, err
	}
	for other := range tables.StoragePools.By(tx, "zone", store.K(p.ZoneID)) {
		if other.Kind == p.Kind && other.Source == p.Source && (other.Path == p.Path || p.Kind == cloud.PoolNetworkFilesystem) && overlaps(other, p) {
			return nil, cloud.Errorf(cloud.InUse, "Storage pool %s already in use by another pod (id=%s)", n.URL, other.PodID)
		}
	}
	return p, wrap("create", "pool", p.ID, tables.StoragePools.Put(tx, p))
}

// overlaps tells whether the hosts of two pools may be the same.
func overlaps(a, b *cloud.StoragePool) bool {
	switch {
	case !a.HostID.IsZero() && !b.HostID.IsZero():
		return a.HostID == b.HostID
	case !a.ClusterID.IsZero() && !b.ClusterID.IsZero():
		return a.ClusterID == b.ClusterID
	}
	return true
}

func hostsUp(r store.Reader, p *cloud.StoragePool) []*cloud.Host {
	var out []*cloud.Host
	for h := range tables.Hosts.By(r, "zone", store.K(p.ZoneID)) {
		if h.Status == cloud.HostUp && h.ResourceState == cloud.HostEnabled && (p.ClusterID.IsZero() || h.ClusterID == p.ClusterID) {
			out = append(out, h)
		}
	}
	return out
}

// readURL reads a pool's URL: nfs://server/export, SharedMountPoint:///dir, file:///dir.
func readURL(p *cloud.StoragePool, text string, hosts []*cloud.Host) error {
	u, err := url.Parse(text)
	if err != nil {
		return cloud.Errorf(cloud.Invalid, "%.200s is not a valid uri", text)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(u.Path, "\x00\n\t ,\\") {
		return cloud.Errorf(cloud.Invalid, "%.200s is not a valid uri: user, options and white space are not accepted", text)
	}
	if u.Path == "" || u.Path[0] != '/' || path.Clean(u.Path) != strings.TrimSuffix(u.Path, "/") || path.Clean(u.Path) == "/" {
		return cloud.Errorf(cloud.Invalid, "host or path is null, should be nfs://hostname/path, SharedMountPoint:///path or file:///path")
	}
	clean := path.Clean(u.Path)
	switch strings.ToLower(u.Scheme) {
	case "nfs":
		if !validServer(u.Host) {
			return cloud.Errorf(cloud.Invalid, "host or path is null, should be nfs://hostname/path")
		}
		p.Kind, p.Source, p.Path = cloud.PoolNetworkFilesystem, u.Host+":"+clean, mountRoot+p.ID.String()
	case "sharedmountpoint":
		p.Kind, p.Path = cloud.PoolSharedMountPoint, clean
	case "file":
		if len(hosts) != 1 || p.ClusterID.IsZero() {
			return cloud.Errorf(cloud.Invalid, "file:// is storage of one host, and there are %d. Use SharedMountPoint:// for a directory that all hosts share, or a zone with localstorageenabled", len(hosts))
		}
		p.Kind, p.Path, p.HostID, p.Scope, p.Source = cloud.PoolFilesystem, clean, hosts[0].ID, "HOST", hosts[0].IP.String()
	default:
		return cloud.Errorf(cloud.Invalid, "Unable to figure out the scheme for URI: %.200s; supported are nfs, SharedMountPoint and file", text)
	}
	return nil
}

// validServer tells whether a text is a host name or address: it becomes part of what the host mounts.
func validServer(s string) bool {
	if s == "" || s[0] == '-' || len(s) > 253 {
		return false
	}
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != ':' && c != '[' && c != ']' {
			return false
		}
	}
	return true
}

// DeletePool removes a pool without volumes. A host's own pool goes with its host.
func DeletePool(tx *store.Tx, id cloud.ID) error {
	p, ok := tables.StoragePools.Get(tx, id)
	if !ok {
		return nil
	}
	if !p.HostID.IsZero() && p.URL == "" {
		return cloud.Errorf(cloud.Invalid, "Unable to delete local storage id: %s; it goes with its host", id)
	}
	if n := tables.Volumes.Count(tx, "pool", store.K(id)); n > 0 {
		return cloud.Errorf(cloud.InUse, "Cannot delete pool %s as there are associated vols for this pool (%d)", p.Name, n)
	}
	if rt, ok := tables.Routers.First(tx, "pool", store.K(id)); ok {
		return cloud.Errorf(cloud.InUse, "Cannot delete pool %s: router %s runs from it. %s moves it to another one", p.Name, rt.Name, PrepareCommand)
	}
	return wrap("delete", "pool", id, tables.StoragePools.Delete(tx, id))
}

// RenderPools lists the pools a host shall have, sorted by id. A shared pool in maintenance is none: its server may be
// switched off, and a look at it would hang.
func RenderPools(r store.Reader, h *cloud.Host) []*hostspec.StoragePool {
	var out []*hostspec.StoragePool
	for p := range tables.StoragePools.By(r, "zone", store.K(h.ZoneID)) {
		mine := p.HostID == h.ID || p.HostID.IsZero() && (p.ClusterID == h.ClusterID || p.ClusterID.IsZero())
		if !mine || p.State == cloud.PoolRemoved || Away(p) {
			continue
		}
		m := &hostspec.StoragePool{Id: p.ID.String(), Path: p.Path}
		switch p.Kind {
		case cloud.PoolNetworkFilesystem:
			m.Type, m.Source = hostspec.PoolType_POOL_TYPE_NFS, p.Source
		case cloud.PoolSharedMountPoint:
			m.Type = hostspec.PoolType_POOL_TYPE_SHARED_MOUNT
		case cloud.PoolFilesystem:
			m.Type = hostspec.PoolType_POOL_TYPE_LOCAL
		}
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b *hostspec.StoragePool) int { return cmp.Compare(a.GetId(), b.GetId()) })
	return out
}

// usedStep is how far a pool's used bytes may drift before its row is written again.
const usedStep = 256 << 20

// Fold takes what a host observes of its pools into their rows.
func Fold(tx *store.Tx, host cloud.ID, o *hostspec.HostObservation) error {
	for _, m := range o.GetPools() {
		id, err := cloud.ParseID(m.GetId())
		if err != nil {
			continue
		}
		p, ok := tables.StoragePools.Get(tx, id)
		if !ok || !p.HostID.IsZero() && p.HostID != host {
			continue
		}
		if !mayReport(tx, p, host) {
			continue
		}
		foldPool(p, m)
		if err := tables.StoragePools.Put(tx, p); err != nil {
			return wrap("fold", "pool", id, err)
		}
	}
	return nil
}

// mayReport tells whether a host is among those that have a pool.
func mayReport(r store.Reader, p *cloud.StoragePool, host cloud.ID) bool {
	if p.HostID == host {
		return true
	}
	h, ok := tables.Hosts.Get(r, host)
	return ok && h.ZoneID == p.ZoneID && (p.ClusterID.IsZero() || p.ClusterID == h.ClusterID)
}

func foldPool(p *cloud.StoragePool, m *hostspec.PoolObservation) {
	switch {
	case m.GetReady() && (p.State == cloud.PoolInitial || p.State == cloud.PoolDown):
		p.State = cloud.PoolUp
	case !m.GetReady() && m.GetError() != "" && p.State == cloud.PoolUp && !p.HostID.IsZero():
		p.State = cloud.PoolDown // a shared pool that one host cannot reach is up for the others
	}
	if !m.GetReady() {
		return
	}
	p.CapacityBytes = m.GetCapacityBytes()
	if used := m.GetUsedBytes(); used > p.UsedBytes+usedStep || used+usedStep < p.UsedBytes || p.UsedBytes == 0 {
		p.UsedBytes = used
	}
}
