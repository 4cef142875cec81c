// Package place chooses the host of a VM: pure filters and one scorer over figures that the caller has gathered.
//
// It knows no rows and no clock, so that the same candidates always give the same choice; the transaction that writes
// the choice also writes the counters, hence two choices cannot take the same room. A refusal tells every host with
// its reason, since "no capacity" alone helps nobody.
package place

import (
	"fmt"
	"slices"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// Pool is a storage pool that a host reaches.
type Pool struct {
	ID    cloud.ID
	Name  string
	Local bool
	Tags  []string
	// Free is what may still be allocated, in bytes, over-provisioning and thresholds included.
	Free uint64
}

// Host is a candidate.
type Host struct {
	ID      cloud.ID
	Name    string
	Zone    cloud.ID
	Pod     cloud.ID
	Cluster cloud.ID
	// Refusal is why the host takes no VMs at all (down, disabled, in maintenance), "" if it does.
	Refusal string
	Tags    []string
	// OSCategory of the guests that an administrator wants on it; zero is any.
	OSCategory cloud.ID
	// Features of its kernel and hypervisor ("vxlan", "kvm").
	Features []string
	// Total and used figures, over-commitment included in the totals.
	CPUMHz, CPUUsed uint64
	MemoryMiB       uint64
	MemoryUsed      uint64
	// CoreMHz is the clock of one core: a VM's vCPU may not ask for more.
	CoreMHz uint64
	Cores   uint32
	VMs     uint32
	Pools   []Pool
}

// Disk is a volume the VM needs.
type Disk struct {
	Volume cloud.ID
	Bytes  uint64
	// Pool is where the volume already is; zero for a new one.
	Pool  cloud.ID
	Local bool
	// Either takes local and shared pools alike.
	Either bool
	Tags   []string
}

func (d *Disk) takes(p *Pool) bool {
	return (d.Either || p.Local == d.Local) && containsAll(p.Tags, d.Tags)
}

// Request is what a VM needs.
type Request struct {
	Zone      cloud.ID
	CPUs      uint32
	CPUMHz    uint32 // of each vCPU
	MemoryMiB uint32
	HostTags  []string
	Features  []string
	Disks     []Disk
	// OSCategory of the guest; zero is not known.
	OSCategory cloud.ID
	// Host pins the choice; zero is any.
	Host cloud.ID
	// Avoid are hosts on which this start failed, with the reasons.
	Avoid map[cloud.ID]string
	// Forbidden are hosts that a rule of the VM's owner excludes, with the reasons.
	Forbidden map[cloud.ID]string
	// Claims are the zone's dedications; nil where there are none.
	Claims *Claims
	// Together names the only hosts that will do; all of them have to agree.
	Together []Together
	// Weights are added to the scores of hosts: positive ones make a host less wanted.
	Weights map[cloud.ID]float64
	// Prefer wins among hosts that fit (the last host: its caches are warm).
	Prefer cloud.ID
	// Emergency: the VM lost its host, and may have what clusters keep free.
	Emergency bool
}

// Together is a set of hosts of which one is to be chosen.
type Together struct {
	Hosts  map[cloud.ID]bool
	Reason string // told of the others
}

// Forbid excludes a host.
func (q *Request) Forbid(host cloud.ID, reason string) {
	if q.Forbidden == nil {
		q.Forbidden = map[cloud.ID]string{}
	}
	q.Forbidden[host] = reason
}

// Weigh makes a host less wanted by w, or with a negative w more.
func (q *Request) Weigh(host cloud.ID, w float64) {
	if q.Weights == nil {
		q.Weights = map[cloud.ID]float64{}
	}
	q.Weights[host] += w
}

// Choice is the answer: a host, and a pool for each disk of the request in order.
type Choice struct {
	Host  cloud.ID
	Pools []cloud.ID
}

// Rejection is one host's reason.
type Rejection struct {
	Host   string
	Reason string
}

// NoCapacity says that no host fits, and why each does not.
type NoCapacity struct {
	Rejections []Rejection
}

// shown is how many hosts an error names one by one; a person reads no longer list.
const shown = 10

func (e *NoCapacity) Error() string {
	if len(e.Rejections) == 0 {
		return "no host can take the VM: the zone has no hosts"
	}
	parts := make([]string, 0, shown+1)
	for i, r := range e.Rejections {
		if i == shown {
			parts = append(parts, fmt.Sprintf("and %d more hosts", len(e.Rejections)-shown))
			break
		}
		parts = append(parts, "host "+r.Host+": "+r.Reason)
	}
	return "no host can take the VM: " + strings.Join(parts, "; ")
}

// Choose picks the emptiest host that fits, by the worse of its CPU and memory fill after placing, then by the number
// of VMs, then by ID. The error is a *NoCapacity.
//
// A host that would not be better than the best so far is not looked at any further, and why hosts do not fit is put into
// words only where none does.
func Choose(fleet *Fleet, req *Request) (Choice, error) {
	hosts := fleet.Hosts
	best, bestScore := -1, 0.0
	var bestPools []cloud.ID
	for i := range hosts {
		h := &hosts[i]
		s := score(h, req)
		if best >= 0 && (s > bestScore || s == bestScore && !before(h, &hosts[best])) || h.Zone != req.Zone || !roomy(h, req) {
			continue
		}
		if pools, reason := fleet.refuse(h, req); reason == "" {
			best, bestScore, bestPools = i, s, pools
		}
	}
	if best < 0 {
		return Choice{}, &NoCapacity{Rejections: rejections(fleet, req)}
	}
	return Choice{Host: hosts[best].ID, Pools: bestPools}, nil
}

// rejections say of each host of the zone why it does not fit, where none does.
func rejections(fleet *Fleet, req *Request) (out []Rejection) {
	for i := range fleet.Hosts {
		if h := &fleet.Hosts[i]; h.Zone == req.Zone {
			_, reason := fleet.refuse(h, req)
			out = append(out, Rejection{Host: h.Name, Reason: reason})
		}
	}
	return out
}

// refuse gives the pools of a host for the request's disks, or why it does not fit.
func (f *Fleet) refuse(h *Host, req *Request) (pools []cloud.ID, reason string) {
	if reason = refuse(h, req); reason != "" {
		return nil, reason
	}
	if c := f.Clusters[h.Cluster]; c != nil && !req.exempt(h.ID) {
		if reason = c.full(req); reason != "" {
			return nil, reason
		}
	}
	return pickPools(h, req.Disks)
}

// roomy tells, in few instructions, of most hosts that are full or take no VMs that refuse would refuse them.
func roomy(h *Host, req *Request) bool {
	return h.Refusal == "" && h.CPUUsed+uint64(req.CPUs)*uint64(req.CPUMHz) <= h.CPUMHz && h.MemoryUsed+uint64(req.MemoryMiB) <= h.MemoryMiB
}

func before(a, b *Host) bool {
	if a.VMs != b.VMs {
		return a.VMs < b.VMs
	}
	return slices.Compare(a.ID[:], b.ID[:]) < 0
}

// categoryBias outweighs any fill: hosts for guests of the OS category come first, those for guests of another one last.
const categoryBias = 1.25

// score is the fill of the scarcer resource after placing, 0..1; the preferred host gets a head start that outweighs
// any fill and OS category.
func score(h *Host, req *Request) float64 {
	s := max(
		float64(h.CPUUsed+uint64(req.CPUs)*uint64(req.CPUMHz))/float64(max(h.CPUMHz, 1)),
		float64(h.MemoryUsed+uint64(req.MemoryMiB))/float64(max(h.MemoryMiB, 1)),
	)
	if h.ID == req.Prefer {
		s -= 4
	}
	if !h.OSCategory.IsZero() && !req.OSCategory.IsZero() {
		if h.OSCategory == req.OSCategory {
			s -= categoryBias
		} else {
			s += categoryBias
		}
	}
	if len(req.Weights) > 0 {
		s += req.Weights[h.ID]
	}
	return s
}

func refuse(h *Host, req *Request) string {
	if !req.Host.IsZero() && h.ID != req.Host {
		return "another host was asked for"
	}
	if h.Refusal != "" {
		return h.Refusal
	}
	if why, ok := req.Avoid[h.ID]; ok {
		return "the VM did not start there: " + why
	}
	if why, ok := req.Forbidden[h.ID]; ok {
		return why
	}
	if why := req.Claims.Refuse(h); why != "" {
		return why
	}
	for _, t := range req.Together {
		if !t.Hosts[h.ID] {
			return t.Reason
		}
	}
	for _, t := range req.HostTags {
		if !slices.Contains(h.Tags, t) {
			return fmt.Sprintf("it has no host tag %q", t)
		}
	}
	for _, f := range req.Features {
		if !slices.Contains(h.Features, f) {
			return fmt.Sprintf("its kernel lacks %s", f)
		}
	}
	if req.CPUs > h.Cores {
		return fmt.Sprintf("%d vCPUs are wanted and it has %d cores", req.CPUs, h.Cores)
	}
	if uint64(req.CPUMHz) > h.CoreMHz {
		return fmt.Sprintf("%d MHz for each vCPU are wanted and its cores run at %d MHz", req.CPUMHz, h.CoreMHz)
	}
	if want := uint64(req.CPUs) * uint64(req.CPUMHz); h.CPUUsed+want > h.CPUMHz {
		return fmt.Sprintf("%d MHz CPU are wanted and %d of %d MHz are free", want, sub(h.CPUMHz, h.CPUUsed), h.CPUMHz)
	}
	if want := uint64(req.MemoryMiB); h.MemoryUsed+want > h.MemoryMiB {
		return fmt.Sprintf("%d MiB memory are wanted and %d of %d MiB are free",
			want, sub(h.MemoryMiB, h.MemoryUsed), h.MemoryMiB)
	}
	return ""
}

func sub(a, b uint64) uint64 {
	if b > a {
		return 0
	}
	return a - b
}

// pickPools gives each disk the fitting pool with the most room, counting what the disks before it took.
func pickPools(h *Host, disks []Disk) ([]cloud.ID, string) {
	pools := make([]cloud.ID, len(disks))
	taken := map[cloud.ID]uint64{}
	for i, d := range disks {
		if !d.Pool.IsZero() {
			if !slices.ContainsFunc(h.Pools, func(p Pool) bool { return p.ID == d.Pool }) {
				return nil, fmt.Sprintf("volume %s is on storage that it does not reach", d.Volume)
			}
			pools[i] = d.Pool
			continue
		}
		best := -1
		for j := range h.Pools {
			p := &h.Pools[j]
			if !d.takes(p) || sub(p.Free, taken[p.ID]) < d.Bytes {
				continue
			}
			if best < 0 || sub(p.Free, taken[p.ID]) > sub(h.Pools[best].Free, taken[h.Pools[best].ID]) {
				best = j
			}
		}
		if best < 0 {
			return nil, whyNoPool(h, d)
		}
		pools[i] = h.Pools[best].ID
		taken[h.Pools[best].ID] += d.Bytes
	}
	return pools, ""
}

func containsAll(have, want []string) bool {
	for _, w := range want {
		if !slices.Contains(have, w) {
			return false
		}
	}
	return true
}

func whyNoPool(h *Host, d Disk) string {
	kind := "shared "
	switch {
	case d.Either:
		kind = ""
	case d.Local:
		kind = "local "
	}
	tags := ""
	if len(d.Tags) > 0 {
		tags = fmt.Sprintf(" with tags %s", strings.Join(d.Tags, ","))
	}
	if !slices.ContainsFunc(h.Pools, func(p Pool) bool { return d.takes(&p) }) {
		return fmt.Sprintf("it has no %sstorage pool%s that is up", kind, tags)
	}
	return fmt.Sprintf("no %sstorage pool%s has %d MiB free", kind, tags, d.Bytes>>20)
}
