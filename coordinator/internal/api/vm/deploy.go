package vm

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/compute"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// startDeadline is how long a start may take: an image has to reach the host, and a slow guest to be started.
const startDeadline = 30 * time.Minute

type ipToNetwork struct {
	NetworkID cloud.ID   `api:"networkid" ref:"network,use"`
	IP        netip.Addr `api:"ip"`
	MAC       string     `api:"mac"`
}

type deployParams struct {
	OfferingID     cloud.ID          `api:"serviceofferingid,required" ref:"serviceoffering,use" doc:"size of the VM"`
	TemplateID     cloud.ID          `api:"templateid,required" ref:"template,use" doc:"template its root disk is made from"`
	ZoneID         cloud.ID          `api:"zoneid,required" ref:"zone,use" doc:"zone it is placed in"`
	Account        string            `api:"account" doc:"account it is to belong to; needs domainid"`
	DomainID       cloud.ID          `api:"domainid" ref:"domain" doc:"domain of that account"`
	ProjectID      cloud.ID          `api:"projectid" doc:"project it is to belong to"`
	Name           string            `api:"name" doc:"host name, a DNS label"`
	DisplayName    string            `api:"displayname" doc:"name for people"`
	Group          string            `api:"group" doc:"instance group"`
	NetworkIDs     []cloud.ID        `api:"networkids" ref:"network,use" doc:"networks it joins; the first is its default one"`
	IPToNetwork    []ipToNetwork     `api:"iptonetworklist,objects" doc:"networks with the address wanted in each; instead of networkids and ipaddress"`
	IPAddress      netip.Addr        `api:"ipaddress" doc:"address wanted in the default network"`
	MACAddress     string            `api:"macaddress" since:"4.10" doc:"MAC address wanted in the default network"`
	DiskOfferingID cloud.ID          `api:"diskofferingid" ref:"diskoffering,use" doc:"offering of a further data disk"`
	Size           uint64            `api:"size" max:"1048576" doc:"size in GiB of that data disk, for a customized offering"`
	RootDiskSize   uint64            `api:"rootdisksize" max:"1048576" since:"4.4" doc:"size in GiB of the root disk, at least that of the template"`
	UserData       string            `api:"userdata" len:"1048576" doc:"user-data, base64; at most 32 KiB decoded"`
	KeyPair        string            `api:"keypair" doc:"name of an SSH key pair of the owner"`
	KeyPairs       []string          `api:"keypairs" since:"4.17" doc:"names of SSH key pairs of the owner"`
	AffinityIDs    []cloud.ID        `api:"affinitygroupids" ref:"affinitygroup,use" since:"4.2" doc:"affinity groups of the owner that it joins"`
	AffinityNames  []string          `api:"affinitygroupnames" since:"4.2" doc:"the same by their names"`
	UserDataID     cloud.ID          `api:"userdataid" ref:"userdata" since:"4.18" doc:"kept user-data of the owner, instead of userdata"`
	UserDataValues map[string]string `api:"userdatadetails,map" since:"4.18" doc:"values of the variables of the user-data, which guests find in their meta-data"`
	HostID         cloud.ID          `api:"hostid" ref:"host" role:"admin" doc:"host it must start on"`
	Hypervisor     string            `api:"hypervisor" doc:"kind of hypervisor; KVM"`
	StartVM        *bool             `api:"startvm" doc:"false leaves it stopped"`
	Details        map[string]string `api:"details,map" since:"4.3" doc:"details to keep with it"`
	Keyboard       string            `api:"keyboard" enum:"de,de-ch,es,fi,fr,fr-be,fr-ch,is,it,jp,nl-be,no,pt,uk,us" doc:"layout of the keyboard of its console"`
	Password       cloud.Secret      `api:"password" since:"4.19" doc:"password instead of a random one, where the template takes passwords"`
}

func (h handlers) deploy() api.Command {
	return api.Command{
		Name: "deployVirtualMachine", Doc: "Makes a VM from a template, and starts it unless told not to.", Roles: api.Everyone,
		Event: "VM.CREATE", Entity: "VirtualMachine", Object: "virtualmachine",
		Run: api.AsyncCreate(func(c *api.Call, tx *store.Tx, p *deployParams) (*api.Start, error) {
			d, err := h.deployment(c, tx, p)
			if err != nil {
				return nil, err
			}
			vm, err := h.Area.Deploy(tx, d)
			if err != nil {
				return nil, err
			}
			c.Describe(vm.ID, "deploying VM "+vm.DisplayName)
			return &api.Start{
				InstanceID: vm.ID, Deadline: startDeadline, Args: args{Start: d.Start, Password: vm.PasswordEpoch},
				Owner: api.Owner{Account: vm.AccountID, Domain: vm.DomainID},
			}, nil
		}),
		Step: h.deployStep, Answer: reflect.TypeFor[Answer](), Result: h.result,
	}
}

