package apply_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/cmd/wisp/internal/apply"
	"github.com/wispcloud/wisp/coordinator/cmd/wisp/internal/client"
)

// fakeCloud keeps what is created under the object's name, and answers lists from it by every parameter that is a field.
type fakeCloud struct {
	rows  map[string][]client.Object // by object key
	calls []string
	fail  string // command that is refused
}

// creates maps create commands to the object they make.
var creates = map[string]string{
	"createZone": "zone", "createPhysicalNetwork": "physicalnetwork", "addTrafficType": "traffictype",
	"createVlanIpRange": "vlaniprange", "createPod": "pod", "addCluster": "cluster", "addSecondaryStorage": "imagestore",
	"createServiceOffering": "serviceoffering", "createNetworkOffering": "networkoffering", "registerTemplate": "template",
	"createNetwork": "network",
}

var updates = map[string]string{
	"updateZone": "zone", "updatePhysicalNetwork": "physicalnetwork", "updateNetworkOffering": "networkoffering",
	"updateNetworkServiceProvider": "networkserviceprovider", "configureVirtualRouterElement": "virtualrouterelement",
}

func newFakeCloud() *fakeCloud {
	return &fakeCloud{rows: map[string][]client.Object{
		"configuration": {{"name": "expunge.delay", "value": "86400"}},
		"host":          {{"id": "h1", "name": "h1", "state": "Up"}},
		"ostype":        {{"id": "os1", "description": "Other Linux (64-bit)"}},
	}}
}

func (f *fakeCloud) Run(_ context.Context, command string, p map[string]string) (client.Object, error) {
	f.calls = append(f.calls, command)
	if command == f.fail {
		return nil, &client.Error{Command: command, Status: 431, Text: "refused"}
	}
	switch object := creates[command]; {
	case object != "":
		o := client.Object{"id": fmt.Sprintf("%s-%d", object, len(f.rows[object]))}
		for k, v := range p {
			o[k] = v
		}
		if object == "cluster" {
			o["name"] = p["clustername"]
		}
		if object == "template" {
			o["isready"] = "true"
		}
		f.rows[object] = append(f.rows[object], o)
		if object == "physicalnetwork" {
			f.rows["networkserviceprovider"] = append(f.rows["networkserviceprovider"],
				client.Object{"id": "nsp", "name": "VirtualRouter", "state": "Disabled", "physicalnetworkid": o["id"]})
			f.rows["virtualrouterelement"] = append(f.rows["virtualrouterelement"], client.Object{"id": "vre", "nspid": "nsp", "enabled": "false"})
		}
		return client.Object{object: map[string]any(o)}, nil
	case command == "addHost":
		maps.Copy(f.rows["host"][0], client.Object{"clusterid": p["clusterid"], "url": p["url"]})
	case command == "updateConfiguration":
		f.rows["configuration"][0]["value"] = p["value"]
	default:
		i := slices.IndexFunc(f.rows[updates[command]], func(o client.Object) bool { return o.Text("id") == p["id"] })
		if i < 0 {
			return nil, fmt.Errorf("%s of unknown id %q", command, p["id"])
		}
		for k, v := range p {
			f.rows[updates[command]][i][k] = v
		}
	}
	return client.Object{}, nil
}

func (f *fakeCloud) List(_ context.Context, _, object string, p map[string]string) ([]client.Object, error) {
	var out []client.Object
	for _, o := range f.rows[object] {
		keep := true
		for k, v := range p {
			if have, ok := o[k]; ok && have != v {
				keep = false
			}
		}
		if keep {
			out = append(out, o)
		}
	}
	return out, nil
}

