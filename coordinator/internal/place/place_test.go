package place_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/place"
)

func id(n byte) cloud.ID { return cloud.ID{15: n} }

func host(n byte, edit func(*place.Host)) place.Host {
	h := place.Host{
		ID: id(n), Name: string('a' + rune(n) - 1), Zone: id(100), Cores: 4, CoreMHz: 2000, CPUMHz: 8000, MemoryMiB: 8192,
		Features: []string{"vxlan"},
		Pools:    []place.Pool{{ID: id(n + 50), Local: true, Free: 100 << 30}},
	}
	if edit != nil {
		edit(&h)
	}
	return h
}

func TestChoose(t *testing.T) {
	small := place.Request{Zone: id(100), CPUs: 1, CPUMHz: 500, MemoryMiB: 512, Disks: []place.Disk{{Volume: id(9), Bytes: 1 << 30, Local: true}}}
	with := func(edit func(*place.Request)) place.Request { r := small; edit(&r); return r }
	tests := []struct {
		name  string
		hosts []place.Host
		req   place.Request
		want  place.Choice
		err   string
	}{
		{
			name:  "the emptier host",
			hosts: []place.Host{host(1, func(h *place.Host) { h.MemoryUsed = 4096 }), host(2, nil)},
			req:   small, want: place.Choice{Host: id(2), Pools: []cloud.ID{id(52)}},
		},
		{
			name:  "equal fill: fewer VMs, then the lower id",
			hosts: []place.Host{host(1, func(h *place.Host) { h.VMs = 1 }), host(3, nil), host(2, nil)},
			req:   small, want: place.Choice{Host: id(2), Pools: []cloud.ID{id(52)}},
		},
		{
			name:  "the preferred host although fuller",
			hosts: []place.Host{host(1, func(h *place.Host) { h.MemoryUsed = 4096 }), host(2, nil)},
			req:   with(func(r *place.Request) { r.Prefer = id(1) }), want: place.Choice{Host: id(1), Pools: []cloud.ID{id(51)}},
		},
		{
			name: "a host for guests of its category although fuller, then one for any",
			hosts: []place.Host{
				host(1, func(h *place.Host) { h.OSCategory = id(31) }),
				host(2, nil),
				host(3, func(h *place.Host) { h.OSCategory, h.MemoryUsed = id(30), 7000 }),
			},
			req: with(func(r *place.Request) { r.OSCategory = id(30) }), want: place.Choice{Host: id(3), Pools: []cloud.ID{id(53)}},
		},
		{
			name: "a host for any guests rather than one for another category, and that rather than none",
			hosts: []place.Host{
				host(1, func(h *place.Host) { h.OSCategory = id(31) }),
				host(2, func(h *place.Host) { h.MemoryUsed = 7000 }),
			},
			req: with(func(r *place.Request) { r.OSCategory = id(30) }), want: place.Choice{Host: id(2), Pools: []cloud.ID{id(52)}},
		},
		{
			name:  "the only host, for another category",
			hosts: []place.Host{host(1, func(h *place.Host) { h.OSCategory = id(31) })},
			req:   with(func(r *place.Request) { r.OSCategory = id(30) }), want: place.Choice{Host: id(1), Pools: []cloud.ID{id(51)}},
		},
		{
			name: "its last host, for another category",
			hosts: []place.Host{
				host(1, func(h *place.Host) { h.OSCategory, h.MemoryUsed = id(31), 7000 }),
				host(2, func(h *place.Host) { h.OSCategory = id(30) }),
			},
			req: with(func(r *place.Request) { r.OSCategory, r.Prefer = id(30), id(1) }), want: place.Choice{Host: id(1), Pools: []cloud.ID{id(51)}},
		},
		{
			name:  "a volume pins its host",
			hosts: []place.Host{host(1, nil), host(2, func(h *place.Host) { h.MemoryUsed = 7000 })},
			req: with(func(r *place.Request) {
				r.Disks = []place.Disk{{Volume: id(9), Bytes: 1, Pool: id(52), Local: true}}
			}),
			want: place.Choice{Host: id(2), Pools: []cloud.ID{id(52)}},
		},
		{
			name:  "other zones do not count",
			hosts: []place.Host{host(1, func(h *place.Host) { h.Zone = id(101) })},
			req:   small, err: "no host can take the VM: the zone has no hosts",
		},
		{
			name: "every reason is told",
			hosts: []place.Host{
				host(1, func(h *place.Host) { h.Refusal = "it is Down" }),
				host(2, func(h *place.Host) { h.MemoryUsed = 8000 }),
				host(3, func(h *place.Host) { h.CPUUsed = 7900 }),
				host(4, func(h *place.Host) { h.Pools = nil }),
				host(5, func(h *place.Host) { h.Pools[0].Free = 1 }),
				host(6, func(h *place.Host) { h.Features = nil }),
				host(7, nil),
				host(8, func(h *place.Host) { h.Tags = nil; h.CoreMHz = 100 }),
			},
			req: with(func(r *place.Request) {
				r.Features = []string{"vxlan"}
				r.Avoid = map[cloud.ID]string{id(7): "no such machine type"}
			}),
			err: "no host can take the VM: host a: it is Down; host b: 512 MiB memory are wanted and 192 of 8192 MiB are free; " +
				"host c: 500 MHz CPU are wanted and 100 of 8000 MHz are free; host d: it has no local storage pool that is up; " +
				"host e: no local storage pool has 1024 MiB free; host f: its kernel lacks vxlan; " +
				"host g: the VM did not start there: no such machine type; " +
				"host h: 500 MHz for each vCPU are wanted and its cores run at 100 MHz",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := place.Choose(&place.Fleet{Hosts: tt.hosts}, &tt.req)
			text := ""
			if err != nil {
				text = err.Error()
			}
			if d := cmp.Diff(tt.err, text); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestChoiceFits fills hosts until no more VM is taken: no host is ever overfilled, and at the end none had room.
func TestChoiceFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hosts := make([]place.Host, rapid.IntRange(1, 6).Draw(t, "hosts"))
		for i := range hosts {
			hosts[i] = host(byte(i+1), func(h *place.Host) {
				h.MemoryMiB = rapid.Uint64Range(0, 8192).Draw(t, "memory")
				h.CPUMHz = rapid.Uint64Range(0, 8000).Draw(t, "cpu")
				h.Pools[0].Free = rapid.Uint64Range(0, 16<<30).Draw(t, "free")
			})
		}
		req := place.Request{
			Zone: id(100), CPUs: rapid.Uint32Range(1, 4).Draw(t, "vcpus"), CPUMHz: 500,
			MemoryMiB: rapid.Uint32Range(128, 2048).Draw(t, "vm memory"),
			Disks:     []place.Disk{{Bytes: 1 << 30, Local: true}, {Bytes: 2 << 30, Local: true}},
		}
		for {
			c, err := place.Choose(&place.Fleet{Hosts: hosts}, &req)
			if err != nil {
				var none *place.NoCapacity
				if !errors.As(err, &none) || len(none.Rejections) != len(hosts) {
					t.Fatalf("got %v, want a reason for each of %d hosts", err, len(hosts))
				}
				return
			}
			h := &hosts[c.Host[15]-1]
			for i := range hosts {
				alone := &place.Fleet{Hosts: hosts[i : i+1]}
				if _, err := place.Choose(alone, &req); err == nil && fill(&hosts[i], &req) < fill(h, &req) {
					t.Fatalf("host %s is chosen although %s would be less full", h.Name, hosts[i].Name)
				}
			}
			h.CPUUsed += uint64(req.CPUs) * uint64(req.CPUMHz)
			h.MemoryUsed += uint64(req.MemoryMiB)
			if h.Pools[0].Free < 3<<30 || h.CPUUsed > h.CPUMHz || h.MemoryUsed > h.MemoryMiB {
				t.Fatalf("host %s is overfilled: %+v", h.Name, h)
			}
			h.Pools[0].Free -= 3 << 30
		}
	})
}

