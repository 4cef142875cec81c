package vm

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/capacity"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/compute"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// NICAnswer is one NIC of a VM.
type NICAnswer struct {
	ID           cloud.ID `json:"id" doc:"the NIC"`
	NetworkID    cloud.ID `json:"networkid" doc:"the network it is in"`
	NetworkName  string   `json:"networkname" doc:"that network's name"`
	Netmask      string   `json:"netmask" doc:"netmask of the network"`
	Gateway      string   `json:"gateway" doc:"gateway of the network"`
	IPAddress    string   `json:"ipaddress" doc:"IPv4 address"`
	IsolationURI string   `json:"isolationuri,omitempty" doc:"isolation of the network, as vxlan://number"`
	BroadcastURI string   `json:"broadcasturi,omitempty" doc:"the same, as broadcast domain"`
	TrafficType  string   `json:"traffictype" doc:"kind of traffic"`
	Type         string   `json:"type" doc:"kind of network"`
	IsDefault    bool     `json:"isdefault" doc:"true for the NIC with the default route"`
	MACAddress   string   `json:"macaddress" doc:"MAC address"`
	DeviceID     string   `json:"deviceid" doc:"position among the VM's NICs"`
	MTU          int64    `json:"mtu,omitempty" doc:"largest packet of the network, in bytes"`
	VMID         cloud.ID `json:"virtualmachineid" doc:"the VM"`
	// Empty lists that typed clients expect to find.
	SecondaryIP []string `json:"secondaryip" doc:"further IPv4 addresses"`
}

// UsageAnswer is what a running VM uses, as its host has reported it last.
type UsageAnswer struct {
	CPUUsed         string `json:"cpuused,omitempty" doc:"use of its vCPUs in percent"`
	MemoryKBs       int64  `json:"memorykbs,omitempty" doc:"memory in use, in KiB"`
	NetworkKBsRead  int64  `json:"networkkbsread,omitempty" doc:"received, in KiB"`
	NetworkKBsWrite int64  `json:"networkkbswrite,omitempty" doc:"sent, in KiB"`
	DiskKBsRead     int64  `json:"diskkbsread,omitempty" doc:"read from disks, in KiB"`
	DiskKBsWrite    int64  `json:"diskkbswrite,omitempty" doc:"written to disks, in KiB"`
	DiskIORead      int64  `json:"diskioread,omitempty" doc:"read operations"`
	DiskIOWrite     int64  `json:"diskiowrite,omitempty" doc:"write operations"`
}