const declaration = `
settings: {expunge.delay: "60"}
zones:
  - name: z
    networktype: Advanced
    dns1: 192.0.2.1
    physicalnetworks:
      - name: p
        vlan: 1000-1999
        traffictypes: [{traffictype: Guest}, {traffictype: Public, kvmnetworklabel: cloudbr1}]
        providers: [VirtualRouter]
    publicipranges: [{startip: 203.0.113.10, endip: 203.0.113.20, gateway: 203.0.113.1, netmask: 255.255.255.0}]
    pods:
      - name: pod
        clusters:
          - clustername: c
            hosts: ${HOSTS}
    secondarystorage: [{url: "file:///srv"}]
serviceofferings: [{name: tiny, displaytext: t, cpunumber: 1, cpuspeed: 200, memory: 128}]
networkofferings:
  - name: iso
    displaytext: i
    services: {Dhcp: VirtualRouter, SourceNat: VirtualRouter}
    capabilities: {SourceNat: {SupportedSourceNatTypes: peraccount}}
templates: [{name: t, url: "http://192.0.2.1/t", zone: z, ostype: Other Linux (64-bit)}]
networks: [{name: n, zone: z, networkoffering: iso}]
`

func run(t *testing.T, f *fakeCloud, text string) (out string, changed, unchanged int, err error) {
	t.Helper()
	file, err := apply.Parse([]byte(text), "test.yaml", func(v string) (string, bool) { return "h1", v == "HOSTS" })
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	a := apply.Applier{API: f, Out: &b, Wait: 5 * time.Second}
	changed, unchanged, err = a.Apply(t.Context(), file)
	return b.String(), changed, unchanged, err
}

func TestApply(t *testing.T) {
	f := newFakeCloud()
	out, changed, _, err := run(t, f, declaration)
	if err != nil {
		t.Fatal(err)
	}
	want := `changed setting expunge.delay
created zone z
created physical network p
created traffic type Guest
created traffic type Public
changed physical network p (state=Enabled)
changed provider VirtualRouter (state=Enabled)
created public range 203.0.113.10-203.0.113.20
created pod pod
created cluster c
created host h1
created secondary storage file:///srv
changed zone z (allocationstate=Enabled)
created service offering tiny
created network offering iso
changed network offering iso (state=Enabled)
created template t
created network n
`
	if d := cmp.Diff(want, out); d != "" {
		t.Error(d)
	}
	if want := strings.Count(want, "\n"); changed != want {
		t.Errorf("%d are said to be changed, %d lines were printed", changed, want)
	}
	if got := f.rows["networkoffering"][0].Text("servicecapabilitylist[0].capabilityvalue"); got != "peraccount" {
		t.Errorf("the capability came through as %q", got)
	}

	f.calls = nil
	out, changed, unchanged, err := run(t, f, declaration)
	if err != nil || out != "" || changed != 0 || len(f.calls) != 0 {
		t.Errorf("the second run: %d changed, calls %v, error %v, said:\n%s", changed, f.calls, err, out)
	}
	if unchanged == 0 {
		t.Error("the second run saw nothing")
	}

	out, _, _, err = run(t, f, strings.ReplaceAll(declaration, "192.0.2.1\n", "192.0.2.2\n"))
	if err != nil || out != "changed zone z (dns1)\n" {
		t.Errorf("a changed field: error %v, said:\n%s", err, out)
	}
}

func TestApplyStopsAtRefusal(t *testing.T) {
	f := newFakeCloud()
	f.fail = "createPod"
	_, _, _, err := run(t, f, declaration)
	want := "zone z: pod pod: createPod: refused (error 431)"
	if err == nil || err.Error() != want {
		t.Fatalf("got %v, want %s", err, want)
	}
	f.fail = ""
	if _, _, _, err := run(t, f, declaration); err != nil {
		t.Fatalf("the run after the refusal: %v", err)
	}
}

func TestParseRefusals(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"unknown key", "zone: []", "read test.yaml: yaml: unmarshal errors:\n  line 1: field zone not found in type apply.File"},
		{"unset variable", "settings:\n  a: ${A}\n  b: ${B}x", "read test.yaml: set the environment variables A, B, which it uses"},
		{"variables never become structure", "settings: ${HOSTS}", "read test.yaml: yaml: unmarshal errors:\n" +
			"  line 1: cannot unmarshal !!str `a: b` into map[string]string"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := apply.Parse([]byte(tt.text), "test.yaml", func(v string) (string, bool) { return "a: b", v == "HOSTS" })
			if err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}
