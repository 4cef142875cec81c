package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wispcloud/wisp/agent/agenttest"
	"github.com/wispcloud/wisp/packaging/api"
)

// cloud is a declared cloud of simulated hosts: they speak the real protocol to real coordinators, and only their
// hypervisor, disks and links are made up.
type cloud struct {
	admin    *api.Client
	hosts    []*agenttest.Host
	zone     string
	template string
	offering string
	network  string
}

const declaration = `
settings:
  secstorage.allowed.internal.sites: 127.0.0.0/8
  expunge.delay: "0"
zones:
  - name: z1
    networktype: Advanced
    dns1: 192.0.2.53
    internaldns1: 192.0.2.53
    guestcidraddress: 10.1.0.0/16
    localstorageenabled: "true"
    physicalnetworks:
      - name: p1
        isolationmethods: VXLAN
        vlan: 1000-1999
        traffictypes: [{traffictype: Management}, {traffictype: Guest}, {traffictype: Public, kvmnetworklabel: cloudbr1}]
        providers: [VirtualRouter]
    publicipranges: [{vlan: untagged, gateway: 203.0.113.1, netmask: 255.255.255.0, startip: 203.0.113.10, endip: 203.0.113.250}]
    pods:
      - {name: pod1, gateway: 192.0.2.1, netmask: 255.255.255.0, startip: 192.0.2.10, endip: 192.0.2.20,
         clusters: [{clustername: c1, hypervisor: KVM, hosts: "${HOSTS}"}]}
    secondarystorage: [{url: "file://${SECONDARY}", name: s1}]
serviceofferings: [{name: tiny, displaytext: t, cpunumber: "1", cpuspeed: "100", memory: "64", storagetype: local}]
networkofferings:
  - name: iso
    displaytext: isolated
    guestiptype: Isolated
    traffictype: GUEST
    services: {Dhcp: VirtualRouter, Dns: VirtualRouter, UserData: VirtualRouter, SourceNat: VirtualRouter, Firewall: VirtualRouter,
      PortForwarding: VirtualRouter}
    capabilities: {SourceNat: {SupportedSourceNatTypes: peraccount}}
templates:
  - {name: t1, displaytext: t, url: "${TEMPLATE}", checksum: "{SHA-256}${SHA256}", zone: z1, format: QCOW2, hypervisor: KVM,
     ostype: Other Linux (64-bit), ispublic: "true"}
networks: [{name: n1, displaytext: n, zone: z1, networkoffering: iso}]
`

// tinyQcow2 is an empty qcow2 image of 1 MiB (QEMU docs/interop/qcow2.txt, version 2): header, refcount table and block,
// and an L1 table without entries.
func tinyQcow2() []byte {
	const cluster = 1 << 16
	img := make([]byte, 4*cluster)
	be := binary.BigEndian
	copy(img, "QFI\xfb")
	be.PutUint32(img[4:], 2)
	be.PutUint32(img[20:], 16)        // cluster bits
	be.PutUint64(img[24:], 1<<20)     // virtual size
	be.PutUint32(img[36:], 1)         // L1 entries
	be.PutUint64(img[40:], 3*cluster) // L1 table
	be.PutUint64(img[48:], cluster)   // refcount table
	be.PutUint32(img[56:], 1)         // its clusters
	be.PutUint64(img[cluster:], 2*cluster)
	for i := range 4 {
		be.PutUint16(img[2*cluster+2*i:], 1)
	}
	return img
}

// newCloud joins n simulated hosts to the cloud that the node serves, declares it with the real wisp, and looks up its ids.
func newCloud(t *testing.T, n *node, hosts int, latency agenttest.Latency) *cloud {
	t.Helper()
	c := &cloud{admin: n.admin(t)}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var token struct {
		Token struct {
			Token string `json:"token"`
		} `json:"hostjointoken"`
	}
	if err := c.admin.Do(ctx, "createHostJoinToken", api.Params{"uses": fmt.Sprint(hosts)}, &token); err != nil {
		t.Fatal(err)
	}
	var names []string
	for i := range hosts {
		h := agenttest.New(agenttest.Options{
			Name: fmt.Sprintf("h%d", i+1), Token: token.Token.Token, Latency: latency, Heartbeat: time.Second, Slow: time.Second, FetchImages: true,
		})
		if err := h.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(h.PowerOff)
		c.hosts = append(c.hosts, h)
		names = append(names, fmt.Sprintf("h%d", i+1))
	}
	c.declare(ctx, t, names)
	for _, look := range []struct {
		command, key, name string
		id                 *string
		more               api.Params
	}{
		{"listZones", "zone", "z1", &c.zone, nil},
		{"listTemplates", "template", "t1", &c.template, api.Params{"templatefilter": "all"}},
		{"listServiceOfferings", "serviceoffering", "tiny", &c.offering, nil},
		{"listNetworks", "network", "n1", &c.network, nil},
	} {
		params := api.Params{"name": look.name}
		for k, v := range look.more {
			params[k] = v
		}
		rows, err := api.List[struct {
			ID   string `json:"id"`
			Name string `json:"name"`
		}](ctx, c.admin, look.command, look.key, params)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			if r.Name == look.name {
				*look.id = r.ID
			}
		}
		if *look.id == "" {
			t.Fatalf("%s has no %s: %v", look.command, look.name, rows)
		}
	}
	return c
}