// Answer is a VM as clients see it.
type Answer struct {
	ID          cloud.ID `json:"id" doc:"the VM"`
	Name        string   `json:"name" doc:"host name"`
	DisplayName string   `json:"displayname" doc:"name for people"`
	Account     string   `json:"account,omitempty" doc:"owning account"`
	api.InProject
	DomainID            cloud.ID `json:"domainid" doc:"domain of the owner"`
	Domain              string   `json:"domain" doc:"name of that domain"`
	DomainPath          string   `json:"domainpath" doc:"path of that domain"`
	Created             api.Time `json:"created" doc:"when it was deployed"`
	State               string   `json:"state" doc:"Running, Starting, Stopping, Stopped, Migrating, Destroyed, Expunging or Error"`
	HAEnable            bool     `json:"haenable" doc:"true where it is restarted when it dies by itself"`
	GroupID             cloud.ID `json:"groupid,omitempty" doc:"its instance group"`
	Group               string   `json:"group,omitempty" doc:"name of that group"`
	ZoneID              cloud.ID `json:"zoneid" doc:"the zone"`
	ZoneName            string   `json:"zonename" doc:"name of the zone"`
	HostID              cloud.ID `json:"hostid,omitempty" doc:"host it runs on (admins)"`
	HostName            string   `json:"hostname,omitempty" doc:"name of that host (admins)"`
	TemplateID          cloud.ID `json:"templateid" doc:"template it was made from"`
	TemplateName        string   `json:"templatename" doc:"name of the template"`
	TemplateDisplayText string   `json:"templatedisplaytext" doc:"description of the template"`
	PasswordEnabled     bool     `json:"passwordenabled" doc:"true where a password can be set from outside"`
	ServiceOfferingID   cloud.ID `json:"serviceofferingid" doc:"service offering"`
	ServiceOfferingName string   `json:"serviceofferingname" doc:"name of the service offering"`
	ForVirtualNetwork   bool     `json:"forvirtualnetwork" doc:"true where the default network is an isolated one"`
	CPUNumber           int64    `json:"cpunumber" doc:"number of vCPUs"`
	CPUSpeed            int64    `json:"cpuspeed" doc:"speed of each vCPU in MHz"`
	Memory              int64    `json:"memory" doc:"memory in MiB"`
	UsageAnswer         `kept:"no"`
	GuestOSID           cloud.ID          `json:"guestosid,omitempty" doc:"OS type"`
	OSTypeID            cloud.ID          `json:"ostypeid,omitempty" doc:"OS type"`
	OSDisplayName       string            `json:"osdisplayname,omitempty" doc:"name of the OS type"`
	RootDeviceID        int64             `json:"rootdeviceid" doc:"device number of the root disk"`
	RootDeviceType      string            `json:"rootdevicetype" doc:"kind of the root disk"`
	SecurityGroup       []struct{}        `json:"securitygroup" doc:"security groups"`
	AffinityGroup       []AffinityAnswer  `json:"affinitygroup" doc:"affinity groups"`
	Tags                []api.Tag         `json:"tags" doc:"tags"`
	Password            string            `json:"password,omitempty" doc:"its new password, told once to whoever asked for it"`
	NIC                 []NICAnswer       `json:"nic" doc:"its NICs"`
	Hypervisor          string            `json:"hypervisor" doc:"kind of hypervisor"`
	InstanceName        string            `json:"instancename,omitempty" doc:"name on the host (admins)"`
	KeyPair             string            `json:"keypair,omitempty" doc:"SSH key pair it was deployed with"`
	KeyPairs            string            `json:"keypairs,omitempty" doc:"the same, for newer clients"`
	IPAddress           string            `json:"ipaddress,omitempty" doc:"address of the default NIC"`
	PublicIP            string            `json:"publicip,omitempty" doc:"public address that leads to it as a whole (static NAT)"`
	PublicIPID          cloud.ID          `json:"publicipid,omitempty" doc:"that address"`
	Details             map[string]string `json:"details,omitempty" doc:"details given at deployment"`
	DisplayVM           bool              `json:"displayvm" doc:"always true"`
	DynamicScaling      bool              `json:"isdynamicallyscalable" doc:"true where CPU and memory can change while it runs"`
	UserData            string            `json:"userdata,omitempty" doc:"user-data, base64 (only when asked for)"`
	UserDataID          cloud.ID          `json:"userdataid,omitempty" doc:"kept user-data it was deployed with"`
	UserDataName        string            `json:"userdataname,omitempty" doc:"name of that user-data"`
	UserDataPolicy      string            `json:"userdatapolicy,omitempty" doc:"what its template does with user-data of VMs"`
	UserDataDetails     string            `json:"userdatadetails,omitempty" doc:"values of the variables of its user-data, as name=value, separated by commas"`
	ServiceState        string            `json:"servicestate,omitempty" doc:"why the last start failed"`
	api.Remarked        `of:"virtualmachine"`
}

// AffinityAnswer is an affinity group of a VM.
type AffinityAnswer struct {
	ID          cloud.ID `json:"id" doc:"the group"`
	Name        string   `json:"name" doc:"its name"`
	Description string   `json:"description" doc:"its description"`
	Type        string   `json:"type" doc:"its rule"`
	Account     string   `json:"account,omitempty" doc:"owning account"`
	DomainID    cloud.ID `json:"domainid" doc:"domain of the owner"`
	Domain      string   `json:"domain" doc:"name of that domain"`
}

func affinityAnswers(r store.Reader, vm cloud.ID) []AffinityAnswer {
	out := []AffinityAnswer{}
	for _, g := range compute.AffinityOf(r, vm) {
		a := AffinityAnswer{ID: g.ID, Name: g.Name, Description: g.Description, Type: g.Type.String(), DomainID: g.DomainID}
		a.Account, _ = api.OwnerNames(r, g.AccountID)
		if d, ok := tables.Domains.Get(r, g.DomainID); ok {
			a.Domain = d.Name
		}
		out = append(out, a)
	}
	return out
}

