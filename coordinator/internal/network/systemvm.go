package network

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/alloc"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/place"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// PlacementDetail is the detail of a network offering that says where its routers run.
const PlacementDetail = "routerplacement"

// Control addresses are link-local (RFC 3927) and mean something on one host only. The first one is CloudStack's
// control.gateway, which clients take for the host's own.
var (
	controlNet   = netip.MustParsePrefix("169.254.0.0/16")
	controlFirst = netip.MustParseAddr("169.254.0.2")
	controlLast  = netip.MustParseAddr("169.254.255.254")
)

// ControlNetmask is the netmask of control addresses.
func ControlNetmask() string { return alloc.Netmask(controlNet.Bits()) }

// ControlNetworkID identifies the control network of a zone to clients.
func ControlNetworkID(zone cloud.ID) cloud.ID { return cloud.NameID("control_network", zone.String()) }

// placement says where the router of a network shall run: as its offering has it, else its zone, else the cloud.
func placement(r store.Reader, n *cloud.Network) string {
	if o, ok := tables.NetworkOfferings.Get(r, n.OfferingID); ok && o.Details[PlacementDetail] != "" {
		return o.Details[PlacementDetail]
	}
	if routerPlacement.Text(r, n.ZoneID) == cloud.InVM {
		return cloud.InVM
	}
	return cloud.OnHost
}

// checkDetails refuses a placement that there is not, and writes the detail in one way.
func checkDetails(details map[string]string) (map[string]string, error) {
	out := map[string]string{}
	for key, value := range details {
		if strings.EqualFold(key, PlacementDetail) {
			key, value = PlacementDetail, strings.ToLower(value)
			if value != cloud.OnHost && value != cloud.InVM {
				return nil, cloud.Errorf(cloud.Invalid, "Invalid value %q of detail %s: %s and %s are known", value, key, cloud.OnHost, cloud.InVM)
			}
		}
		out[key] = value
	}
	return out, nil
}

// SystemTemplate is the image that routers of a zone boot from now: the newest ready one of the name that is set.
func SystemTemplate(r store.Reader, zone cloud.ID) (*cloud.Template, bool) {
	var newest *cloud.Template
	for t := range tables.Templates.By(r, "system", store.K(routerTemplate.Text(r))) { // in the order of age
		if t.ZoneID.IsZero() || t.ZoneID == zone {
			newest = t
		}
	}
	return newest, newest != nil
}

// RequiresUpgrade tells whether a router runs from another image than the one it would be started from now.
func RequiresUpgrade(r store.Reader, rt *cloud.Router) bool {
	if rt.Placement != cloud.InVM || rt.TemplateID.IsZero() {
		return false
	}
	t, ok := SystemTemplate(r, rt.ZoneID)
	return ok && t.ID != rt.TemplateID
}

// RouterOffering is the size of a router that is a system VM: its own, that of its network's offering, or the default.
func RouterOffering(r store.Reader, rt *cloud.Router) (*cloud.ServiceOffering, bool) {
	if o, ok := tables.ServiceOfferings.Get(r, rt.OfferingID); ok {
		return o, true
	}
	if n, ok := tables.Networks.Get(r, rt.NetworkID); ok {
		if no, ok := tables.NetworkOfferings.Get(r, n.OfferingID); ok {
			if o, ok := tables.ServiceOfferings.Get(r, no.ServiceOfferingID); ok {
				return o, true
			}
		}
	}
	return tables.ServiceOfferings.Get(r, routerOfferingID())
}

// wish says which host a router is to have: one that is preferred, or the only one that will do, or any but one.
type wish struct{ prefer, only, leave cloud.ID }

// home gives a router that has no host one, by its placement. The caller writes the row.
func (a *Area) home(tx *store.Tx, n *cloud.Network, rt *cloud.Router, at wish) error {
	rt.StartEpoch++
	rt.Since = tx.Now()
	if rt.Placement == cloud.InVM {
		return a.site(tx, n, rt, at)
	}
	h, err := chooseHost(tx, n, at.prefer)
	if err != nil {
		return err
	}
	rt.HostID, rt.PodID = h.ID, h.PodID
	rt.TemplateID, rt.SHA256, rt.ImageVersion, rt.VNCPassword = cloud.ID{}, "", "", nil
	return nil
}

