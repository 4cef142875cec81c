package simtest

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wispcloud/wisp/agent/agenttest"
)

// routed is a network whose router is replaced again and again, and what must stay.
type routed struct {
	network, publicMAC, guestMAC, address string
}

// TestReplacedWhileKilled replaces routers by others on the same host, in another placement and on another host, and
// kills the leader, or halts it and lets it go on after another one leads, at random moments of it. Every replacement ends,
// or its job says why not; then one router is in charge and heard, with the addresses it always had, and nothing of the
// others is left on hosts or in the books. At no moment are two heard (ether).
func TestReplacedWhileKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("starts three processes")
	}
	w := NewProcesses(t, 3)
	s := w.NewSite(3, agenttest.Options{Heartbeat: 500 * time.Millisecond, Latency: agenttest.Latency{
		Start: 100 * time.Millisecond, Stop: 40 * time.Millisecond, Network: 60 * time.Millisecond,
	}})
	s.systemImage()
	nets := s.routedNetworks(3)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	placement := "host"
	for round := range 2 * rounds(t) {
		if rnd.IntN(3) > 0 {
			placement = map[string]string{"host": "vm", "vm": "host"}[placement]
		}
		s.placeRouters(placement)
		leaving := ""
		if round%3 == 2 {
			leaving = s.router(nets[0].network).Text("hostid")
		}
		s.replaceAll(t, rnd, fmt.Sprintf("round %d to %s", round, placement), nets, placement, leaving)
	}
	s.placeRouters("host")
	s.replaceAll(t, nil, "in the end", nets, "host", "")
}

// systemImage registers an image that routers can boot.
func (s *Site) systemImage() {
	s.w.t.Helper()
	var b bytes.Buffer
	archive := tar.NewWriter(&b)
	add := func(name, content string) {
		_ = archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}) // to memory
		_, _ = archive.Write([]byte(content))
	}
	var files []string
	for _, name := range []string{"vmlinuz", "initrd", "root.squashfs"} {
		add(name, name)
		files = append(files, fmt.Sprintf(`{"name":%q,"size":%d,"sha256":"%x"}`, name, len(name), sha256.Sum256([]byte(name))))
	}
	add("manifest.json", `{"version":"sim","files":[`+strings.Join(files, ",")+`]}`)
	if err := archive.Close(); err != nil {
		s.w.t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(b.Bytes()) }))
	s.w.t.Cleanup(srv.Close)
	sum := sha256.Sum256(b.Bytes())
	os := s.w.Must("listOsTypes", "description", "Other Linux (64-bit)").Text("ostype.id")
	id := s.w.Must("registerTemplate", "name", "SystemVM Template (KVM)", "displaytext", "routers", "url", srv.URL+"/image.tar", "zoneid", s.Zone,
		"format", "SYSTEMVM", "hypervisor", "KVM", "ostypeid", os, "checksum", "{SHA-256}"+hex.EncodeToString(sum[:])).Text("template.id")
	s.w.Until("system template", 60*time.Second, func() error {
		if t := s.w.Must("listTemplates", "templatefilter", "all", "id", id); t.Get("template.isready") != true {
			return fmt.Errorf("template is %s", t.Text("template.status"))
		}
		return nil
	})
}

// routedNetworks makes networks that run without VMs.
func (s *Site) routedNetworks(n int) (nets []routed) {
	s.w.t.Helper()
	offering := s.w.Must("createNetworkOffering", "name", "persistent", "displaytext", "persistent", "guestiptype", "Isolated", "traffictype", "GUEST",
		"supportedservices", "Dhcp,Dns,UserData,SourceNat,StaticNat,Firewall,PortForwarding", "ispersistent", "true", "enable", "true").Text("networkoffering.id")
	for i := range n {
		name := fmt.Sprintf("net%d", i)
		id := s.w.Must("createNetwork", "name", name, "displaytext", name, "zoneid", s.Zone, "networkofferingid", offering).Text("network.id")
		var rt Object
		s.w.Until("router of "+name, 30*time.Second, func() error {
			if rt = s.router(id); rt.Text("state") != "Running" {
				return fmt.Errorf("it is %s", rt.Text("state"))
			}
			return nil
		})
		one := routed{id, rt.Text("publicmacaddress"), rt.Text("guestmacaddress"), rt.Text("publicip")}
		if one.publicMAC == "" || one.guestMAC == "" || one.address == "" {
			s.w.t.Fatalf("router of %s is %v", name, rt)
		}
		nets = append(nets, one)
	}
	return nets
}