// addGroups tells the instance group and the kept user-data.
func (a *Answer) addGroups(r store.Reader, vm *cloud.VM) {
	if g, ok := tables.InstanceGroups.Get(r, vm.GroupID); ok {
		a.GroupID, a.Group = g.ID, g.Name
	}
	if u, ok := tables.UserDatas.Get(r, vm.UserDataID); ok {
		a.UserDataID, a.UserDataName = u.ID, u.Name
	}
	for _, k := range slices.Sorted(maps.Keys(vm.UserDataDetails)) {
		if a.UserDataDetails != "" {
			a.UserDataDetails += ","
		}
		a.UserDataDetails += k + "=" + vm.UserDataDetails[k]
	}
}

// Viewer says what a view may show.
type Viewer struct {
	// Admin shows the host and the instance name.
	Admin bool
	// NICs and Stats can be left out by the details parameter.
	NoNICs bool
	Usage  *hostspec.VmUsage
}

// View makes the answer of one VM.
func View(r store.Reader, vm *cloud.VM, v Viewer) Answer {
	a := Answer{
		ID: vm.ID, Name: vm.Name, DisplayName: vm.DisplayName, DomainID: vm.DomainID, Created: api.Time(vm.Created),
		State: vm.State.String(), HAEnable: vm.HA, Group: vm.Group, ZoneID: vm.ZoneID, TemplateID: vm.TemplateID,
		PasswordEnabled: vm.PasswordEnabled, ServiceOfferingID: vm.OfferingID, CPUNumber: int64(vm.CPUs), CPUSpeed: int64(vm.CPUMHz),
		Memory: int64(vm.MemoryMiB), GuestOSID: vm.OSTypeID, OSTypeID: vm.OSTypeID, RootDeviceType: "ROOT", Hypervisor: vm.Hypervisor,
		KeyPair: vm.KeyPair, KeyPairs: vm.KeyPair, Details: vm.Details, DisplayVM: true, DynamicScaling: vm.DynamicScaling,
		ServiceState: vm.Error, SecurityGroup: []struct{}{}, AffinityGroup: affinityAnswers(r, vm.ID), Tags: api.TagsOf(r, vm.ID), NIC: []NICAnswer{},
	}
	a.Account, a.InProject = api.OwnerNames(r, vm.AccountID)
	if d, ok := tables.Domains.Get(r, vm.DomainID); ok {
		a.Domain, a.DomainPath = d.Name, d.Path
	}
	if z, ok := tables.Zones.Get(r, vm.ZoneID); ok {
		a.ZoneName = z.Name
	}
	if t, ok := tables.Templates.Get(r, vm.TemplateID); ok {
		a.TemplateName, a.TemplateDisplayText = t.Name, t.DisplayText
		if !t.UserDataID.IsZero() {
			a.UserDataPolicy = t.UserDataPolicy.String()
		}
	}
	if o, ok := tables.ServiceOfferings.Get(r, vm.OfferingID); ok {
		a.ServiceOfferingName = o.Name
	}
	if t, ok := tables.OSTypes.Get(r, vm.OSTypeID); ok {
		a.OSDisplayName = t.Description
	}
	if v.Admin {
		a.InstanceName = vm.InstanceName
		if h, ok := tables.Hosts.Get(r, vm.HostID); ok {
			a.HostID, a.HostName = h.ID, h.Name
		}
	}
	a.addGroups(r, vm)
	a.addNICs(r, vm, v)
	if ip, ok := tables.PublicIPs.First(r, "vm", store.K(vm.ID)); ok {
		a.PublicIP, a.PublicIPID = ip.Address.String(), ip.ID
	}
	a.UsageAnswer = usageAnswer(v.Usage)
	return a
}

func (a *Answer) addNICs(r store.Reader, vm *cloud.VM, v Viewer) {
	for nic := range tables.NICs.By(r, "vm", store.K(vm.ID)) {
		n := viewNIC(r, nic)
		if nic.Default {
			a.IPAddress, a.ForVirtualNetwork = n.IPAddress, n.Type == cloud.Isolated.String()
		}
		if !v.NoNICs {
			a.NIC = append(a.NIC, n)
		}
	}
}

