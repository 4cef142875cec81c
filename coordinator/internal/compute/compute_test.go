package compute_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/settings"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/compute"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// TestLifeOfAVM follows one VM through its life, every step run twice.
func TestLifeOfAVM(t *testing.T) {
	w := newWorld(t, 2)
	id, err := w.deploy(t)
	if err != nil {
		t.Fatal(err)
	}
	is := func(what string, want cloud.VMState) {
		t.Helper()
		if vm := w.vm(t, id); vm == nil || vm.State != want {
			t.Fatalf("%s: the VM is %+v, want it %s", what, vm, want)
		}
		w.check(t)
	}
	is("after deploy", cloud.VMStarting)
	if got := w.step(t, id, w.area.StartStep, "").String(); got != "wait[]" {
		t.Fatalf("first start step: %s", got)
	}
	if w.vm(t, id).HostID.IsZero() {
		t.Fatal("no host was chosen")
	}
	w.settle(t)
	is("after the host reported", cloud.VMRunning)
	if got := w.step(t, id, w.area.StartStep, "").String(); got != "done" {
		t.Fatalf("last start step: %s", got)
	}

	w.update(t, func(tx *store.Tx) error { return w.area.Reboot(tx, mustVM(t, tx, id)) })
	if got := w.step(t, id, w.area.RebootStep, `{"Epoch":1}`).String(); got != "wait[]" {
		t.Fatalf("reboot before the host reported: %s", got)
	}
	w.settle(t)
	if got := w.step(t, id, w.area.RebootStep, `{"Epoch":1}`).String(); got != "done" {
		t.Fatalf("reboot: %s", got)
	}

	w.update(t, func(tx *store.Tx) error { return w.area.Stop(tx, mustVM(t, tx, id), false) })
	is("after stop was asked for", cloud.VMStopping)
	w.settle(t)
	is("after stop", cloud.VMStopped)
	last := w.vm(t, id).LastHostID

	w.update(t, func(tx *store.Tx) error { return w.area.Start(tx, mustVM(t, tx, id), cloud.ID{}) })
	w.step(t, id, w.area.StartStep, "")
	w.settle(t)
	is("after the second start", cloud.VMRunning)
	if w.vm(t, id).HostID != last {
		t.Fatal("a VM with a local disk was started on another host")
	}

	w.update(t, func(tx *store.Tx) error { return w.area.Destroy(tx, mustVM(t, tx, id), true) })
	w.settle(t)
	if vm := w.vm(t, id); vm != nil {
		t.Fatalf("after destroy with expunge the VM is still there: %+v", vm)
	}
	w.check(t)
	for host, a := range w.agents {
		if len(a.Disks)+len(a.Runs) > 0 {
			t.Fatalf("host %s keeps disks %v and VMs %v", host, a.Disks, a.Runs)
		}
	}
}

func mustVM(t testing.TB, r store.Reader, id cloud.ID) *cloud.VM {
	t.Helper()
	vm, ok := tables.VMs.Get(r, id)
	if !ok {
		t.Fatalf("VM %s is gone", id)
	}
	return vm
}

func TestFailedStartMovesOn(t *testing.T) {
	w := newWorld(t, 2)
	for _, a := range w.agents {
		a.Fails = true
	}
	id, err := w.deploy(t)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		w.step(t, id, w.area.StartStep, "")
		w.settle(t)
		w.check(t)
	}
	vm := w.vm(t, id)
	if vm.State != cloud.VMError {
		t.Fatalf("the VM is %s, want Error", vm.State)
	}
	want := "no host can take the VM: host h1: the VM did not start there: no such machine type; " +
		"host h2: the VM did not start there: no such machine type"
	if !strings.HasSuffix(vm.Error, want) {
		t.Fatalf("got %q, want it to end in %q", vm.Error, want)
	}
	for volume := range tables.Volumes.All(w.r.DB().Current()) {
		if volume.State == cloud.VolumeExpunging {
			t.Fatalf("a tombstone is left: %+v", volume)
		}
	}
}

