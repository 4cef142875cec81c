package vm_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/api/dedication"
	"github.com/wispcloud/wisp/coordinator/internal/api/event"
	"github.com/wispcloud/wisp/coordinator/internal/api/group"
	"github.com/wispcloud/wisp/coordinator/internal/api/offering"
	"github.com/wispcloud/wisp/coordinator/internal/api/sshkey"
	"github.com/wispcloud/wisp/coordinator/internal/api/userdata"
	"github.com/wispcloud/wisp/coordinator/internal/api/vm"
	"github.com/wispcloud/wisp/coordinator/internal/api/volume"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/compute"
	"github.com/wispcloud/wisp/coordinator/internal/compute/computetest"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// counter is identity's, as the interface that compute asks for.
type counter struct{}

func (counter) Count(tx *store.Tx, account cloud.ID, t cloud.ResourceType, delta int64) error {
	return identity.Count(tx, account, t, delta)
}

// world is a zone with one host whose agent works, and one network of a-user.
type world struct {
	usage map[cloud.ID]*hostspec.VmUsage
	*apitest.Cloud
	t     testing.TB
	area  *compute.Area
	agent *computetest.Agent
	host  *cloud.Host
	// ids of what the world has
	zone, template, tiny, network, foreign string
}

func id(n byte) cloud.ID { return cloud.ID{0: 0xaa, 15: n} }

