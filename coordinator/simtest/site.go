package simtest

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/wispcloud/wisp/agent/agenttest"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// Site is a zone with everything that VMs need, and its hosts.
type Site struct {
	w                                *World
	Zone, Pod, Cluster               string
	Offering, Template, NetworkOffer string
	Network                          string
	Hosts                            []*agenttest.Host
	image                            []byte
	ether                            *ether
}

// NewSite makes a zone and hosts in it, through the API as an operator does.
func (w *World) NewSite(hosts int, o agenttest.Options) *Site {
	w.t.Helper()
	s := &Site{w: w, image: emptyQCOW2(64 << 20), ether: &ether{heard: map[string][]string{}}}
	w.t.Cleanup(func() { // after the hosts are switched off
		for _, text := range s.ether.doubles {
			w.t.Error(text)
		}
	})
	w.Must("updateConfiguration", "name", "secstorage.allowed.internal.sites", "value", "127.0.0.0/8")
	s.Zone = w.Must("createZone", "name", "sim", "networktype", "Advanced", "dns1", "192.0.2.53", "internaldns1", "192.0.2.53",
		"guestcidraddress", "10.1.0.0/16", "localstorageenabled", "true").Text("zone.id")
	pn := w.Must("createPhysicalNetwork", "name", "underlay", "zoneid", s.Zone, "isolationmethods", "VXLAN", "vlan", "1000-1999").Text("physicalnetwork.id")
	for _, t := range []string{"Management", "Guest", "Public"} {
		w.Must("addTrafficType", "physicalnetworkid", pn, "traffictype", t, "kvmnetworklabel", "cloudbr1")
	}
	w.Must("updatePhysicalNetwork", "id", pn, "state", "Enabled")
	nsp := w.Must("listNetworkServiceProviders", "physicalnetworkid", pn, "name", "VirtualRouter").Text("networkserviceprovider.id")
	element := w.Must("listVirtualRouterElements", "nspid", nsp).Text("virtualrouterelement.id")
	w.Must("configureVirtualRouterElement", "id", element, "enabled", "true")
	w.Must("updateNetworkServiceProvider", "id", nsp, "state", "Enabled")
	w.Must("createVlanIpRange", "zoneid", s.Zone, "vlan", "untagged", "gateway", "198.51.100.1", "netmask", "255.255.255.0",
		"startip", "198.51.100.10", "endip", "198.51.100.99", "forvirtualnetwork", "true", "physicalnetworkid", pn)
	s.Pod = w.Must("createPod", "name", "pod1", "zoneid", s.Zone, "gateway", "192.0.2.1", "netmask", "255.255.255.0",
		"startip", "192.0.2.100", "endip", "192.0.2.199").Text("pod.id")
	s.Cluster = w.Must("addCluster", "zoneid", s.Zone, "podid", s.Pod, "clustername", "c1", "clustertype", "CloudManaged", "hypervisor", "KVM").Text("cluster.id")
	w.Must("addSecondaryStorage", "url", "file://"+w.t.TempDir()+"/secondary", "zoneid", s.Zone)
	w.Must("updateZone", "id", s.Zone, "allocationstate", "Enabled")
	for i := range hosts {
		s.AddHost(fmt.Sprintf("sim%d", i+1), fmt.Sprintf("192.0.2.%d", 100+i), o)
	}
	return s
}

// AddHost makes a host, lets its agent join, adopts it and waits until it is up and has storage.
func (s *Site) AddHost(name, ip string, o agenttest.Options) *agenttest.Host {
	s.w.t.Helper()
	o.Name = name
	o.Facts = &hostspec.HostFacts{Hostname: name, UnderlayIp: ip, Cpus: 16, CpuMhz: 2000, MemoryMib: 64 << 10}
	o.Token = s.w.Must("createHostJoinToken", "uses", "1", "lifetime", "600", "note", name).Text("hostjointoken.token")
	o.Heard = func(mac, who string, on bool) { s.ether.hear(mac, name+": "+who, on) }
	h := agenttest.New(o)
	if err := h.Start(); err != nil {
		s.w.t.Fatal(err)
	}
	s.w.t.Cleanup(h.PowerOff)
	s.w.Until("host "+name+" pending", 30*time.Second, func() error {
		if s.w.Must("listHosts", "resourcestate", "Pending", "name", name).Text("host.state") != "Up" {
			return errors.New("not there")
		}
		return nil
	})
	s.w.Must("addHost", "zoneid", s.Zone, "podid", s.Pod, "clusterid", s.Cluster, "hypervisor", "KVM", "url", "http://"+name, "username", "root", "password", "x")
	s.w.Until("storage of host "+name, 30*time.Second, func() error {
		pool := s.w.Must("listStoragePools", "name", name+" Local Storage")
		if size, _ := pool.Get("storagepool.disksizetotal").(float64); size == 0 || pool.Text("storagepool.state") != "Up" {
			return fmt.Errorf("pool is %v", pool)
		}
		return nil
	})
	s.Hosts = append(s.Hosts, h)
	return h
}

