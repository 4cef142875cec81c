package vm_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

var vms = flag.Int("vms", 100_000, "VMs that the lists of the benchmark are taken from")

// sink is a ResponseWriter that costs nothing.
type sink struct {
	h    http.Header
	code int
	n    int
	keep []byte
}

func (s *sink) Header() http.Header { return s.h }

func (s *sink) Write(b []byte) (int, error) {
	s.n += len(b)
	s.keep = append(s.keep[:0], b...)
	return len(b), nil
}

func (s *sink) WriteHeader(code int) { s.code = code }

// cpu is what this process has used.
func cpu() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// fill makes n running VMs with a NIC each, of ten accounts' worth of names, all owned by a-user. They are on a host without
// an agent: one that renders all of them again and again would be part of every figure.
func (w *world) fill(n int) {
	owner := w.Users["a-user"].Account
	w.Update(func(tx *store.Tx) error {
		return tables.Hosts.Put(tx, &cloud.Host{ID: id(33), Name: "h2", ZoneID: id(1), PodID: id(2), ClusterID: id(4), Number: 2, Status: cloud.HostUp})
	})
	const atOnce = 5000
	for from := 0; from < n; from += atOnce {
		w.Update(func(tx *store.Tx) error {
			for i := from; i < min(n, from+atOnce); i++ {
				v := &cloud.VM{
					ID: tx.NewID(), Name: fmt.Sprintf("vm-%07d", i), DisplayName: fmt.Sprintf("web server %d", i), InstanceName: fmt.Sprintf("i-2-%d-VM", i+1000),
					AccountID: owner.ID, DomainID: owner.DomainID, ZoneID: id(1), HostID: id(33), PodID: id(2), TemplateID: id(7), OfferingID: id(8), OSTypeID: id(6),
					State: cloud.VMRunning, Hypervisor: "KVM", CPUs: 1, CPUMHz: 500, MemoryMiB: 512, Created: tx.Now(),
				}
				if err := tables.VMs.Put(tx, v); err != nil {
					return err
				}
				nic := &cloud.NIC{
					ID: tx.NewID(), VMID: v.ID, NetworkID: id(9), MAC: 0x020000000000 + uint64(i), IP: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}),
					Default: true,
				}
				if err := tables.NICs.Put(tx, nic); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// BenchmarkP1 is goal P1, and P2 for one size: the CPU of a signed listVirtualMachines page of 500 out of -vms, the first,
// one in the middle (also with state=Running) and the last, for a root admin and for a user, everything from the request to
// the last byte.
// encoding/json-us is what encoding/json takes for the rows of that page alone.
func BenchmarkP1(b *testing.B) {
	w := newWorld(b)
	w.fill(*vms)
	w.Update(func(tx *store.Tx) error {
		return tables.Projects.Put(tx, &cloud.Project{ID: id(40), Name: "p", AccountID: id(41)})
	})
	for _, user := range []string{"root", "a-user"} {
		for name, page := range map[string]int{"first": 1, "middle": *vms / 1000, "last": *vms / 500, "running": *vms / 1000} {
			u := w.Users[user]
			v := url.Values{
				"command": {"listVirtualMachines"}, "response": {"json"}, "listall": {"true"}, "page": {strconv.Itoa(page)}, "pagesize": {"500"},
				"apiKey": {u.APIKey},
			}
			if name == "running" {
				v.Set("state", "Running")
			}
			v.Set("signature", api.Sign(v, u.Secret))
			b.Run(user+"/"+name, func(b *testing.B) {
				s := &sink{h: http.Header{}, code: 200}
				began, n := cpu(), 0
				for b.Loop() {
					clear(s.h)
					w.Server.ServeHTTP(s, httptest.NewRequest(http.MethodGet, "/client/api?"+v.Encode(), nil))
					n++
				}
				took := cpu() - began
				var answer struct {
					Response struct {
						Count int              `json:"count"`
						Rows  []map[string]any `json:"virtualmachine"`
					} `json:"listvirtualmachinesresponse"`
				}
				if err := json.Unmarshal(s.keep, &answer); err != nil || s.code != 200 || len(answer.Response.Rows) != 500 || answer.Response.Count != *vms {
					b.Fatalf("%d %v: %d rows of %d: %.300s", s.code, err, len(answer.Response.Rows), answer.Response.Count, s.keep)
				}
				t0 := cpu()
				if _, err := json.Marshal(answer); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64((cpu() - t0).Microseconds()), "encoding/json-us")
				b.ReportMetric(float64(took.Microseconds())/float64(n), "cpu-us/op")
				b.SetBytes(int64(len(s.keep)))
			})
		}
	}
}