// entities that other packages register.
func entities() []api.Entity {
	simple := func(name string, found func(r store.Reader, id cloud.ID) (api.Owner, bool)) api.Entity {
		return api.Entity{Name: name, Lookup: found, Usable: func(*api.Call, cloud.ID) bool { return name == "template" }}
	}
	return []api.Entity{
		simple("zone", func(r store.Reader, id cloud.ID) (api.Owner, bool) {
			_, ok := tables.Zones.Get(r, id)
			return api.Owner{}, ok
		}),
		simple("pod", func(r store.Reader, id cloud.ID) (api.Owner, bool) {
			_, ok := tables.Pods.Get(r, id)
			return api.Owner{}, ok
		}),
		simple("cluster", func(r store.Reader, id cloud.ID) (api.Owner, bool) {
			_, ok := tables.Clusters.Get(r, id)
			return api.Owner{}, ok
		}),
		simple("host", func(r store.Reader, id cloud.ID) (api.Owner, bool) {
			_, ok := tables.Hosts.Get(r, id)
			return api.Owner{}, ok
		}),
		simple("storagepool", func(r store.Reader, id cloud.ID) (api.Owner, bool) {
			_, ok := tables.StoragePools.Get(r, id)
			return api.Owner{}, ok
		}),
		simple("ostype", func(r store.Reader, id cloud.ID) (api.Owner, bool) {
			_, ok := tables.OSTypes.Get(r, id)
			return api.Owner{}, ok
		}),
		simple("template", func(r store.Reader, id cloud.ID) (api.Owner, bool) {
			t, ok := tables.Templates.Get(r, id)
			if !ok {
				return api.Owner{}, false
			}
			return api.Owner{Account: t.AccountID, Domain: t.DomainID}, true
		}),
		simple("network", func(r store.Reader, id cloud.ID) (api.Owner, bool) {
			n, ok := tables.Networks.Get(r, id)
			if !ok {
				return api.Owner{}, false
			}
			return api.Owner{Account: n.AccountID, Domain: n.DomainID}, true
		}),
	}
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, agent: computetest.NewAgent()}
	w.Cloud = apitest.New(t, apitest.Config{
		Settings: [][]*settings.Def{compute.Settings()},
		Entities: slices.Concat(entities(), vm.Entities(), volume.Entities(), offering.Entities(), group.Entities(), userdata.Entities(), event.Entities()),
		Make: func(k *seal.Keeper) []api.Command {
			w.area = &compute.Area{Net: computetest.Networks{}, Seal: k, Counts: counter{}, Event: func(tx *store.Tx, e *cloud.Event) error {
				_, err := job.WriteEvent(tx, *e)
				return err
			}}
			return slices.Concat(vm.Commands(vm.Deps{
				Area:            w.area,
				Usage:           func(vm cloud.ID) (*hostspec.VmUsage, bool) { u, ok := w.usage[vm]; return u, ok },
				DefaultNetworks: func(store.Reader, *cloud.Account, *cloud.Zone) ([]*cloud.Network, error) { return nil, nil },
			}), volume.Commands(), offering.Commands(), sshkey.Commands(), event.Commands(),
				group.Commands(), dedication.Commands(), userdata.Commands(userdata.Deps{Area: w.area}))
		},
	})
	user, other := w.Users["a-user"].Account, w.Users["b-user"].Account
	w.host = &cloud.Host{
		ID: id(3), Name: "h1", ZoneID: id(1), PodID: id(2), ClusterID: id(4), Number: 1, Status: cloud.HostUp,
		ResourceState: cloud.HostEnabled, CPUs: 4, CPUMHz: 2000, MemoryMiB: 1280,
	}
	w.Update(func(tx *store.Tx) error {
		return errors.Join(
			tables.Zones.Put(tx, &cloud.Zone{ID: id(1), Name: "z1", AllocationState: cloud.AllocationEnabled}),
			tables.Pods.Put(tx, &cloud.Pod{ID: id(2), ZoneID: id(1), Name: "p1", AllocationState: cloud.AllocationEnabled}),
			tables.Clusters.Put(tx, &cloud.Cluster{ID: id(4), ZoneID: id(1), PodID: id(2), Name: "c1", AllocationState: cloud.AllocationEnabled}),
			tables.Hosts.Put(tx, w.host),
			tables.StoragePools.Put(tx, &cloud.StoragePool{
				ID: id(5), Name: "h1 local", ZoneID: id(1), ClusterID: id(4), HostID: id(3),
				State: cloud.PoolUp, CapacityBytes: 100 << 30, Path: "/var/lib/wisp/pool",
			}),
			tables.OSTypes.Put(tx, &cloud.OSType{ID: id(6), Description: "Other Linux (64-bit)"}),
			tables.Templates.Put(tx, &cloud.Template{
				ID: id(7), Name: "tiny", DisplayText: "Tiny Linux", ZoneID: id(1), OSTypeID: id(6),
				State: cloud.TemplateReady, Public: true, PasswordEnabled: true, SizeBytes: 1 << 30, SHA256: strings.Repeat("ab", 32), Format: "QCOW2",
			}),
			tables.ServiceOfferings.Put(tx, &cloud.ServiceOffering{
				ID: id(8), Name: "tiny", DisplayText: "1 vCPU", CPUs: 1, CPUMHz: 500,
				MemoryMiB: 512, StorageType: "local",
			}),
			tables.Networks.Put(tx, &cloud.Network{ID: id(9), Name: "n1", ZoneID: id(1), AccountID: user.ID, DomainID: user.DomainID, Number: 1}),
			tables.Networks.Put(tx, &cloud.Network{ID: id(10), Name: "n2", ZoneID: id(1), AccountID: other.ID, DomainID: other.DomainID, Number: 2}),
		)
	})
	for n, name := range map[byte]string{1: "zone", 2: "pod", 3: "host", 4: "cluster", 5: "pool", 6: "ostype", 7: "template", 8: "tiny", 9: "network", 10: "foreign"} {
		w.Name(id(n), name)
	}
	w.zone, w.template, w.tiny, w.network, w.foreign = id(1).String(), id(7).String(), id(8).String(), id(9).String(), id(10).String()
	w.runAgent(t)
	return w
}