func TestGuestStopsItself(t *testing.T) {
	w := newWorld(t, 1)
	id, err := w.deploy(t)
	if err != nil {
		t.Fatal(err)
	}
	w.step(t, id, w.area.StartStep, "")
	w.settle(t)
	run := w.agents[w.hosts[0].ID].Runs[id.String()]
	run.State, run.StopCause = hostspec.VmState_VM_STATE_STOPPED, hostspec.StopCause_STOP_CAUSE_GUEST
	w.settle(t)
	if vm := w.vm(t, id); vm.State != cloud.VMStopped || !vm.HostID.IsZero() {
		t.Fatalf("the VM is %s on %q, want it Stopped on no host", vm.State, vm.HostID)
	}
	w.check(t)
	var events []string
	for e := range tables.Events.All(w.r.DB().Current()) {
		events = append(events, e.Type+" "+e.Level.String())
	}
	if d := cmp.Diff([]string{"VM.STOP INFO"}, events); d != "" {
		t.Fatal(d)
	}
}

func TestDeployRefusals(t *testing.T) {
	w := newWorld(t, 1)
	good := w.dep
	tests := []struct {
		name string
		edit func(*compute.Deployment)
		want string
	}{
		{"bad name", func(d *compute.Deployment) { d.Name = "a_b" }, `Invalid name "a_b" in parameter name: a VM name has 1 to 63 ASCII letters, ` +
			`digits and hyphens, begins and ends with a letter or digit, and is no number`},
		{"number as name", func(d *compute.Deployment) { d.Name = "42" }, `Invalid name "42" in parameter name: a VM name has 1 to 63 ASCII letters, ` +
			`digits and hyphens, begins and ends with a letter or digit, and is no number`},
		{
			"zone disabled", func(d *compute.Deployment) { z := *d.Zone; z.AllocationState = cloud.AllocationDisabled; d.Zone = &z },
			"Cannot perform this operation, Zone is currently disabled: " + id(1).String(),
		},
		{
			"no network", func(d *compute.Deployment) { d.Networks = nil },
			"Unable to deploy the VM: no network is given in networkids and the account has none in zone zone",
		},
		{
			"too much user data", func(d *compute.Deployment) { d.UserData = compute.UserDataRequest{Raw: make([]byte, 32<<10+1)} },
			"Unable to use userdata: it has 32769 bytes, at most 32768 are accepted",
		},
		{
			"template not ready", func(d *compute.Deployment) { x := *d.Template; x.State = cloud.TemplateDownloading; d.Template = &x },
			"Unable to use template " + id(6).String() + ": it is not ready yet",
		},
		{
			"root disk too small", func(d *compute.Deployment) { x := *d.Template; x.SizeBytes = 3 << 30; d.Template = &x; d.RootGiB = 2 },
			"Invalid rootdisksize 2: the template needs at least 3 GiB",
		},
		{
			"root disk too large", func(d *compute.Deployment) { d.RootGiB = 2001 },
			"Invalid size 2001 GiB of volume ROOT-1: storage.max.volume.size allows at most 2000 GiB",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w.dep = good
			tt.edit(&w.dep)
			_, err := w.deploy(t)
			if err == nil {
				t.Fatal("deployed")
			}
			if d := cmp.Diff(tt.want, err.Error()); d != "" {
				t.Error(d)
			}
			if n := tables.VMs.Len(w.r.DB().Current()) + tables.Volumes.Len(w.r.DB().Current()) + tables.NICs.Len(w.r.DB().Current()); n > 0 {
				t.Errorf("%d rows are left of a refused deploy", n)
			}
			w.check(t)
		})
	}
}

