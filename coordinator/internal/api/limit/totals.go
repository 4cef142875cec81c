package limit

import (
	"strconv"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// Totals are the limits and counts of an account or domain: limits and what is left as texts, "Unlimited" among them.
type Totals struct {
	VMLimit                   string `json:"vmlimit" doc:"most virtual machines"`
	VMTotal                   int64  `json:"vmtotal" doc:"virtual machines"`
	VMAvailable               string `json:"vmavailable" doc:"virtual machines left"`
	IPLimit                   string `json:"iplimit" doc:"most public addresses"`
	IPTotal                   int64  `json:"iptotal" doc:"public addresses"`
	IPAvailable               string `json:"ipavailable" doc:"public addresses left"`
	VolumeLimit               string `json:"volumelimit" doc:"most volumes"`
	VolumeTotal               int64  `json:"volumetotal" doc:"volumes"`
	VolumeAvailable           string `json:"volumeavailable" doc:"volumes left"`
	SnapshotLimit             string `json:"snapshotlimit" doc:"most snapshots"`
	SnapshotTotal             int64  `json:"snapshottotal" doc:"snapshots"`
	SnapshotAvailable         string `json:"snapshotavailable" doc:"snapshots left"`
	TemplateLimit             string `json:"templatelimit" doc:"most templates"`
	TemplateTotal             int64  `json:"templatetotal" doc:"templates"`
	TemplateAvailable         string `json:"templateavailable" doc:"templates left"`
	ProjectLimit              string `json:"projectlimit" doc:"most projects"`
	ProjectTotal              int64  `json:"projecttotal" doc:"projects"`
	ProjectAvailable          string `json:"projectavailable" doc:"projects left"`
	NetworkLimit              string `json:"networklimit" doc:"most guest networks"`
	NetworkTotal              int64  `json:"networktotal" doc:"guest networks"`
	NetworkAvailable          string `json:"networkavailable" doc:"guest networks left"`
	VPCLimit                  string `json:"vpclimit" doc:"most VPCs"`
	VPCTotal                  int64  `json:"vpctotal" doc:"VPCs"`
	VPCAvailable              string `json:"vpcavailable" doc:"VPCs left"`
	CPULimit                  string `json:"cpulimit" doc:"most virtual processors"`
	CPUTotal                  int64  `json:"cputotal" doc:"virtual processors"`
	CPUAvailable              string `json:"cpuavailable" doc:"virtual processors left"`
	MemoryLimit               string `json:"memorylimit" doc:"most memory in MiB"`
	MemoryTotal               int64  `json:"memorytotal" doc:"memory in MiB"`
	MemoryAvailable           string `json:"memoryavailable" doc:"memory left in MiB"`
	PrimaryStorageLimit       string `json:"primarystoragelimit" doc:"most primary storage in GiB"`
	PrimaryStorageTotal       int64  `json:"primarystoragetotal" doc:"primary storage in GiB"`
	PrimaryStorageAvailable   string `json:"primarystorageavailable" doc:"primary storage left in GiB"`
	SecondaryStorageLimit     string `json:"secondarystoragelimit" doc:"most secondary storage in GiB"`
	SecondaryStorageTotal     int64  `json:"secondarystoragetotal" doc:"secondary storage in GiB"`
	SecondaryStorageAvailable string `json:"secondarystorageavailable" doc:"secondary storage left in GiB"`
}

// OfAccount gives an account's totals.
func OfAccount(r store.Reader, a *cloud.Account) Totals {
	return totals(r, a.ID, func(t cloud.ResourceType) int64 { return identity.Limit(r, a, t) })
}

// OfDomain gives a domain's totals, all below it included.
func OfDomain(r store.Reader, d *cloud.Domain) Totals {
	return totals(r, d.ID, func(t cloud.ResourceType) int64 { return identity.DomainLimit(r, d.ID, t) })
}

func totals(r store.Reader, owner cloud.ID, most func(cloud.ResourceType) int64) (v Totals) {
	for _, f := range []struct {
		t     cloud.ResourceType
		limit *string
		total *int64
		left  *string
	}{
		{cloud.ResourceVM, &v.VMLimit, &v.VMTotal, &v.VMAvailable},
		{cloud.ResourcePublicIP, &v.IPLimit, &v.IPTotal, &v.IPAvailable},
		{cloud.ResourceVolume, &v.VolumeLimit, &v.VolumeTotal, &v.VolumeAvailable},
		{cloud.ResourceSnapshot, &v.SnapshotLimit, &v.SnapshotTotal, &v.SnapshotAvailable},
		{cloud.ResourceTemplate, &v.TemplateLimit, &v.TemplateTotal, &v.TemplateAvailable},
		{cloud.ResourceProject, &v.ProjectLimit, &v.ProjectTotal, &v.ProjectAvailable},
		{cloud.ResourceNetwork, &v.NetworkLimit, &v.NetworkTotal, &v.NetworkAvailable},
		{cloud.ResourceVPC, &v.VPCLimit, &v.VPCTotal, &v.VPCAvailable},
		{cloud.ResourceCPU, &v.CPULimit, &v.CPUTotal, &v.CPUAvailable},
		{cloud.ResourceMemory, &v.MemoryLimit, &v.MemoryTotal, &v.MemoryAvailable},
		{cloud.ResourcePrimaryStorage, &v.PrimaryStorageLimit, &v.PrimaryStorageTotal, &v.PrimaryStorageAvailable},
		{cloud.ResourceSecondaryStorage, &v.SecondaryStorageLimit, &v.SecondaryStorageTotal, &v.SecondaryStorageAvailable},
	} {
		*f.total = identity.Counted(r, owner, f.t)
		*f.limit, *f.left = "Unlimited", "Unlimited"
		if n := most(f.t); n != identity.Unlimited {
			*f.limit = strconv.FormatInt(n, 10)
			*f.left = strconv.FormatInt(max(n-*f.total, 0), 10)
		}
	}
	return v
}