// runAgent lets the host work in the background as an agent would.
func (w *world) runAgent(t testing.TB) {
	watch := w.Replica.DB().Watch(tables.VMs, tables.Volumes)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer watch.Close()
		for {
			spec := &hostspec.HostSpec{}
			err := w.area.Render(w.Read(), w.host, spec)
			if err == nil {
				o := w.agent.Make(spec)
				err = w.Replica.Update(ctx, func(tx *store.Tx) error { return w.area.Fold(tx, w.host.ID, o) })
			}
			if err != nil && ctx.Err() == nil {
				t.Errorf("agent: %v", err)
				return
			}
			select {
			case <-watch.C():
			case <-ctx.Done():
				return
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
}

// golden compares an answer with its file and with what today's SDK decodes; secrets of chance are masked.
func (w *world) golden(command string, a *apitest.Answer, secrets ...string) {
	masked := *a
	for _, s := range secrets {
		quoted, err := json.Marshal(s)
		if err != nil || !bytes.Contains(masked.Raw, quoted) {
			w.t.Fatalf("%s: %q is not told: %s", command, s, a.Raw)
		}
		masked.Raw = bytes.ReplaceAll(masked.Raw, quoted, []byte(`"{secret}"`))
	}
	w.Golden(command, &masked)
	w.CheckSDK(command, a)
}

func (w *world) deploy(user string, more ...string) *apitest.Answer {
	return w.Call(user, "deployVirtualMachine", slices.Concat([]string{
		"zoneid", w.zone, "templateid", w.template, "serviceofferingid", w.tiny, "networkids", w.network,
	}, more)...)
}

func TestLife(t *testing.T) {
	w := newWorld(t)
	a := w.deploy("a-user", "name", "hello", "displayname", "Hello", "userdata", base64.StdEncoding.EncodeToString([]byte("#!/bin/sh\n")), "group", "g")
	if a.Status != 200 {
		t.Fatalf("deploy: %s", a.Raw)
	}
	w.Golden("deployVirtualMachine", a)
	vmID := a.String("id")
	jobAnswer := w.Job("a-user", a.String("jobid"))
	password, _ := jobAnswer.Get("jobresult.virtualmachine.password").(string)
	if len(password) < 12 {
		t.Fatalf("the result tells the password %q: %s", password, jobAnswer.Raw)
	}
	jobAnswer.Raw = []byte(strings.ReplaceAll(string(jobAnswer.Raw), password, "{password}"))
	w.Golden("deployVirtualMachine-job", jobAnswer)
	result := *jobAnswer
	result.Object, _ = jobAnswer.Object["jobresult"].(map[string]any)
	w.CheckSDK("deployVirtualMachine", &result)

	list := w.Must("a-user", "listVirtualMachines", "id", vmID)
	w.Golden("listVirtualMachines", list)
	w.CheckSDK("listVirtualMachines", list)
	if strings.Contains(string(list.Raw), password) {
		t.Error("the list tells the password")
	}
	w.Golden("listVirtualMachines", w.CallXML("a-user", "listVirtualMachines", "id", vmID))
	w.Golden("listVirtualMachines-root", w.Must("root", "listVirtualMachines", "id", vmID))
	nics := w.Must("a-user", "listNics", "virtualmachineid", vmID)
	w.Golden("listNics", nics)
	w.CheckSDK("listNics", nics)
	w.Golden("getVirtualMachineUserData", w.Must("a-user", "getVirtualMachineUserData", "virtualmachineid", vmID))
	if n := w.Must("a-user", "listNics", "virtualmachineid", vmID, "nicid", vmID).Get("count"); n != nil {
		t.Errorf("%v NICs of an unknown id", n)
	}
	volumes := w.Must("a-user", "listVolumes", "virtualmachineid", vmID)
	w.Golden("listVolumes", volumes)
	w.CheckSDK("listVolumes", volumes)

	for _, step := range []struct{ command, state string }{
		{"rebootVirtualMachine", "Running"}, {"stopVirtualMachine", "Stopped"}, {"startVirtualMachine", "Running"}, {"stopVirtualMachine", "Stopped"},
	} {
		got := w.Must("a-user", step.command, "id", vmID)
		if s := got.String("virtualmachine.state"); s != step.state {
			t.Fatalf("after %s the VM is %s, want %s", step.command, s, step.state)
		}
		var told []string
		if step.command == "startVirtualMachine" { // its guest has not fetched the password yet
			told = []string{password}
		}
		w.golden(step.command, got, told...)
	}
	again := w.Must("a-user", "resetPasswordForVirtualMachine", "id", vmID)
	w.golden("resetPasswordForVirtualMachine", again, again.String("virtualmachine.password"))
	if p := again.String("virtualmachine.password"); p == password || len(p) < 12 {
		t.Errorf("the reset tells the password %q", p)
	}
	changed := w.Must("a-user", "updateVirtualMachine", "id", vmID, "displayname", "New", "name", "hello2", "haenable", "true", "group", "")
	w.Golden("updateVirtualMachine", changed)
	w.CheckSDK("updateVirtualMachine", changed)
	w.golden("destroyVirtualMachine", w.Must("root", "destroyVirtualMachine", "id", vmID, "expunge", "true"))
	w.golden("listAsyncJobs", w.Must("a-user", "listAsyncJobs", "page", "1", "pagesize", "1"), password)
	w.golden("queryAsyncJobResult", w.Job("a-user", a.String("jobid")), password)
	if other := w.Must("a-admin", "listAsyncJobs", "listall", "true"); strings.Contains(string(other.Raw), "password\"") {
		t.Errorf("CVE-2015-3251: an admin is told the passwords of others: %s", other.Raw)
	}
	w.golden("listEvents", w.Must("a-user", "listEvents", "type", "VM.CREATE"))
	w.Golden("listVirtualMachines-empty", w.Must("root", "listVirtualMachines", "listall", "true"))
	if n := len(w.agent.Disks); n != 0 {
		t.Errorf("the host keeps %d disks", n)
	}
}

// TestRefusals checks that what cannot be done says why and leaves nothing behind.
func TestRefusals(t *testing.T) {
	w := newWorld(t)
	none := "00000000-0000-4000-8000-000000000000"
	full := func(command string, p ...string) []string { return append([]string{command}, p...) }
	with := func(replace ...string) []string {
		p := map[string]string{"zoneid": w.zone, "templateid": w.template, "serviceofferingid": w.tiny, "networkids": w.network}
		for i := 0; i < len(replace); i += 2 {
			p[replace[i]] = replace[i+1]
		}
		out := []string{"deployVirtualMachine"}
		for k, v := range p {
			if v != "" {
				out = append(out, k, v)
			}
		}
		return out
	}
	tests := []struct {
		name, user string
		call       []string
		code       int
		text       string
	}{
		{"missing", "a-user", with("zoneid", ""), 431, "Unable to execute API command deployvirtualmachine due to missing parameter zoneid"},
		{"no UUID", "a-user", with("zoneid", "1"), 431, "Invalid parameter zoneid value=1 due to incorrect long value format, or entity does not exist"},
		{
			"unknown zone", "a-user", with("zoneid", none), 431,
			"Invalid parameter zoneid value=" + none + " due to incorrect long value format, or entity does not exist",
		},
		{
			"foreign network reads like an unknown one", "a-user", with("networkids", w.foreign), 431,
			"Invalid parameter networkids value=" + w.foreign + " due to incorrect long value format, or entity does not exist",
		},
		{
			"unknown network", "a-user", with("networkids", none), 431,
			"Invalid parameter networkids value=" + none + " due to incorrect long value format, or entity does not exist",
		},
		{"userdata", "a-user", with("userdata", "***"), 431, "User data is not valid base64 (parameter userdata): illegal base64 data at input byte 0"},
		{"key pair", "a-user", with("keypair", "k"), 431, "A key pair with name 'k' does not exist for account a-user"},
		{"hypervisor", "a-user", with("hypervisor", "XenServer"), 431, `Invalid value "XenServer" in parameter hypervisor: accepted is KVM`},
		{
			"both network forms", "a-user", append(with(), "iptonetworklist[0].networkid", w.network), 431,
			"ipToNetworkMap can't be specified along with networkIds or ipAddress",
		},
		{
			"MAC", "a-user", with("macaddress", "01:00:5e:00:00:01"), 431,
			`Invalid value "01:00:5e:00:00:01" in parameter macaddress: a unicast MAC address as 02:00:00:00:00:01 is accepted`,
		},
		{
			"unknown VM", "a-user", full("startVirtualMachine", "id", none), 431,
			"Invalid parameter id value=" + none + " due to incorrect long value format, or entity does not exist",
		},
		{
			"state of a list", "a-user", full("listVirtualMachines", "state", "Flying"), 431,
			`Invalid state "flying" in parameter state; accepted are Running, Starting, Stopping, Stopped, Migrating, Destroyed, Expunging, Error and Present`,
		},
		{"expunge by a user", "a-user", nil, 531, "Parameter expunge can be passed by an admin only"},
		{"start of a running VM", "a-user", nil, 431, ""},
		{"foreign VM", "b-user", nil, 431, ""},
	}
	running := w.Must("a-user", "deployVirtualMachine", "zoneid", w.zone, "templateid", w.template, "serviceofferingid", w.tiny, "networkids", w.network)
	vmID := running.String("virtualmachine.id")
	tests[12].call = full("destroyVirtualMachine", "id", vmID, "expunge", "true")
	tests[13].call = full("startVirtualMachine", "id", vmID)
	tests[13].text = "Unable to start VM " + vmID + ": it is Running, and must be Stopped"
	tests[14].call = full("destroyVirtualMachine", "id", vmID)
	tests[14].text = "Invalid parameter id value=" + vmID + " due to incorrect long value format, or entity does not exist"
	rowsOf := func() [4]int {
		r := w.Read()
		return [4]int{tables.VMs.Len(r), tables.Volumes.Len(r), tables.NICs.Len(r), tables.Jobs.Len(r)}
	}
	before := rowsOf()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := w.Call(tt.user, tt.call[0], tt.call[1:]...)
			text, code := a.Error()
			if code != tt.code || a.Status != tt.code {
				t.Errorf("got code %d with status %d, want %d", code, a.Status, tt.code)
			}
			if d := cmp.Diff(tt.text, text); d != "" {
				t.Error(d)
			}
			if got := rowsOf(); got != before {
				t.Errorf("rows went from %v to %v", before, got)
			}
		})
	}
}

