package place_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/place"
)

func wideID(kind byte, n int) (id cloud.ID) {
	id[0] = kind
	binary.BigEndian.PutUint32(id[12:], uint32(n))
	return id
}

// benchFleet is n hosts in clusters of twenty with a local and a shared pool each, partly full, half of them tagged.
func benchFleet(n int) *place.Fleet {
	rng := rand.New(rand.NewPCG(1, 2))
	f := &place.Fleet{Clusters: map[cloud.ID]*place.Cluster{}}
	for i := range n {
		cluster := wideID(2, i/20)
		h := place.Host{
			ID: wideID(1, i), Name: fmt.Sprint("host-", i), Zone: wideID(3, 0), Pod: wideID(4, i/100), Cluster: cluster,
			Features: []string{"kvm", "vxlan"}, Cores: 64, CoreMHz: 3000, CPUMHz: 2 * 64 * 3000, MemoryMiB: 512 << 10,
			CPUUsed: rng.Uint64N(64 * 3000), MemoryUsed: rng.Uint64N(500 << 10), VMs: rng.Uint32N(100),
			Pools: []place.Pool{
				{ID: wideID(5, i), Local: true, Tags: []string{"ssd"}, Free: rng.Uint64N(4 << 40)},
				{ID: wideID(6, i/20), Tags: []string{"nfs"}, Free: rng.Uint64N(40 << 40)},
			},
		}
		if i%2 == 0 {
			h.Tags = []string{"fast", "big"}
		}
		f.Hosts = append(f.Hosts, h)
		c := f.Clusters[cluster]
		if c == nil {
			c = &place.Cluster{CPU: place.Share{Limit: 0.95}, Memory: place.Share{Limit: 0.95}}
			f.Clusters[cluster] = c
		}
		c.CPU.Total, c.CPU.Used = c.CPU.Total+h.CPUMHz, c.CPU.Used+h.CPUUsed
		c.Memory.Total, c.Memory.Used = c.Memory.Total+h.MemoryMiB, c.Memory.Used+h.MemoryUsed
	}
	return f
}

// benchRequest asks for everything at once: host and storage tags, features, hosts to keep off and to keep near, dedications,
// two disks.
func benchRequest(n int) *place.Request {
	req := &place.Request{
		Zone: wideID(3, 0), CPUs: 2, CPUMHz: 2000, MemoryMiB: 4096, HostTags: []string{"fast"}, Features: []string{"vxlan"},
		Disks: []place.Disk{{Volume: wideID(7, 0), Bytes: 20 << 30, Local: true, Tags: []string{"ssd"}}, {Volume: wideID(7, 1), Bytes: 100 << 30, Tags: []string{"nfs"}}},
		Avoid: map[cloud.ID]string{wideID(1, 4): "no"}, Prefer: wideID(1, 7),
	}
	for i := range 10 {
		req.Forbid(wideID(1, i*n/10), "a VM of its anti-affinity group is there")
		req.Weigh(wideID(1, i), 0.1)
	}
	return req
}

// BenchmarkP6 is goal P6: the CPU of choosing one of 10,000 hosts with tags, features, avoided and
// weighed hosts and limits of clusters at once; dedications and groups that stay together are not in it.
func BenchmarkP6(b *testing.B) {
	const hosts = 10_000
	fleet, req := benchFleet(hosts), benchRequest(hosts)
	var u syscall.Rusage
	cpu := func() time.Duration {
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	began, n := cpu(), 0
	b.ReportAllocs()
	for b.Loop() {
		if _, err := place.Choose(fleet, req); err != nil {
			b.Fatal(err)
		}
		n++
	}
	took := float64((cpu() - began).Nanoseconds()) / 1e3 / float64(n)
	b.ReportMetric(took, "cpu-us/op")
	b.Logf("P6 placement among %d hosts: %.1f us of CPU, %.2f of the goal of 18", hosts, took, took/18)
}