func (s *Site) placeRouters(placement string) {
	s.w.t.Helper()
	s.w.Must("updateConfiguration", "name", "router.placement", "value", placement)
}

// router is the one that the API has for a network; an empty one where it has not exactly one.
func (s *Site) router(network string) Object {
	s.w.t.Helper()
	if l := s.w.Must("listRouters", "networkid", network, "listall", "true").List("router"); len(l) == 1 {
		return l[0]
	}
	return Object{}
}

// replaceAll has the routers of all networks replaced, and those of a host besides that is to leave for maintenance, with
// trouble by rnd, none where that is nil.
func (s *Site) replaceAll(t *testing.T, rnd *rand.Rand, what string, nets []routed, placement, leaving string) {
	t.Helper()
	before, jobs := map[string]string{}, map[string]string{}
	for _, n := range nets {
		before[n.network] = s.router(n.network).Text("id")
	}
	preparing := ""
	begin := func() {
		t.Helper()
		if leaving != "" {
			preparing = s.mustBegin("prepareHostForMaintenance", "id", leaving)
		}
	}
	first := rnd != nil && rnd.IntN(2) == 0
	if first {
		begin()
	}
	for _, n := range nets {
		jobs[n.network] = s.mustBegin("restartNetwork", "id", n.network, "cleanup", "true")
	}
	if !first {
		begin()
	}
	back := func() {}
	if rnd != nil {
		kill := rnd.IntN(2) == 0
		var pending int
		pending, back = s.troubleLeader(time.Duration(rnd.IntN(400))*time.Millisecond, kill, jobs)
		t.Logf("%s: %d of %d replacements were under way when the leader was hit (killed: %v), leaving: %v", what, pending, len(jobs), kill, leaving != "")
	}
	replaced := map[string]bool{}
	for _, n := range nets {
		_, err := s.w.Job(jobs[n.network], 90*time.Second)
		if err != nil && (leaving == "" || !strings.Contains(err.Error(), "the router of before goes on: ")) {
			t.Errorf("%s: replacement: %v", what, err)
		}
		replaced[n.network] = err == nil
		if err == nil && leaving == "" { // else it may be on its way to another host already
			s.checkReplaced(t, what, n, before[n.network], placement)
		}
	}
	back()
	if preparing != "" {
		// Routers move in the next pass of network.Area.Tend.
		s.w.Until(what+": the host is being left", 30*time.Second, func() error { return s.beingLeft(leaving) })
		_, back = s.troubleLeader(time.Duration(rnd.IntN(200))*time.Millisecond, rnd.IntN(2) == 0, nil)
		if _, err := s.w.Job(preparing, 90*time.Second); err != nil {
			t.Errorf("%s: maintenance: %v", what, err)
		}
		back()
	}
	s.w.Until(what+": all is settled", 60*time.Second, func() error { return s.oneEach(nets, leaving) })
	for _, n := range nets {
		if replaced[n.network] {
			s.checkReplaced(t, what, n, before[n.network], placement)
		}
	}
	if leaving != "" {
		s.w.Must("cancelHostMaintenance", "id", leaving)
	}
}

// checkReplaced checks what a job promised that succeeded.
func (s *Site) checkReplaced(t *testing.T, what string, n routed, before, placement string) {
	t.Helper()
	rt := s.router(n.network)
	inVM := rt.Text("templateid") != ""
	if rt.Text("state") != "Running" || inVM != (placement == "vm") || inVM && rt.Text("id") == before {
		t.Errorf("%s: the job that replaced router %s succeeded, and the router is %v", what, before, rt)
	}
}

// beingLeft tells that no router of a host is being replaced yet.
func (s *Site) beingLeft(host string) error {
	s.w.t.Helper()
	on := s.w.Must("listRouters", "hostid", host, "listall", "true").List("router")
	for _, rt := range on {
		if all := s.w.Must("listRouters", "networkid", rt.Text("guestnetworkid"), "listall", "true").List("router"); len(all) > 1 {
			return nil
		}
	}
	if len(on) == 0 {
		return nil
	}
	return fmt.Errorf("%d routers on it have no successor", len(on))
}

// mustBegin gives the job of a call.
func (s *Site) mustBegin(command string, params ...string) string {
	s.w.t.Helper()
	o, err := s.w.Call(command, params...)
	if err != nil {
		s.w.t.Fatalf("%s: %v", command, err)
	}
	return o.Text("jobid")
}

