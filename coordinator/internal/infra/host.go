package infra

import (
	"errors"
	"net/netip"
	"net/url"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/alert"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/pki"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// LocalPoolPath is the directory of a host's local primary storage.
const LocalPoolPath = "/var/lib/wisp/pool"

// Adoption says where a pending host shall work.
type Adoption struct {
	ZoneID, PodID, ClusterID cloud.ID
	// ClusterName makes or finds a cluster by name instead of ClusterID; both empty makes a cluster for this host alone.
	ClusterName string
	Hypervisor  string
	// URL names the host: its name, its address, or its id, with or without http:// before it.
	URL             string
	Tags            []string
	AllocationState string
}

// AdoptHost gives a pending host its place.
func AdoptHost(tx *store.Tx, a Adoption) (*cloud.Host, error) {
	if err := checkHypervisor(a.Hypervisor); err != nil {
		return nil, err
	}
	if err := checkPlace(tx, a.ZoneID, a.PodID); err != nil {
		return nil, err
	}
	h, err := pending(tx, a.URL)
	if err != nil {
		return nil, err
	}
	c, err := clusterFor(tx, a)
	if err != nil {
		return nil, err
	}
	state, err := allocationState(a.AllocationState, cloud.AllocationEnabled)
	if err != nil {
		return nil, err
	}
	h.ZoneID, h.PodID, h.ClusterID, h.URL = a.ZoneID, a.PodID, c.ID, a.URL
	h.Tags = cleanTags(a.Tags)
	h.ResourceState = cloud.HostEnabled
	if state == cloud.AllocationDisabled {
		h.ResourceState = cloud.HostDisabled
	}
	if err := tables.Hosts.Put(tx, h); err != nil {
		return nil, wrap("adopt", "host", h.ID, err)
	}
	if !tables.HostCapacities.Has(tx, h.ID) {
		if err := tables.HostCapacities.Put(tx, &cloud.HostCapacity{ID: h.ID}); err != nil {
			return nil, wrap("adopt", "host", h.ID, err)
		}
	}
	z, _ := tables.Zones.Get(tx, h.ZoneID)
	if z != nil && z.LocalStorage {
		if err := localPool(tx, h); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// cleanTags trims tags and drops empty ones.
func cleanTags(tags []string) []string {
	var out []string
	for _, t := range tags {
		if t = strings.TrimSpace(t); t != "" {
			out = append(out, t)
		}
	}
	return out
}

// clusterFor finds or makes the cluster an adopted host goes to.
func clusterFor(tx *store.Tx, a Adoption) (*cloud.Cluster, error) {
	if !a.ClusterID.IsZero() {
		if a.ClusterName != "" {
			return nil, cloud.Errorf(cloud.Invalid, "Can't specify cluster by both id and name")
		}
		c, ok := tables.Clusters.Get(tx, a.ClusterID)
		if !ok {
			return nil, cloud.Errorf(cloud.Invalid, "Can't find cluster by id %s", a.ClusterID)
		}
		if c.PodID != a.PodID {
			return nil, cloud.Errorf(cloud.Invalid, "Cluster %s doesn't belong to the pod %s", c.Name, a.PodID)
		}
		return c, nil
	}
	name := a.ClusterName
	if name == "" {
		name = "Standalone-" + a.URL
	}
	if c, ok := tables.Clusters.First(tx, "pod", store.K(a.PodID, name)); ok {
		return c, nil
	}
	return CreateCluster(tx, a.ZoneID, a.PodID, ClusterValues{Name: name, Hypervisor: a.Hypervisor})
}

// hostOf takes the host out of what addHost calls a URL.
func hostOf(text string) (string, error) {
	text = strings.TrimSpace(text)
	if !strings.Contains(text, "://") {
		return strings.Trim(text, "/[]"), nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" {
		return "", cloud.Errorf(cloud.Invalid, "%s is not a valid uri", text)
	}
	return u.Hostname(), nil
}

// pending finds the pending host that a URL means, and otherwise says what to do next.
func pending(r store.Reader, text string) (*cloud.Host, error) {
	name, err := hostOf(text)
	if err != nil {
		return nil, err
	}
	if name == "" {
		return nil, cloud.Errorf(cloud.Invalid, "Please name the host in the parameter url: http://<name or address>")
	}
	if h, ok := pendingByName(r, name); ok {
		return h, nil
	}
	ip, _ := netip.ParseAddr(name)
	var exact, short, adopted []*cloud.Host
	var names []string
	for h := range tables.Hosts.All(r) {
		same := strings.EqualFold(h.Name, name) || (ip.IsValid() && h.IP == ip) || strings.EqualFold(h.ID.String(), name)
		switch {
		case h.ResourceState != cloud.HostPending:
			if same {
				adopted = append(adopted, h)
			}
			continue
		case same:
			exact = append(exact, h)
		case !ip.IsValid() && strings.EqualFold(label(h.Name), label(name)):
			short = append(short, h)
		}
		names = append(names, h.Name+" ("+h.IP.String()+")")
	}
	if len(exact) == 0 && len(adopted) == 0 {
		exact = short
	}
	switch {
	case len(exact) == 1:
		return exact[0], nil
	case len(exact) > 1:
		var ids []string
		for _, h := range exact {
			ids = append(ids, h.ID.String())
		}
		return nil, cloud.Errorf(cloud.Invalid, "Unable to add the host: %d pending hosts are called %s. Give the id of one as url: %s", len(exact), name, strings.Join(ids, ", "))
	case len(adopted) > 0:
		return nil, cloud.Errorf(cloud.Invalid, "Unable to add the host: %s already exists (id %s)", adopted[0].Name, adopted[0].ID)
	}
	waiting := "No host is pending."
	if len(names) > 0 {
		waiting = "Pending are: " + strings.Join(names[:min(len(names), 10)], ", ") + "."
	}
	return nil, cloud.Errorf(cloud.Invalid, "Unable to add the host: no agent called %s has joined yet. Make a token with createHostJoinToken, "+
		"put it as join: into /etc/wisp/agent.yaml on the host, start wisp-agent, and call addHost again when listHosts resourcestate=Pending shows it. %s", name, waiting)
}

// pendingByName is the short way for the common case: one host has that very name, and it is pending.
func pendingByName(r store.Reader, name string) (*cloud.Host, bool) {
	var found *cloud.Host
	for h := range tables.Hosts.By(r, "name", store.K(name)) {
		if found != nil || h.ResourceState != cloud.HostPending {
			return nil, false
		}
		found = h
	}
	return found, found != nil
}

func label(name string) string {
	before, _, _ := strings.Cut(name, ".")
	return before
}

// HostValues are what updateHost may say.
type HostValues struct {
	AllocationState string // "Enable" or "Disable"
	Tags            []string
	SetTags         bool
	OSCategoryID    cloud.ID
	URL             string
}

// mayAllocate refuses to enable or disable a host that is on another way.
func mayAllocate(h *cloud.Host) error {
	switch h.ResourceState {
	case cloud.HostEnabled, cloud.HostDisabled:
		return nil
	case cloud.HostDegraded:
		return cloud.Errorf(cloud.Invalid, "Host %s was declared degraded; take that back first (cancelHostAsDegraded)", h.Name)
	}
	return cloud.Errorf(cloud.Invalid, "Host %s is in state %s; cancel its maintenance first", h.Name, h.ResourceState)
}

// UpdateHost changes a host that was adopted.
func UpdateHost(tx *store.Tx, id cloud.ID, v HostValues) (*cloud.Host, error) {
	h, ok := tables.Hosts.Get(tx, id)
	if !ok {
		return nil, &store.NotFound{Table: "host", ID: id}
	}
	if h.ResourceState == cloud.HostPending {
		return nil, cloud.Errorf(cloud.Invalid, "Host %s is pending: adopt it with addHost first", h.Name)
	}
	switch {
	case v.AllocationState == "":
	case strings.EqualFold(v.AllocationState, "Enable"), strings.EqualFold(v.AllocationState, "Enabled"):
		if err := mayAllocate(h); err != nil {
			return nil, err
		}
		h.ResourceState = cloud.HostEnabled
	case strings.EqualFold(v.AllocationState, "Disable"), strings.EqualFold(v.AllocationState, "Disabled"):
		if err := mayAllocate(h); err != nil {
			return nil, err
		}
		h.ResourceState = cloud.HostDisabled
	default:
		return nil, cloud.Errorf(cloud.Invalid, "Invalid allocation state:%s, only Enable/Disable are allowed", v.AllocationState)
	}
	if v.SetTags {
		h.Tags = cleanTags(v.Tags)
	}
	if !v.OSCategoryID.IsZero() {
		if !tables.OSCategories.Has(tx, v.OSCategoryID) {
			return nil, cloud.Errorf(cloud.Invalid, "Please specify a valid guest OS category.")
		}
		h.OSCategoryID = v.OSCategoryID
		if v.OSCategoryID == noCategory.ID {
			h.OSCategoryID = cloud.ID{}
		}
	}
	if v.URL != "" {
		h.URL = v.URL
	}
	return h, wrap("update", "host", id, tables.Hosts.Put(tx, h))
}

// Reconnect asks for a new link of a host.
func Reconnect(tx *store.Tx, id cloud.ID) error {
	return wrap("reconnect", "host", id, tables.Hosts.Edit(tx, id, func(h *cloud.Host) error {
		if h.ResourceState == cloud.HostPending {
			return cloud.Errorf(cloud.Invalid, "Host %s is pending: adopt it with addHost first", h.Name)
		}
		h.Reconnects++
		return nil
	}))
}

// RemoveHost takes a host out of the cloud: its row, its certificate, its local pool. VMs on it are in the way; routers
// unless forced, which lets them start elsewhere; volumes on its local pool are in the way unless
// destroyLocal, which gives each of them to drop (it removes the row and its counts).
func RemoveHost(tx *store.Tx, id cloud.ID, forced, destroyLocal bool, drop func(*store.Tx, *cloud.Volume) error) error {
	h, ok := tables.Hosts.Get(tx, id)
	if !ok {
		return nil
	}
	if n := tables.VMs.Count(tx, "host", store.K(id)); n > 0 {
		return cloud.Errorf(cloud.InUse, "Host %s cannot be removed: %d virtual machines are on it. Stop or migrate them first", h.Name, n)
	}
	if n := tables.Routers.Count(tx, "host", store.K(id)); n > 0 && !forced {
		return cloud.Errorf(cloud.InUse, "Host %s cannot be removed: %d virtual routers are on it. Use forced=true to let them start elsewhere", h.Name, n)
	}
	if err := freeRouters(tx, id); err != nil {
		return err
	}
	for p := range tables.StoragePools.By(tx, "host", store.K(id)) {
		if err := removeLocalPool(tx, h, p, destroyLocal, drop); err != nil {
			return err
		}
	}
	if err := pki.Revoke(tx, h, "host removed"); err != nil {
		return err
	}
	err := errors.Join(
		releaseRemoved(tx, id), tables.HostCapacities.Delete(tx, id), tables.HostUsages.Delete(tx, id), tables.Hosts.Delete(tx, id), alert.Resolve(tx, silence(id)),
	)
	return wrap("remove", "host", id, err)
}
