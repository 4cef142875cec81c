package simtest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/wispcloud/wisp/agent/agenttest"
)

// TestDomainRemovedWhileKilled removes a domain with accounts and a project that have running VMs, data disks, networks
// with routers, addresses, keys and groups on hosts, and kills the coordinator at random moments of it. In the end
// nothing of the domain is left, here or on the hosts, and the administrator's own VM runs where it ran.
func TestDomainRemovedWhileKilled(t *testing.T) {
	w := NewProcesses(t, 1)
	s := w.NewSite(2, agenttest.Options{Heartbeat: 500 * time.Millisecond, Latency: agenttest.Latency{
		Start: 40 * time.Millisecond, Stop: 100 * time.Millisecond, Volume: 50 * time.Millisecond, Network: 50 * time.Millisecond,
	}})
	s.Ready()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	kept, job, err := s.Deploy("kept")
	if err != nil {
		t.Fatal(err)
	}
	s.done(t, job)
	top := w.Must("createDomain", "name", "going").Text("domain.id")
	below := w.Must("createDomain", "name", "below", "parentdomainid", top).Text("domain.id")
	for name, domain := range map[string]string{"one": top, "two": below} {
		w.Must("createAccount", "accounttype", "0", "username", name, "password", "p", "firstname", "F", "lastname", "L", "email", "a@example.org", "domainid", domain)
		s.furnish("account", name, "domainid", domain)
	}
	project := w.Must("createProject", "name", "work", "displaytext", "work", "account", "one", "domainid", top)
	s.furnish("projectid", project.Text("project.id"))
	if got := len(s.Running()); got != 4 {
		t.Fatalf("%d VMs run", got)
	}
	removal, err := w.Call("deleteDomain", "id", top, "cleanup", "true")
	if err != nil {
		t.Fatal(err)
	}
	for range rounds(t) {
		s.killAfter(time.Duration(rnd.IntN(250)) * time.Millisecond)
	}
	s.done(t, removal.Text("jobid"))
	w.Until("nothing left of the domain", 60*time.Second, func() error { return s.onlyKept(kept) })
}

// done waits for a job.
func (s *Site) done(t *testing.T, job string) {
	t.Helper()
	if _, err := s.w.Job(job, 120*time.Second); err != nil {
		t.Fatalf("job %s: %v", job, err)
	}
}

// furnish gives an owner one of everything.
func (s *Site) furnish(owner ...string) {
	s.w.t.Helper()
	must := func(command string, params ...string) Object {
		return s.w.Must(command, slices.Concat(params, owner)...)
	}
	network := must("createNetwork", "name", "net", "displaytext", "net", "zoneid", s.Zone, "networkofferingid", s.NetworkOffer).Text("network.id")
	must("createSSHKeyPair", "name", "key")
	must("createInstanceGroup", "name", "group")
	must("createAffinityGroup", "name", "apart", "type", "host anti-affinity")
	must("deployVirtualMachine", "zoneid", s.Zone, "serviceofferingid", s.Offering, "templateid", s.Template, "networkids", network, "name", "vm")
	must("associateIpAddress", "zoneid", s.Zone, "networkid", network)
}

// onlyKept tells what there is beside the administrator's VM, its disk, its network and that one's address.
func (s *Site) onlyKept(kept string) error {
	running := 0
	for i, h := range s.Hosts {
		for _, vm := range h.Defined() {
			if running++; vm == "" || running > 1 {
				return fmt.Errorf("host %d has the domains %v", i, h.Defined())
			}
		}
	}
	if running != 1 {
		return fmt.Errorf("%d VMs are defined on hosts", running)
	}
	for _, l := range []struct {
		command, object string
		want            int
	}{
		{"listVirtualMachines", "virtualmachine", 1},
		{"listVolumes", "volume", 1},
		{"listNetworks", "network", 1},
		{"listRouters", "router", 1},
		{"listPublicIpAddresses", "publicipaddress", 1},
		{"listSSHKeyPairs", "sshkeypair", 0},
		{"listInstanceGroups", "instancegroup", 0},
		{"listAffinityGroups", "affinitygroup", 0},
		{"listProjects", "project", 0},
		{"listDomains", "domain", 1},
		{"listAccounts", "account", 1},
	} {
		if rows := s.w.Must(l.command, "listall", "true").List(l.object); len(rows) != l.want {
			return fmt.Errorf("%s has %d rows: %v", l.command, len(rows), rows)
		}
	}
	for _, l := range []struct{ command, object string }{
		{"listVirtualMachines", "virtualmachine"}, {"listVolumes", "volume"}, {"listNetworks", "network"}, {"listPublicIpAddresses", "publicipaddress"},
	} {
		if rows := s.w.Must(l.command, "projectid", "-1").List(l.object); len(rows) != 0 {
			return fmt.Errorf("%s of projects has %d rows: %v", l.command, len(rows), rows)
		}
	}
	if vm := s.w.Must("listVirtualMachines", "id", kept).Text("virtualmachine.state"); vm != "Running" {
		return fmt.Errorf("the administrator's VM is %s", vm)
	}
	return nil
}