// troubleLeader kills the leader after a while and starts it again when another one leads, or halts it for that long: then
// it goes on as if it led yet. Nothing is asked of it until back is called, which waits for it to know what the others do. pending is how many of
// the jobs were under way before.
func (s *Site) troubleLeader(after time.Duration, kill bool, jobs map[string]string) (pending int, back func()) {
	s.w.t.Helper()
	leader := -1
	s.w.Until("a leader", 30*time.Second, func() error {
		if leader = s.w.Leader(); leader < 0 {
			return errors.New("nobody says that it leads")
		}
		return nil
	})
	<-time.After(after)
	for _, id := range jobs {
		if o, err := s.w.Call("queryAsyncJobResult", "jobid", id); err == nil && o["jobstatus"] == 0.0 {
			pending++
		}
	}
	goOn := func() { s.w.StartNode(leader) }
	if kill {
		s.w.KillNode(leader)
	} else {
		goOn = s.w.halt(leader)
	}
	s.w.Until("another leader", 30*time.Second, func() error {
		if s.w.Leader() < 0 {
			return errors.New("nobody says that it leads")
		}
		return nil
	})
	goOn()
	s.w.dropped.Store(leader, true)
	return pending, func() {
		s.w.t.Helper()
		s.w.Until("the one that led is back", 60*time.Second, func() error { return s.w.ready(leader) })
		s.w.dropped.Delete(leader)
	}
}

// halt stops a coordinator's process without ending it: its connections stay, and nothing answers. It gives what lets it
// go on.
func (w *World) halt(i int) (goOn func()) {
	w.t.Helper()
	signal := func(s syscall.Signal) {
		if err := syscall.Kill(w.nodes[i].pid, s); err != nil {
			w.t.Fatalf("signal %s to coordinator %s: %v", s, w.nodes[i].cfg.Node, err)
		}
	}
	halted := true
	goOn = func() {
		if halted {
			halted = false
			signal(syscall.SIGCONT)
		}
	}
	w.t.Cleanup(goOn)
	w.dropped.Store(i, true)
	signal(syscall.SIGSTOP)
	return goOn
}

// oneEach tells what is not as it must be when no replacement goes on: of each network one router that runs, has the
// addresses of old and is heard where the API says; on the hosts the domains of these routers; in the books no more.
func (s *Site) oneEach(nets []routed, empty string) error {
	domains, memory := map[string][]string{}, map[string]float64{}
	for _, n := range nets {
		rt := s.router(n.network)
		host := rt.Text("hostname")
		got := routed{n.network, rt.Text("publicmacaddress"), rt.Text("guestmacaddress"), rt.Text("publicip")}
		who := n.network
		if rt.Text("templateid") != "" {
			who = rt.Text("id")
			domains[host] = append(domains[host], who)
			size := s.w.Must("listServiceOfferings", "id", rt.Text("serviceofferingid"), "issystem", "true")
			mib, _ := size.Get("serviceoffering.memory").(float64)
			memory[host] += mib * (1 << 20)
		}
		if got != n || rt.Text("state") != "Running" || rt.Text("hostid") == empty {
			return fmt.Errorf("the router of %+v is %v", n, rt)
		}
		for _, mac := range []string{n.publicMAC, n.guestMAC} {
			if at := s.ether.sources(mac); !slices.Equal(at, []string{host + ": " + who}) {
				return fmt.Errorf("%s is heard from %q, the API says from %s on %s", mac, at, who, host)
			}
		}
	}
	for i, h := range s.Hosts {
		name := fmt.Sprintf("sim%d", i+1)
		slices.Sort(domains[name])
		if got := h.Defined(); !slices.Equal(got, domains[name]) {
			return fmt.Errorf("host %s has the domains %v, not %v", name, got, domains[name])
		}
		o := s.w.Must("listHosts", "name", name)
		if used, ok := o.Get("host.memoryallocated").(float64); !ok || used != memory[name] {
			return fmt.Errorf("host %s has %v bytes of memory allocated, and its routers take %v", name, o.Get("host.memoryallocated"), memory[name])
		}
	}
	for _, c := range s.w.Must("listCapacity", "zoneid", s.Zone).List("capacity") {
		kind := c["name"]
		if used, _ := c["capacityused"].(float64); (kind == "VIRTUAL_NETWORK_PUBLIC_IP" || kind == "VLAN") && used != float64(len(nets)) {
			return fmt.Errorf("%v of %v is counted as used by %d networks", used, kind, len(nets))
		}
	}
	return nil
}