func TestNoCapacity(t *testing.T) {
	w := newWorld(t)
	for range 2 {
		w.Must("a-user", "deployVirtualMachine", "zoneid", w.zone, "templateid", w.template, "serviceofferingid", w.tiny, "networkids", w.network)
	}
	a := w.deploy("a-user", "name", "third")
	j := w.Job("a-user", a.String("jobid"))
	text, _ := j.Get("jobresult.errortext").(string)
	if !strings.HasSuffix(text, "host h1: 512 MiB memory are wanted and 256 of 1280 MiB are free") || j.Get("jobresult.errorcode") != 533.0 {
		t.Errorf("the job says %s", j.Raw)
	}
	if got := w.Must("a-user", "listVirtualMachines", "name", "third").String("virtualmachine.state"); got != "Error" {
		t.Errorf("the VM is %s", got)
	}
	w.Must("root", "destroyVirtualMachine", "id", a.String("id"), "expunge", "true")
}

func TestKeysAndPassword(t *testing.T) {
	w := newWorld(t)
	made := w.Must("a-user", "createSSHKeyPair", "name", "k")
	w.golden("createSSHKeyPair", made, made.String("keypair.privatekey"), made.String("keypair.fingerprint"))
	block, _ := pem.Decode([]byte(made.String("keypair.privatekey")))
	private, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	list := w.Must("a-user", "listSSHKeyPairs", "name", "k")
	w.golden("listSSHKeyPairs", list, list.String("sshkeypair.fingerprint"))
	if list.Get("sshkeypair.privatekey") != nil {
		t.Error("the private key is kept")
	}
	if text, code := w.Call("a-user", "createSSHKeyPair", "name", "k").Error(); code != 431 || text != "A key pair with name 'k' already exists." {
		t.Errorf("a second key of the name: %d %s", code, text)
	}
	if got := w.Must("b-user", "listSSHKeyPairs", "listall", "true"); len(got.Object) != 0 {
		t.Errorf("another account sees %s", got.Raw)
	}
	vmAnswer := w.Must("a-user", "deployVirtualMachine", "zoneid", w.zone, "templateid", w.template, "serviceofferingid", w.tiny,
		"networkids", w.network, "keypair", "k")
	told := w.Must("a-user", "getVMPassword", "id", vmAnswer.String("virtualmachine.id"))
	w.golden("getVMPassword", told, told.String("password.encryptedpassword"))
	cipher, err := base64.StdEncoding.DecodeString(told.String("password.encryptedpassword"))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := rsa.DecryptPKCS1v15(rand.Reader, private, cipher) //nolint:staticcheck // as clients do
	if err != nil || string(plain) != vmAnswer.String("virtualmachine.password") {
		t.Errorf("decrypted %q, %v", plain, err)
	}
	gone := w.Must("a-user", "deleteSSHKeyPair", "name", "k")
	w.Golden("deleteSSHKeyPair", gone)
	if text, code := w.Call("a-user", "deleteSSHKeyPair", "name", "k").Error(); code != 431 ||
		text != "A key pair with name 'k' does not exist for account a-user" {
		t.Errorf("deleting it again: %d %s", code, text)
	}
	for _, bad := range []string{"nonsense", `command="x" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUd0Jw8Y5VvHcb2w1sBS7BdOMnUAGWuq2nCGgYx5o9p`} {
		if text, code := w.Call("a-user", "registerSSHKeyPair", "name", "r", "publickey", bad).Error(); code != 431 || !strings.HasPrefix(text, "Public key is invalid") {
			t.Errorf("public key %q: %d %s", bad, code, text)
		}
	}
	reg := w.Must("a-user", "registerSSHKeyPair", "name", "r", "publickey", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUd0Jw8Y5VvHcb2w1sBS7BdOMnUAGWuq2nCGgYx5o9p me@home")
	w.Golden("registerSSHKeyPair", reg)
	w.CheckSDK("registerSSHKeyPair", reg)
}

// What an administrator changes of offerings, and the sizes that a customized one takes.
func TestChangeOfferings(t *testing.T) {
	w := newWorld(t)
	o := w.Must("root", "createServiceOffering", "name", "own size", "displaytext", "S", "mincpunumber", "1", "maxcpunumber", "2",
		"minmemory", "64", "maxmemory", "256", "storagetype", "local", "bytesreadrate", "1000", "networkrate", "10").String("serviceoffering.id")
	changed := w.Must("root", "updateServiceOffering", "id", o, "name", "any size", "sortkey", "1", "hosttags", "")
	w.golden("updateServiceOffering", changed)
	if first := w.Must("a-user", "listServiceOfferings").String("serviceoffering.name"); first != "any size" {
		t.Errorf("the first offering is %s", first)
	}
	for _, x := range []struct {
		details []string
		text    string
	}{
		{nil, "cpuNumber is missing"},
		{[]string{"details[0].cpuNumber", "3", "details[0].cpuSpeed", "100", "details[0].memory", "64"}, "it must be a number between 1 and 2"},
		{[]string{"details[0].cpuNumber", "1", "details[0].cpuSpeed", "100", "details[0].memory", "257"}, "it must be a number between 64 and 256"},
		{[]string{"details[0].cpuNumber", "2", "details[0].cpuSpeed", "100", "details[0].memory", "65"}, ""},
	} {
		a := w.Call("a-user", "deployVirtualMachine", append([]string{
			"zoneid", w.zone, "templateid", w.template, "serviceofferingid", o, "networkids", w.network,
		}, x.details...)...)
		if !strings.Contains(string(a.Raw), x.text) || (a.Status == 200) != (x.text == "") {
			t.Errorf("%v: %s", x.details, a.Raw)
		}
		if a.Status == 200 {
			if m := w.Job("a-user", a.String("jobid")).Get("jobresult.virtualmachine.memory"); m != 65.0 {
				t.Errorf("the VM has %v MiB", m)
			}
		}
	}
	w.refuse("root", 431, "must be above", "createServiceOffering", "name", "x", "displaytext", "x", "iopsreadrate", "5", "iopsreadratemax", "4")
	w.refuse("root", 431, "Please specify systemvmtype", "createServiceOffering", "name", "x", "displaytext", "x", "issystem", "true", "cpunumber", "1", "cpuspeed", "100", "memory", "64")
	d := w.Must("root", "createDiskOffering", "name", "d", "displaytext", "D", "disksize", "1").String("diskoffering.id")
	w.golden("updateDiskOffering", w.Must("root", "updateDiskOffering", "id", d, "name", "fast", "iopswriterate", "100", "cachemode", "writeback", "displayoffering", "false"))
	if a := w.Must("a-user", "listDiskOfferings", "id", d); len(a.Object) != 0 {
		t.Errorf("a hidden offering is listed: %s", a.Raw)
	}
	w.Must("root", "updateServiceOffering", "id", o, "state", "Inactive")
	if a := w.Must("a-user", "listServiceOfferings", "name", "any size"); len(a.Object) != 0 {
		t.Errorf("an inactive offering is listed: %s", a.Raw)
	}
	w.refuse("a-user", 431, "entity does not exist", "deployVirtualMachine", "zoneid", w.zone, "templateid", w.template, "serviceofferingid", o)
}

func TestOfferings(t *testing.T) {
	w := newWorld(t)
	made := w.Must("root", "createServiceOffering", "name", "s", "displaytext", "S", "cpunumber", "1", "cpuspeed", "100", "memory", "128",
		"domainid", w.Domains["ROOT/a"].ID.String(), "tags", "ssd, fast", "hosttags", "gpu")
	w.Golden("createServiceOffering", made)
	w.CheckSDK("createServiceOffering", made)
	offeringID := made.String("serviceoffering.id")
	names := func(user string) (out []string) {
		rows, _ := w.Must(user, "listServiceOfferings").Get("serviceoffering").([]any)
		for _, o := range rows {
			name, _ := o.(map[string]any)["name"].(string)
			out = append(out, name)
		}
		return out
	}
	for user, want := range map[string][]string{"root": {"tiny", "s"}, "a-user": {"tiny", "s"}, "x-user": {"tiny", "s"}, "b-user": {"tiny"}} {
		if d := cmp.Diff(want, names(user)); d != "" {
			t.Errorf("%s sees: %s", user, d)
		}
	}
	foreign := w.Call("b-user", "deployVirtualMachine", "zoneid", w.zone, "templateid", w.template, "serviceofferingid", offeringID,
		"networkids", w.foreign)
	if text, code := foreign.Error(); code != 431 || !strings.HasPrefix(text, "Invalid parameter serviceofferingid value="+offeringID) {
		t.Errorf("an offering of another domain can be used: %d %s", code, text)
	}
	if _, code := w.Call("a-user", "createServiceOffering", "name", "s", "displaytext", "S", "cpunumber", "1", "cpuspeed", "1", "memory", "64").Error(); code != 432 && code != 531 {
		t.Errorf("a user may make offerings: %d", code)
	}
	w.golden("listServiceOfferings", w.Must("root", "listServiceOfferings", "id", offeringID))
	w.Golden("deleteServiceOffering", w.Must("root", "deleteServiceOffering", "id", offeringID))
	if d := cmp.Diff([]string{"tiny"}, names("root")); d != "" {
		t.Error(d)
	}
	disk := w.Must("root", "createDiskOffering", "name", "d", "displaytext", "D", "disksize", "5")
	w.Golden("createDiskOffering", disk)
	w.CheckSDK("createDiskOffering", disk)
	w.golden("listDiskOfferings", w.Must("a-user", "listDiskOfferings"))
	two := w.Must("a-user", "deployVirtualMachine", "zoneid", w.zone, "templateid", w.template, "serviceofferingid", w.tiny,
		"networkids", w.network, "startvm", "false", "diskofferingid", disk.String("diskoffering.id"))
	if s := two.String("virtualmachine.state"); s != "Stopped" {
		t.Errorf("a VM deployed with startvm=false is %s", s)
	}
	if n := len(compute.VolumesOf(w.Read(), mustParse(t, two.String("virtualmachine.id")))); n != 2 {
		t.Errorf("it has %d volumes, want 2", n)
	}
	w.golden("deleteDiskOffering", w.Must("root", "deleteDiskOffering", "id", disk.String("diskoffering.id")))
}

func mustParse(t *testing.T, s string) cloud.ID {
	t.Helper()
	id, err := cloud.ParseID(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