// deployment resolves the parameters; references are checked already.
func (h handlers) deployment(c *api.Call, tx *store.Tx, p *deployParams) (*compute.Deployment, error) {
	account, err := c.OwnerFor(p.Account, p.DomainID, p.ProjectID)
	if err != nil {
		return nil, err
	}
	d := &compute.Deployment{
		Account: account, Name: p.Name, DisplayName: p.DisplayName, Group: p.Group, Host: p.HostID,
		Start: p.StartVM == nil || *p.StartVM, RootGiB: p.RootDiskSize, Details: p.Details, Password: string(p.Password),
		By: c.Account.ID, Keyboard: p.Keyboard,
	}
	d.Zone, _ = tables.Zones.Get(tx, p.ZoneID)
	d.Template, _ = tables.Templates.Get(tx, p.TemplateID)
	d.Offering, _ = tables.ServiceOfferings.Get(tx, p.OfferingID)
	switch {
	case d.Zone == nil:
		return nil, api.NoEntity("zoneid", p.ZoneID)
	case d.Template == nil || !d.Template.ZoneID.IsZero() && d.Template.ZoneID != p.ZoneID:
		return nil, cloud.Errorf(cloud.Invalid, "Unable to use template %s in parameter templateid: it is not in zone %s", p.TemplateID, d.Zone.Name)
	case d.Offering == nil || d.Offering.System || d.Offering.Inactive:
		return nil, api.NoEntity("serviceofferingid", p.OfferingID)
	case p.Hypervisor != "" && !strings.EqualFold(p.Hypervisor, "KVM"):
		return nil, cloud.Errorf(cloud.Invalid, "Invalid value %q in parameter hypervisor: accepted is KVM", p.Hypervisor)
	}
	if d.UserData, err = userData(tx, p.UserData, p.UserDataID, p.UserDataValues); err != nil {
		return nil, err
	}
	if d.KeyPairs, err = keyPairs(tx, account, p.KeyPair, p.KeyPairs); err != nil {
		return nil, err
	}
	if d.Affinity, err = affinityGroups(tx, account, p.AffinityIDs, p.AffinityNames); err != nil {
		return nil, err
	}
	if d.DataDisk, err = dataDisk(tx, p); err != nil {
		return nil, err
	}
	d.Networks, err = h.networks(tx, account, d.Zone, p)
	return d, err
}