// site places a system VM: image, size, host, pool, control address.
func (a *Area) site(tx *store.Tx, n *cloud.Network, rt *cloud.Router, at wish) error {
	t, ok := SystemTemplate(tx, n.ZoneID)
	if !ok {
		return cloud.Errorf(cloud.NoCapacity, "The router of network %s cannot be started as a system VM: no template named %q is ready "+
			"(register a system-VM image with registerTemplate and format=%s, or change router.template.kvm)",
			n.Name, routerTemplate.Text(tx), cloud.FormatSystemVM)
	}
	o, ok := RouterOffering(tx, rt)
	if !ok {
		return &store.NotFound{Table: "service_offering", ID: rt.OfferingID}
	}
	req := &place.Request{
		Zone: n.ZoneID, CPUs: o.CPUs, CPUMHz: o.CPUMHz, MemoryMiB: o.MemoryMiB, HostTags: o.HostTags, Features: []string{feature(n)},
		Disks: []place.Disk{{Bytes: t.SizeBytes, Either: true, Tags: o.StorageTags}}, Host: at.only, Prefer: at.prefer, Avoid: map[cloud.ID]string{},
		Claims: infra.RouterClaims(tx, n.ZoneID, n.AccountID, n.DomainID),
	}
	if !at.leave.IsZero() {
		req.Forbid(at.leave, "it is to leave this host")
	}
	for _, id := range rt.Avoid {
		req.Avoid[id] = rt.Error
	}
	choice, err := a.Sites.Choose(tx, req)
	if err != nil {
		why := strings.TrimPrefix(err.Error(), "no host can take the VM: ")
		return cloud.Errorf(cloud.NoCapacity, "No host can take the router of network %s: %s", n.Name, why)
	}
	h, ok := tables.Hosts.Get(tx, choice.Host)
	if !ok {
		return &store.NotFound{Table: "host", ID: choice.Host}
	}
	control, ok := alloc.FirstAddress(controlFirst, controlLast, []netip.Addr{metadataAddress}, func(lo, hi netip.Addr) int {
		return tables.Routers.CountBetween(tx, "control", store.K(h.ID, lo), store.K(h.ID, hi.Next()))
	})
	if !ok {
		return cloud.Errorf(cloud.NoCapacity, "No host can take the router of network %s: host %s has no control address left", n.Name, h.Name)
	}
	if len(rt.VNCPassword) == 0 {
		rt.VNCPassword = a.Seal.Seal(vncPassword())
	}
	if rt.ControlMAC == 0 {
		rt.ControlMAC = newMAC(tx)
	}
	rt.HostID, rt.PodID, rt.PoolID, rt.ControlIP = h.ID, h.PodID, choice.Pools[0], control
	rt.TemplateID, rt.SHA256, rt.ImageVersion = t.ID, t.SHA256, ""
	rt.CPUs, rt.CPUMHz, rt.MemoryMiB = o.CPUs, o.CPUMHz, o.MemoryMiB
	return a.Sites.Take(tx, h.ID, uint64(rt.CPUs)*uint64(rt.CPUMHz), uint64(rt.MemoryMiB))
}

// vncPassword is as long as VNC authentication uses (RFC 6143, 7.2.2); crypto/rand.Text has 5 bits a letter.
func vncPassword() string { return rand.Text()[:8] }

// unhome takes a router off its host, which does not run it any more or will be told so. The caller writes the row.
func (a *Area) unhome(tx *store.Tx, rt *cloud.Router) error {
	if !rt.HostID.IsZero() && rt.Placement == cloud.InVM {
		if err := a.Sites.Free(tx, rt.HostID, uint64(rt.CPUs)*uint64(rt.CPUMHz), uint64(rt.MemoryMiB)); err != nil {
			return fmt.Errorf("free room of router %s: %w", rt.ID, err)
		}
	}
	rt.HostID, rt.PodID, rt.PoolID, rt.ControlIP = cloud.ID{}, cloud.ID{}, cloud.ID{}, netip.Addr{}
	rt.Connected, rt.Evicting, rt.ForcedStop, rt.Retiring, rt.VNCPort = false, false, false, false, 0
	rt.Checks = nil
	return nil
}

// drop removes the row of a router.
func (a *Area) drop(tx *store.Tx, rt *cloud.Router) error {
	if err := a.unhome(tx, rt); err != nil {
		return err
	}
	return tables.Routers.Delete(tx, rt.ID)
}