func usageAnswer(u *hostspec.VmUsage) UsageAnswer {
	if u == nil {
		return UsageAnswer{}
	}
	return UsageAnswer{
		CPUUsed: strconv.FormatFloat(u.GetCpuPercent(), 'f', 2, 64) + "%", MemoryKBs: int64(u.GetMemoryKib()),
		NetworkKBsRead: int64(u.GetNetworkRxKib()), NetworkKBsWrite: int64(u.GetNetworkTxKib()),
		DiskKBsRead: int64(u.GetDiskReadKib()), DiskKBsWrite: int64(u.GetDiskWriteKib()),
		DiskIORead: int64(u.GetDiskReadOps()), DiskIOWrite: int64(u.GetDiskWriteOps()),
	}
}

// MetricsAnswer is a VM with what it has and uses in larger units. What its host has not reported is left out.
type MetricsAnswer struct {
	Answer
	CPUTotal      string `json:"cputotal" doc:"speed of all its vCPUs together, in GHz"`
	MemoryTotal   string `json:"memorytotal" doc:"its memory, in GiB"`
	NetworkRead   string `json:"networkread,omitempty" doc:"received, in MiB"`
	NetworkWrite  string `json:"networkwrite,omitempty" doc:"sent, in MiB"`
	DiskRead      string `json:"diskread,omitempty" doc:"read from disks, in MiB"`
	DiskWrite     string `json:"diskwrite,omitempty" doc:"written to disks, in MiB"`
	DiskIOPSTotal *int64 `json:"diskiopstotal,omitempty" doc:"read and write operations together"`
}

func metricsOf(a Answer) MetricsAnswer {
	m := MetricsAnswer{
		Answer: a, CPUTotal: strconv.FormatFloat(float64(a.CPUNumber*a.CPUSpeed)/1000, 'f', 1, 64) + " Ghz", MemoryTotal: capacity.GiB(uint64(a.Memory) << 20),
	}
	if a.CPUUsed == "" {
		return m // nothing was reported, or nobody asked for it
	}
	mib := func(kib int64) string { return strconv.FormatFloat(float64(kib)/1024, 'f', 2, 64) + " MiB" }
	operations := a.DiskIORead + a.DiskIOWrite
	m.NetworkRead, m.NetworkWrite, m.DiskRead, m.DiskWrite = mib(a.NetworkKBsRead), mib(a.NetworkKBsWrite), mib(a.DiskKBsRead), mib(a.DiskKBsWrite)
	m.DiskIOPSTotal = &operations
	return m
}

func viewNIC(r store.Reader, nic *cloud.NIC) NICAnswer {
	a := NICAnswer{
		ID: nic.ID, NetworkID: nic.NetworkID, IsDefault: nic.Default, MACAddress: compute.MACString(nic.MAC), TrafficType: "Guest",
		DeviceID: strconv.FormatUint(uint64(nic.DeviceID), 10), VMID: nic.VMID, SecondaryIP: []string{},
	}
	if nic.IP.IsValid() {
		a.IPAddress = nic.IP.String()
	}
	n, ok := tables.Networks.Get(r, nic.NetworkID)
	if !ok {
		return a
	}
	a.NetworkName, a.Type, a.MTU = n.Name, n.GuestType.String(), int64(n.MTU)
	if n.Gateway.IsValid() {
		a.Gateway = n.Gateway.String()
	}
	if n.CIDR.IsValid() {
		a.Netmask = Netmask(n.CIDR)
	}
	if n.Segment != 0 {
		a.BroadcastURI = fmt.Sprintf("%s://%d", map[string]string{"VXLAN": "vxlan", "VLAN": "vlan"}[n.Isolation], n.Segment)
		a.IsolationURI = a.BroadcastURI
	}
	return a
}

// Netmask is the dotted netmask of an IPv4 prefix.
func Netmask(p netip.Prefix) string {
	m := ^uint32(0) << (32 - p.Bits())
	return netip.AddrFrom4([4]byte{byte(m >> 24), byte(m >> 16), byte(m >> 8), byte(m)}).String()
}