// keyPairs finds the key pairs of an account by name.
func keyPairs(r store.Reader, account *cloud.Account, one string, more []string) (keys []*cloud.SSHKeyPair, err error) {
	if one != "" {
		more = append([]string{one}, more...)
	}
	for i, name := range more {
		if slices.Contains(more[:i], name) {
			continue
		}
		k, ok := tables.SSHKeyPairs.First(r, "account", store.K(account.ID, name))
		if !ok {
			return nil, cloud.Errorf(cloud.Invalid, "A key pair with name '%s' does not exist for account %s", name, account.Name)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// userData reads what parameters say of user-data.
func userData(r store.Reader, text string, id cloud.ID, values map[string]string) (q compute.UserDataRequest, err error) {
	q.Details = values
	if text != "" {
		if q.Raw, err = compute.DecodeUserData(text); err != nil {
			return q, err
		}
	}
	if !id.IsZero() {
		q.Kept, _ = tables.UserDatas.Get(r, id)
	}
	return q, nil
}

// affinityGroups finds affinity groups of an account by ids or by names.
func affinityGroups(r store.Reader, account *cloud.Account, ids []cloud.ID, names []string) (groups []*cloud.AffinityGroup, err error) {
	if len(ids) > 0 && len(names) > 0 {
		return nil, cloud.Errorf(cloud.Invalid, "affinitygroupids parameter is mutually exclusive with affinitygroupnames parameter")
	}
	for _, id := range ids {
		g, ok := tables.AffinityGroups.Get(r, id)
		if !ok || !compute.MayJoin(r, account.ID, account.DomainID, g) {
			return nil, api.NoEntity("affinitygroupids", id)
		}
		groups = append(groups, g)
	}
	for _, name := range names {
		g, ok := compute.FindAffinityGroup(r, account, name)
		if !ok {
			return nil, cloud.Errorf(cloud.Invalid, "Unable to find group by name %s for account %s", name, account.Name)
		}
		groups = append(groups, g)
	}
	return groups, nil
}

func dataDisk(r store.Reader, p *deployParams) (*compute.DataDisk, error) {
	if p.DiskOfferingID.IsZero() {
		return nil, nil
	}
	o, ok := tables.DiskOfferings.Get(r, p.DiskOfferingID)
	if !ok || o.Inactive {
		return nil, api.NoEntity("diskofferingid", p.DiskOfferingID)
	}
	if len(o.ZoneIDs) > 0 && !slices.Contains(o.ZoneIDs, p.ZoneID) {
		return nil, cloud.Errorf(cloud.Invalid, "Unable to use disk offering %s: it is restricted to other zones", o.Name)
	}
	d := &compute.DataDisk{Offering: o, Bytes: o.SizeBytes}
	if o.Customized {
		if p.Size == 0 {
			return nil, cloud.Errorf(cloud.Invalid, "Disk offering %s requires the parameter size (GiB)", o.Name)
		}
		if err := compute.CustomSize(r, p.Size); err != nil {
			return nil, err
		}
		d.Bytes = p.Size << 30
	}
	return d, nil
}

func (h handlers) networks(r store.Reader, account *cloud.Account, zone *cloud.Zone, p *deployParams) ([]compute.NetworkRequest, error) {
	var wanted []compute.NetworkRequest
	add := func(param string, id cloud.ID, ip netip.Addr, mac string) error {
		n, ok := tables.Networks.Get(r, id)
		if !ok {
			return api.NoEntity(param, id)
		}
		if n.ZoneID != zone.ID {
			return cloud.Errorf(cloud.Invalid, "Network %s in parameter %s is not in zone %s", n.Name, param, zone.Name)
		}
		if n.GuestType == cloud.Isolated && n.AccountID != account.ID {
			return cloud.Errorf(cloud.Denied, "Unable to use network with id= %s, permission denied", id)
		}
		for _, w := range wanted {
			if w.Network.ID == id {
				return cloud.Errorf(cloud.Invalid, "Network %s is given twice in parameter %s", id, param)
			}
		}
		hw, err := parseMAC(mac)
		if err != nil {
			return err
		}
		wanted = append(wanted, compute.NetworkRequest{Network: n, NICRequest: compute.NICRequest{IP: ip, MAC: hw, Default: len(wanted) == 0}})
		return nil
	}
	if len(p.IPToNetwork) > 0 {
		if len(p.NetworkIDs) > 0 || p.IPAddress.IsValid() {
			return nil, cloud.Errorf(cloud.Invalid, "ipToNetworkMap can't be specified along with networkIds or ipAddress")
		}
		for _, e := range p.IPToNetwork {
			if err := add("iptonetworklist", e.NetworkID, e.IP, e.MAC); err != nil {
				return nil, err
			}
		}
		return wanted, nil
	}
	for i, id := range p.NetworkIDs {
		ip, mac := netip.Addr{}, ""
		if i == 0 {
			ip, mac = p.IPAddress, p.MACAddress
		}
		if err := add("networkids", id, ip, mac); err != nil {
			return nil, err
		}
	}
	if len(wanted) > 0 {
		return wanted, nil
	}
	defaults, err := h.DefaultNetworks(r, account, zone)
	if err != nil {
		return nil, err
	}
	for i, n := range defaults {
		req := compute.NICRequest{Default: i == 0}
		if i == 0 {
			req.IP = p.IPAddress
		}
		wanted = append(wanted, compute.NetworkRequest{Network: n, NICRequest: req})
	}
	return wanted, nil
}

// parseMAC reads a unicast MAC address, with colons; "" is 0.
func parseMAC(s string) (uint64, error) {
	if s == "" {
		return 0, nil
	}
	var mac uint64
	parts := strings.Split(s, ":")
	ok := len(parts) == 6
	for _, part := range parts {
		ok = ok && len(part) == 2
		for _, c := range strings.ToLower(part) {
			d := strings.IndexRune("0123456789abcdef", c)
			ok = ok && d >= 0
			mac = mac<<4 | uint64(max(d, 0))
		}
	}
	if !ok || mac == 0 || mac>>40&1 == 1 {
		return 0, cloud.Errorf(cloud.Invalid, "Invalid value %q in parameter macaddress: a unicast MAC address as 02:00:00:00:00:01 is accepted", s)
	}
	return mac, nil
}