// Where allocation is disabled, a root admin's own VMs are made and placed; what it makes for others is not placed.
func TestRootWhereAllocationIsDisabled(t *testing.T) {
	for _, x := range []struct {
		name      string
		by, owner cloud.AccountType
		deployed  bool
		placed    bool
	}{
		{"root admin", cloud.RootAdminAccount, cloud.RootAdminAccount, true, true},
		{"root admin for a user", cloud.RootAdminAccount, cloud.UserAccount, true, false},
		{"user", cloud.UserAccount, cloud.UserAccount, false, false},
		{"domain admin", cloud.DomainAdminAccount, cloud.DomainAdminAccount, false, false},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := newWorld(t, 1)
			w.dep.By = id(99)
			w.update(t, func(tx *store.Tx) error {
				w.dep.Account.Type, w.dep.Zone.AllocationState = x.owner, cloud.AllocationDisabled
				put(t, tables.Accounts.Put(tx, w.dep.Account), tables.Zones.Put(tx, w.dep.Zone),
					tables.Accounts.Put(tx, &cloud.Account{ID: w.dep.By, Name: "caller", DomainID: w.dep.Account.DomainID, Number: 99, Type: x.by}),
					tables.Pods.Edit(tx, w.hosts[0].PodID, func(p *cloud.Pod) error { p.AllocationState = cloud.AllocationDisabled; return nil }),
					tables.Clusters.Edit(tx, w.hosts[0].ClusterID, func(c *cloud.Cluster) error { c.AllocationState = cloud.AllocationDisabled; return nil }))
				return nil
			})
			vm, err := w.deploy(t)
			if (err == nil) != x.deployed || err != nil && !strings.Contains(err.Error(), "Zone is currently disabled") {
				t.Fatal(err)
			}
			if err != nil {
				return
			}
			out := w.step(t, vm, w.area.StartStep, "")
			if placed := !w.vm(t, vm).HostID.IsZero(); placed != x.placed || !placed && !strings.Contains(fmt.Sprint(out), "its zone is disabled") {
				t.Errorf("placed: %v, %+v", placed, out)
			}
		})
	}
}

func TestDecodeUserData(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"standard", "aGk/fn4=", "hi?~~"},
		{"url alphabet, no padding", "aGk_fn4", "hi?~~"},
		{"encoded once more", "aGk%3D", "hi"},
		{"plus became a space", "fn5+ fg==", "~~~\xf8"},
		{"lines", "aG\nk=", "hi"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := compute.DecodeUserData(tt.in)
			if tt.name == "plus became a space" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err != nil || string(got) != tt.want {
				t.Fatalf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
	if _, err := compute.DecodeUserData("!!"); err == nil || cloud.CodeOf(err) != cloud.Invalid {
		t.Fatalf("got %v, want a refusal", err)
	}
}

// TestCountersHold does what users do, in random order, with hosts that fail at random, and recounts after every commit.
func TestCountersHold(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, rapid.IntRange(1, 3).Draw(rt, "hosts"))
		var vms []cloud.ID
		pick := func() cloud.ID {
			if len(vms) == 0 {
				return cloud.ID{}
			}
			return rapid.SampledFrom(vms).Draw(rt, "vm")
		}
		change := func(f func(tx *store.Tx, vm *cloud.VM) error) {
			id := pick()
			_ = w.r.Update(context.Background(), func(tx *store.Tx) error {
				vm, ok := tables.VMs.Get(tx, id)
				if !ok {
					return nil
				}
				return f(tx, vm) // refusals are part of the game
			})
		}
		rt.Repeat(map[string]func(*rapid.T){
			"deploy": func(*rapid.T) {
				if id, err := w.deploy(t); err == nil {
					vms = append(vms, id)
				}
			},
			"start": func(*rapid.T) {
				change(func(tx *store.Tx, vm *cloud.VM) error { return w.area.Start(tx, vm, cloud.ID{}) })
			},
			"stop": func(*rapid.T) { change(func(tx *store.Tx, vm *cloud.VM) error { return w.area.Stop(tx, vm, false) }) },
			"destroy": func(*rapid.T) {
				change(func(tx *store.Tx, vm *cloud.VM) error { return w.area.Destroy(tx, vm, false) })
			},
			"expunge": func(*rapid.T) { change(func(tx *store.Tx, vm *cloud.VM) error { return w.area.Destroy(tx, vm, true) }) },
			"reboot":  func(*rapid.T) { change(w.area.Reboot) },
			"steps": func(*rapid.T) {
				for _, id := range vms {
					w.step(t, id, w.area.StartStep, "")
				}
			},
			"report": func(rt *rapid.T) {
				h := rapid.SampledFrom(w.hosts).Draw(rt, "host")
				o := w.agents[h.ID].Make(w.render(t, h))
				w.update(t, func(tx *store.Tx) error { return w.area.Fold(tx, h.ID, o) })
			},
			"fault": func(rt *rapid.T) {
				w.agents[rapid.SampledFrom(w.hosts).Draw(rt, "host").ID].Fails = rapid.Bool().Draw(rt, "fails")
			},
			"": func(*rapid.T) { w.check(t) },
		})
		// At the end everything is given up, and nothing may be left.
		for _, a := range w.agents {
			a.Fails = false
		}
		for range 3 {
			for _, id := range vms {
				w.update(t, func(tx *store.Tx) error {
					vm, ok := tables.VMs.Get(tx, id)
					if !ok {
						return nil
					}
					return w.area.Destroy(tx, vm, true)
				})
			}
			w.update(t, func(tx *store.Tx) error { _, err := w.area.ExpungeDue(tx, 1000); return err })
			w.settle(t)
		}
		w.check(t)
		r := w.r.DB().Current()
		if n := tables.VMs.Len(r) + tables.Volumes.Len(r) + tables.NICs.Len(r); n > 0 {
			rt.Fatalf("%d VMs, %d volumes and %d NICs are left", tables.VMs.Len(r), tables.Volumes.Len(r), tables.NICs.Len(r))
		}
	})
}

