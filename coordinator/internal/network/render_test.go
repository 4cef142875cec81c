package network_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/network"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares what all hosts are told of a network with a file.
func (w *world) golden(name string) {
	w.t.Helper()
	var text bytes.Buffer
	for _, h := range w.hosts {
		text.WriteString("# " + w.hostName(h) + "\n")
		for _, n := range w.render(h) {
			n.Services.Generation = 0
			raw, err := protojson.Marshal(n)
			if err != nil {
				w.t.Fatal(err)
			}
			if err := json.Indent(&text, raw, "", "  "); err != nil {
				w.t.Fatal(err)
			}
			text.WriteByte('\n')
		}
	}
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(file, text.Bytes(), 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		w.t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text.String()); diff != "" {
		w.t.Errorf("%s (-want +got, -update rewrites):\n%s", file, diff)
	}
}

func TestRenderOneHost(t *testing.T) {
	w := newWorld(t, 1)
	n := w.guest("net")
	if err := w.start(w.vm(n), w.hosts[0]); err != nil {
		t.Fatal(err)
	}
	w.vm(n) // stopped: it has a lease and a name, and no metadata
	w.settle()
	w.golden("one-host")
}

// Two VMs on hosts of their own, and the router on a third one.
func TestRenderThreeHosts(t *testing.T) {
	w := newWorld(t, 3)
	n := w.guest("net")
	a, b := w.vm(n), w.vm(n)
	if err := w.start(a, w.hosts[0]); err != nil {
		t.Fatal(err)
	}
	if err := w.start(b, w.hosts[1]); err != nil {
		t.Fatal(err)
	}
	w.do(func(tx *store.Tx) error {
		return tables.Routers.Edit(tx, w.router(n.ID).ID, func(rt *cloud.Router) error { rt.HostID = w.hosts[2]; return nil })
	})
	w.settle()
	w.golden("three-hosts")
}

func TestRenderRules(t *testing.T) {
	w := newWorld(t, 1)
	n := w.guest("net")
	vm := w.vm(n)
	if err := w.start(vm, w.hosts[0]); err != nil {
		t.Fatal(err)
	}
	w.settle()
	var more *cloud.PublicIP
	w.do(func(tx *store.Tx) error {
		var err error
		more, err = w.area.Associate(tx, w.network(n.ID), addr("198.51.100.14"))
		return err
	})
	w.do(func(tx *store.Tx) error {
		n := w.network(n.ID)
		_, e1 := w.area.OpenFirewall(tx, w.source(n.ID), network.FirewallRequest{Protocol: "TCP", Start: number(22), CIDRs: []string{"203.0.113.9/24", "192.0.2.1/32"}})
		_, e2 := w.area.OpenFirewall(tx, w.source(n.ID), network.FirewallRequest{Protocol: "icmp", ICMPType: number(8), ICMPCode: number(-1)})
		_, e3 := w.area.OpenFirewall(tx, more, network.FirewallRequest{Protocol: "udp"})
		_, e4 := w.area.OpenEgress(tx, n, network.FirewallRequest{Protocol: "all"})
		_, e5 := w.area.OpenEgress(tx, n, network.FirewallRequest{Protocol: "tcp", Start: number(80), End: number(89), CIDRs: []string{"10.1.1.2/32"}})
		_, e6 := w.area.Forward(tx, more, network.ForwardRequest{Protocol: "tcp", PublicStart: number(8080), PrivateStart: number(80), VM: vm, Open: true})
		_, e7 := w.area.Forward(tx, more, network.ForwardRequest{
			Protocol: "udp", PublicStart: number(5000), PublicEnd: number(5009), PrivateStart: number(5000), PrivateEnd: number(5009), VM: vm,
		})
		return errors.Join(e1, e2, e3, e4, e5, e6, e7)
	})
	w.golden("rules")
	w.settle()
	for f := range tables.FirewallRules.All(w.read()) {
		if f.State != cloud.RuleActive {
			t.Errorf("%s is %s", f.ID, f.State)
		}
	}
}

func number(n int) *int { return &n }

// A secret under another key costs the guest its data, not its network; it is logged, and not its content.
func TestRenderWithoutTheKey(t *testing.T) {
	w := newWorld(t, 1)
	n := w.guest("net")
	vm := w.vm(n)
	vm.UserData = append(cloud.Sealed{}, vm.UserData...)
	vm.UserData[len(vm.UserData)-1] ^= 1
	if err := w.start(vm, w.hosts[0]); err != nil {
		t.Fatal(err)
	}
	spec := w.render(w.hosts[0])
	if len(spec) != 1 || len(spec[0].GetServices().GetMetadata().GetGuests()[0].GetUserData()) != 0 {
		t.Fatal("the network is not rendered without the damaged secret")
	}
	if !strings.Contains(w.log.String(), "could not open a secret") || strings.Contains(w.log.String(), "s3cret") {
		t.Errorf("log: %s", w.log)
	}
}

// Rendering twice gives the same bytes, and only those who carry a network learn of it.
func TestRenderIsDeterministic(t *testing.T) {
	w := newWorld(t, 3)
	a, b := w.guest("a"), w.guest("b")
	vm := w.vm(a, b)
	if err := w.start(vm, w.hosts[1]); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		x, y := w.render(w.hosts[1]), w.render(w.hosts[1])
		if len(x) != 2 {
			t.Fatalf("%d networks", len(x))
		}
		for i := range x {
			if p, q := protojson.Format(x[i]), protojson.Format(y[i]); p != q {
				t.Fatal(cmp.Diff(p, q))
			}
		}
	}
	if len(w.render(w.hosts[0])) != 0 || len(w.render(w.hosts[2])) != 0 {
		t.Error("a host is told of a network it does not carry")
	}
}
