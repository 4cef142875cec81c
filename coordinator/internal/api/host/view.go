package host

import (
	"reflect"
	"strconv"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/capacity"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Answer is a host as clients see it. Memory is in bytes, CPU speed in MHz.
type Answer struct {
	ID                 cloud.ID          `json:"id" doc:"the host"`
	Name               string            `json:"name" doc:"its name"`
	State              string            `json:"state" doc:"whether its agent is heard from: Connecting, Up, Disconnected, Alert, Down or Removed"`
	ResourceState      string            `json:"resourcestate" doc:"what is wanted with it: Pending, Enabled, Disabled, PrepareForMaintenance, ErrorInMaintenance or Maintenance"`
	Type               string            `json:"type" doc:"Routing: it runs VMs"`
	IPAddress          string            `json:"ipaddress" doc:"address that other hosts reach it at; empty until it has told one"`
	ZoneID             cloud.ID          `json:"zoneid,omitempty" doc:"its zone"`
	ZoneName           string            `json:"zonename,omitempty" doc:"name of that zone"`
	PodID              cloud.ID          `json:"podid,omitempty" doc:"its pod"`
	PodName            string            `json:"podname,omitempty" doc:"name of that pod"`
	ClusterID          cloud.ID          `json:"clusterid,omitempty" doc:"its cluster"`
	ClusterName        string            `json:"clustername,omitempty" doc:"name of that cluster"`
	ClusterType        string            `json:"clustertype,omitempty" doc:"who manages that cluster"`
	Version            string            `json:"version,omitempty" doc:"version of its agent"`
	Hypervisor         string            `json:"hypervisor" doc:"its hypervisor"`
	HypervisorVersion  string            `json:"hypervisorversion,omitempty" doc:"version of its hypervisor"`
	Arch               string            `json:"arch,omitempty" doc:"its processor architecture"`
	Capabilities       string            `json:"capabilities,omitempty" doc:"what it can do"`
	CPUNumber          uint32            `json:"cpunumber" doc:"number of its CPUs"`
	CPUSpeed           uint32            `json:"cpuspeed" doc:"speed of one CPU in MHz"`
	CPUAllocated       string            `json:"cpuallocated,omitempty" doc:"percentage of its CPU that VMs were given"`
	CPUUsed            string            `json:"cpuused,omitempty" doc:"percentage of its CPU in use"`
	CPUWithOver        string            `json:"cpuwithoverprovisioning,omitempty" doc:"MHz of CPU that may be given to VMs"`
	MemoryTotal        *uint64           `json:"memorytotal,omitempty" doc:"bytes of memory"`
	MemoryAllocated    *uint64           `json:"memoryallocated,omitempty" doc:"bytes of memory that VMs were given"`
	MemoryUsed         *uint64           `json:"memoryused,omitempty" doc:"bytes of memory in use"`
	MemoryWithOver     string            `json:"memorywithoverprovisioning,omitempty" doc:"bytes of memory that may be given to VMs"`
	NetworkKbsRead     *uint64           `json:"networkkbsread,omitempty" doc:"KiB received"`
	NetworkKbsWrite    *uint64           `json:"networkkbswrite,omitempty" doc:"KiB sent"`
	LocalStorageActive bool              `json:"islocalstorageactive" doc:"whether it has primary storage of its own"`
	HostTags           string            `json:"hosttags,omitempty" doc:"its tags"`
	HAHost             bool              `json:"hahost" doc:"whether it is kept for restarted VMs"`
	OSCategoryID       cloud.ID          `json:"oscategoryid,omitempty" doc:"guest OS category preferred on it"`
	OSCategoryName     string            `json:"oscategoryname,omitempty" doc:"name of that category"`
	Events             string            `json:"events,omitempty" doc:"what may happen to its state next"`
	Details            map[string]string `json:"details,omitempty" doc:"further facts: kvm, kernel, cpumodel, features, missingfeatures, certificate_expires"`
	Created            api.Time          `json:"created,omitempty" doc:"when it joined"`
	LastPinged         api.Time          `json:"lastpinged,omitempty" doc:"when it was linked or last measured"`
	Disconnected       api.Time          `json:"disconnected,omitempty" doc:"since when it is not heard from"`
	Annotation         string            `json:"annotation,omitempty" doc:"the last remark that was left at it"`
	LastAnnotated      api.Time          `json:"lastannotated,omitempty" doc:"when that was"`
	Username           string            `json:"username,omitempty" doc:"who it was"`
	api.Remarked       `of:"host"`
}

var answerType = reflect.TypeFor[Answer]()

// parts of an answer that details= asks for.
type parts struct{ capacity, stats, events bool }

var everything = parts{true, true, true}

func view(c *api.Call, h *cloud.Host, d parts) Answer {
	return viewOf(c.Read, capacity.Factors(c), h, d)
}

// settingsFactors is capacity.Factors where there is no call.
func settingsFactors(s settings.View) infra.Factors {
	return infra.Factors{
		CPU: s.Float("cpu.overprovisioning.factor"), Memory: s.Float("mem.overprovisioning.factor"),
		Storage: s.Float("storage.overprovisioning.factor"),
	}
}

func viewOf(r store.Reader, f infra.Factors, h *cloud.Host, d parts) Answer {
	a := Answer{
		ID: h.ID, Name: h.Name, State: h.Status.String(), ResourceState: h.ResourceState.String(), Type: "Routing", ZoneID: h.ZoneID,
		PodID: h.PodID, ClusterID: h.ClusterID, Version: h.AgentVersion, Hypervisor: infra.Hypervisor, Arch: h.Architecture,
		CPUNumber: h.CPUs, CPUSpeed: h.CPUMHz, Capabilities: "hvm", LocalStorageActive: tables.StoragePools.Count(r, "host", store.K(h.ID)) > 0,
		Created: api.Time(h.Created), Disconnected: api.Time(h.Disconnected), Details: facts(h),
		HAHost: infra.KeptForHA(r)(h.Tags),
	}
	if h.IP.IsValid() {
		a.IPAddress = h.IP.String()
	}
	if n, ok := infra.LastNote(r, h.ID); ok {
		a.Annotation, a.LastAnnotated, a.Username = n.Text, api.Time(n.Created), n.Username
	}
	usage, measured := tables.HostUsages.Get(r, h.ID)
	if a.LastPinged = api.Time(h.Connected); measured && usage.Observed.After(h.Connected) {
		a.LastPinged = api.Time(usage.Observed)
	}
	if d.capacity || d.stats || d.events {
		names(r, h, &a)
	}
	if d.capacity {
		allocated(r, f, h, &a)
	}
	if d.stats && measured {
		used := usage.MemoryUsedMiB << 20
		a.CPUUsed, a.MemoryUsed = capacity.Percent(usage.CPUPercent)+"%", &used
		a.NetworkKbsRead, a.NetworkKbsWrite = &usage.NetworkRxKiB, &usage.NetworkTxKiB
	}
	if d.events {
		a.Events = eventsOf[h.Status]
	}
	return a
}

// eventsOf lists what may happen next, by status, in 4.1's words.
var eventsOf = map[cloud.HostStatus]string{
	cloud.HostConnecting:   "AgentConnected; AgentDisconnected; Ready; ShutdownRequested",
	cloud.HostUp:           "AgentDisconnected; AgentConnected; Ping; PingTimeout; ShutdownRequested; ManagementServerDown; HostDown",
	cloud.HostDisconnected: "AgentConnected; Ping; WaitedTooLong; Remove",
	cloud.HostAlert:        "AgentConnected; Ping; HostDown; Remove",
	cloud.HostDown:         "AgentConnected; Remove",
}

func names(r store.Reader, h *cloud.Host, a *Answer) {
	if z, ok := tables.Zones.Get(r, h.ZoneID); ok {
		a.ZoneName = z.Name
	}
	if p, ok := tables.Pods.Get(r, h.PodID); ok {
		a.PodName = p.Name
	}
	if k, ok := tables.Clusters.Get(r, h.ClusterID); ok {
		a.ClusterName, a.ClusterType = k.Name, k.Type
	}
	if o, ok := tables.OSCategories.Get(r, h.OSCategoryID); ok {
		a.OSCategoryID, a.OSCategoryName = o.ID, o.Name
	}
}

func allocated(r store.Reader, f infra.Factors, h *cloud.Host, a *Answer) {
	f = infra.FactorsOf(r, h.ClusterID, f)
	given := infra.HostAllocated(r, h.ID)
	mhz := float64(h.CPUs) * float64(h.CPUMHz)
	percent := 0.0
	if mhz > 0 {
		percent = float64(given.CPUMHz) / mhz * 100
	}
	total, allocated := h.MemoryMiB<<20, given.MemoryMiB<<20
	a.CPUAllocated, a.MemoryTotal, a.MemoryAllocated = capacity.Percent(percent)+"%", &total, &allocated
	a.CPUWithOver = strconv.FormatFloat(mhz*f.CPU, 'f', 1, 64)
	a.MemoryWithOver = strconv.FormatUint(uint64(float64(h.MemoryMiB)*f.Memory)<<20, 10)
	a.HostTags, a.HypervisorVersion = split(h.Tags), h.HypervisorVersion
}

// facts are what an agent says of its host and no field is there for.
func facts(h *cloud.Host) map[string]string {
	m := map[string]string{"kvm": strconv.FormatBool(h.KVM)}
	for k, v := range map[string]string{
		"kernel": h.KernelVersion, "cpumodel": h.CPUModel, "features": split(h.Features), "missingfeatures": split(h.MissingFeatures),
	} {
		if v != "" {
			m[k] = v
		}
	}
	if !h.CertificateExpires.IsZero() {
		m["certificate_expires"] = h.CertificateExpires.UTC().Format(time.RFC3339)
	}
	return m
}