// Ready makes template, offerings and a network.
func (s *Site) Ready() {
	s.w.t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(s.image) }))
	s.w.t.Cleanup(srv.Close)
	sum := sha256.Sum256(s.image)
	os := s.w.Must("listOsTypes", "description", "Other Linux (64-bit)").Text("ostype.id")
	s.Template = s.w.Must("registerTemplate", "name", "tiny", "displaytext", "tiny", "url", srv.URL+"/tiny.qcow2", "zoneid", s.Zone,
		"format", "QCOW2", "hypervisor", "KVM", "ostypeid", os, "ispublic", "true", "isfeatured", "true",
		"checksum", "{SHA-256}"+hex.EncodeToString(sum[:])).Text("template.id")
	s.w.Until("template", 60*time.Second, func() error {
		t := s.w.Must("listTemplates", "templatefilter", "all", "id", s.Template)
		if t.Get("template.isready") != true {
			return fmt.Errorf("template is %s", t.Text("template.status"))
		}
		return nil
	})
	s.Offering = s.w.Must("createServiceOffering", "name", "sim", "displaytext", "sim", "cpunumber", "1", "cpuspeed", "200", "memory", "128",
		"storagetype", "local").Text("serviceoffering.id")
	for _, o := range s.w.Must("listNetworkOfferings", "guestiptype", "Isolated", "state", "Enabled", "sourcenatsupported", "true").List("networkoffering") {
		s.NetworkOffer = o.Text("id")
		break
	}
	if s.NetworkOffer == "" {
		s.w.t.Fatal("there is no network offering with source NAT")
	}
	s.Network = s.w.Must("createNetwork", "name", "net", "displaytext", "net", "zoneid", s.Zone, "networkofferingid", s.NetworkOffer).Text("network.id")
}

// Deploy starts the deployment of a VM: its id and its job.
func (s *Site) Deploy(name string) (vm, job string, err error) {
	o, err := s.w.Call("deployVirtualMachine", "zoneid", s.Zone, "serviceofferingid", s.Offering, "templateid", s.Template, "networkids", s.Network, "name", name)
	return o.Text("id"), o.Text("jobid"), err
}

// Running lists the VMs that run, by host name.
func (s *Site) Running() map[string][]string {
	out := map[string][]string{}
	for i, h := range s.Hosts {
		for _, vm := range h.Running() {
			out[vm] = append(out[vm], fmt.Sprintf("sim%d", i+1))
		}
	}
	return out
}

// emptyQCOW2 is an image without content: header, reference counts and an empty L1 table (QEMU docs/interop/qcow2.txt).
func emptyQCOW2(virtual uint64) []byte {
	const cluster = 1 << 16
	b := make([]byte, 4*cluster)
	be := binary.BigEndian
	copy(b, "QFI\xfb")
	be.PutUint32(b[4:], 3)
	be.PutUint32(b[20:], 16)
	be.PutUint64(b[24:], virtual)
	be.PutUint32(b[36:], uint32((virtual+(cluster/8)*cluster-1)/((cluster/8)*cluster))) // L1 entries
	be.PutUint64(b[40:], 3*cluster)                                                     // L1 table
	be.PutUint64(b[48:], cluster)                                                       // reference count table
	be.PutUint32(b[56:], 1)
	be.PutUint32(b[96:], 4)              // 16-bit reference counts
	be.PutUint32(b[100:], 104)           // header length
	be.PutUint64(b[cluster:], 2*cluster) // the only reference count block
	for i := range 4 {
		be.PutUint16(b[2*cluster+2*i:], 1) // each of the four clusters is used once
	}
	return b
}