// declare runs wisp apply twice; the second run must change nothing.
func (c *cloud) declare(ctx context.Context, t *testing.T, hosts []string) {
	t.Helper()
	image := tinyQcow2()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "t.qcow2", time.Time{}, bytes.NewReader(image))
	}))
	defer web.Close()
	dir := t.TempDir()
	file := filepath.Join(dir, "cloud.yaml")
	if err := os.WriteFile(file, []byte(declaration), 0o600); err != nil {
		t.Fatal(err)
	}
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	var out []byte
	for range 2 {
		cmd := exec.CommandContext(ctx, filepath.Join(bin, "wisp"), "apply", "-f", file, "--wait", "30s")
		cmd.Env = append(os.Environ(), "CLOUDSTACK_ENDPOINT="+c.admin.Endpoint, "CLOUDSTACK_KEY="+c.admin.Key, "CLOUDSTACK_SECRET="+c.admin.Secret,
			"HOSTS="+strings.Join(hosts, ","), "SECONDARY="+filepath.Join(dir, "secondary"), "TEMPLATE="+web.URL+"/t.qcow2",
			fmt.Sprintf("SHA256=%x", sha256.Sum256(image)))
		began := time.Now()
		if out, err = cmd.CombinedOutput(); err != nil {
			t.Fatalf("wisp apply: %v\n%s", err, out)
		}
		t.Logf("wisp apply took %.1f s", time.Since(began).Seconds())
	}
	if !bytes.HasPrefix(out, []byte("0 changed, ")) {
		t.Fatalf("the second wisp apply changed something:\n%s", out)
	}
}

// vm is what the tests read of a VM.
type vm struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	State string `json:"state"`
	Host  string `json:"hostname"`
	NICs  []struct {
		IP string `json:"ipaddress"`
	} `json:"nic"`
}

func (c *cloud) vms(ctx context.Context) ([]vm, error) {
	return api.List[vm](ctx, c.admin, "listVirtualMachines", "virtualmachine", nil)
}

func (c *cloud) deployParams(name string) api.Params {
	return api.Params{"zoneid": c.zone, "templateid": c.template, "serviceofferingid": c.offering, "networkids": c.network, "name": name}
}

// empty tells what is left when every VM has been destroyed: nothing may be.
func (c *cloud) empty(ctx context.Context) error {
	left, err := c.vms(ctx)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("VMs are left: %+v", left)
	}
	volumes, err := api.List[struct {
		ID string `json:"id"`
	}](ctx, c.admin, "listVolumes", "volume", nil)
	if err != nil {
		return err
	}
	if len(volumes) > 0 {
		return fmt.Errorf("volumes are left: %+v", volumes)
	}
	for _, h := range c.hosts {
		if d, v := h.Defined(), h.Volumes(); len(d) > 0 || len(v) > 0 {
			return fmt.Errorf("host %s keeps domains %v and volumes %v", h.ID(), d, v)
		}
	}
	hosts, err := api.List[struct {
		Name   string `json:"name"`
		Memory int64  `json:"memoryallocated"`
		CPU    string `json:"cpuallocated"`
	}](ctx, c.admin, "listHosts", "host", api.Params{"type": "Routing"})
	if err != nil {
		return err
	}
	for _, h := range hosts {
		if h.Memory != 0 || strings.Trim(h.CPU, "0.%") != "" {
			return fmt.Errorf("host %s counts %d bytes of memory and %s CPU", h.Name, h.Memory, h.CPU)
		}
	}
	return nil
}