// fill is that of the scarcer resource of a host with the VM.
func fill(h *place.Host, req *place.Request) float64 {
	return max(float64(h.CPUUsed+uint64(req.CPUs)*uint64(req.CPUMHz))/float64(h.CPUMHz), float64(h.MemoryUsed+uint64(req.MemoryMiB))/float64(h.MemoryMiB))
}

// TestClusterLimits has one cluster of two hosts with 8192 MiB and 8000 MHz each, of which 13926 MiB and 13600 MHz may be
// allocated.
func TestClusterLimits(t *testing.T) {
	const cpu, memory = "the CPU's setting", "the memory's setting"
	tests := []struct {
		name                string
		cpuUsed, memoryUsed uint64
		edit                func(*place.Request)
		want                cloud.ID
		err                 string
	}{
		{name: "below", want: id(1)},
		{name: "the last that fits", memoryUsed: 13926 - 512, cpuUsed: 13600 - 500, want: id(1)},
		{
			name: "memory", memoryUsed: 13926 - 511,
			err: "no host can take the VM: host a: 512 MiB memory are wanted and 511 of the 13926 are free that may be allocated of its cluster's 16384 (setting the memory's setting)",
		},
		{
			name: "CPU", cpuUsed: 14000,
			err: "no host can take the VM: host a: 500 MHz CPU are wanted and 0 of the 13600 are free that may be allocated of its cluster's 16000 (setting the CPU's setting)",
		},
		{name: "the host that was asked for", memoryUsed: 15000, edit: func(r *place.Request) { r.Host = id(1) }, want: id(1)},
		{name: "the last host", memoryUsed: 15000, edit: func(r *place.Request) { r.Prefer = id(1) }, want: id(1)},
		{name: "an emergency", memoryUsed: 15000, edit: func(r *place.Request) { r.Emergency = true }, want: id(1)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := place.Request{Zone: id(100), CPUs: 1, CPUMHz: 500, MemoryMiB: 512}
			if tt.edit != nil {
				tt.edit(&req)
			}
			got, err := place.Choose(&place.Fleet{
				Hosts: []place.Host{host(1, func(h *place.Host) { h.Cluster = id(90) })},
				Clusters: map[cloud.ID]*place.Cluster{id(90): {
					CPU:    place.Share{Total: 16000, Used: tt.cpuUsed, Limit: 0.85, Setting: cpu},
					Memory: place.Share{Total: 16384, Used: tt.memoryUsed, Limit: 0.85, Setting: memory},
				}},
			}, &req)
			text := ""
			if err != nil {
				text = err.Error()
			}
			if d := cmp.Diff(tt.err, text); d != "" {
				t.Error(d)
			}
			if got.Host != tt.want {
				t.Errorf("got host %s, want %s", got.Host, tt.want)
			}
		})
	}
}