// What offerings say of disks, NICs and the console reaches the host.
func TestRenderBounds(t *testing.T) {
	w := newWorld(t, 1)
	w.dep.Offering.NetworkRate, w.dep.Offering.Rates.IOPSRead, w.dep.Offering.CacheMode = 25, 300, "writethrough"
	w.dep.Keyboard = "uk"
	w.update(t, func(tx *store.Tx) error { return tables.ServiceOfferings.Put(tx, w.dep.Offering) })
	vm, err := w.deploy(t)
	if err != nil {
		t.Fatal(err)
	}
	w.step(t, vm, w.area.StartStep, "")
	s := w.render(t, w.hosts[0])
	if len(s.Vms) != 1 {
		t.Fatalf("%d VMs are rendered", len(s.Vms))
	}
	m := s.Vms[0]
	if m.Keymap != "en-gb" || m.Nics[0].RateMbit != 25 || m.Disks[0].ReadIops != 300 || m.Disks[0].Cache != "writethrough" {
		t.Errorf("rendered %v", m)
	}
}

// Where no offering bounds a NIC, settings may: that of VMs for the default NIC, that of networks for all.
func TestRateSettings(t *testing.T) {
	w := newWorld(t, 1)
	g := settings.New(compute.Settings())
	vm, err := w.deploy(t)
	if err != nil {
		t.Fatal(err)
	}
	w.step(t, vm, w.area.StartStep, "")
	for _, x := range []struct {
		name string
		zone cloud.ID
		want uint32
	}{{"network.throttling.rate", cloud.ID{}, 40}, {"network.throttling.rate", w.dep.Zone.ID, 30}, {"vm.network.throttling.rate", cloud.ID{}, 20}} {
		w.update(t, func(tx *store.Tx) error {
			if x.zone.IsZero() {
				return g.Set(tx, x.name, strconv.Itoa(int(x.want)))
			}
			return g.SetFor(tx, x.zone, x.name, strconv.Itoa(int(x.want)), nil)
		})
		if got := w.render(t, w.hosts[0]).Vms[0].Nics[0].RateMbit; got != x.want {
			t.Errorf("with %s %d the NIC has %d Mbit/s", x.name, x.want, got)
		}
	}
}

// Sizes that are chosen freely have bounds of their own, which settings move.
func TestCustomSizes(t *testing.T) {
	w := newWorld(t, 1)
	g := settings.New(compute.Settings())
	sizes := func() (taken []uint64) {
		for _, gib := range []uint64{1, 2, 1024, 1025} {
			if compute.CustomSize(w.r.DB().Current(), gib) == nil {
				taken = append(taken, gib)
			}
		}
		return taken
	}
	if d := cmp.Diff([]uint64{1, 2, 1024}, sizes()); d != "" {
		t.Error(d)
	}
	w.update(t, func(tx *store.Tx) error {
		return errors.Join(g.Set(tx, "custom.diskoffering.size.min", "2"), g.Set(tx, "custom.diskoffering.size.max", "1025"))
	})
	if d := cmp.Diff([]uint64{2, 1024, 1025}, sizes()); d != "" {
		t.Error(d)
	}
}
