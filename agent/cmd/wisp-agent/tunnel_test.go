package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/wispcloud/wisp/proto/hostspec"
	"github.com/wispcloud/wisp/proto/netspec"
)

// TestTwoHosts carries one network on two hosts: frames cross the tunnel to guests and the router, not to the services'
// leg, which has the same address on both.
func TestTwoHosts(t *testing.T) {
	worlds := newWorlds(t, 2)
	id := uuid.NewString()
	for i, w := range worlds {
		w.await("join", 30*time.Second, func(o *hostspec.HostObservation) bool { return o.GetFacts() != nil })
		n := &hostspec.Network{
			Id: id, Number: 7, Isolation: hostspec.Isolation_ISOLATION_VXLAN, Segment: 6007,
			Peers: []string{worlds[1-i].host.IP().String()},
			Legs:  []*hostspec.Leg{{Name: "svc0", Mac: "02:77:00:00:00:01", Isolated: true}},
			Services: &netspec.NetSpec{NetworkId: id, Generation: 1, Links: []*netspec.Link{
				{Name: "svc0", Mac: "02:77:00:00:00:01", Addresses: []string{"10.77.7.2/24"}, StrictArp: true},
			}},
		}
		if i == 0 {
			// The router is on the first host only.
			n.Legs = append(n.Legs, &hostspec.Leg{Name: "gw0", Mac: "02:77:00:00:00:02"})
			n.Services.Links = append(n.Services.Links, &netspec.Link{
				Name: "gw0", Mac: "02:77:00:00:00:02", Addresses: []string{"10.77.7.1/24"}, StrictArp: true,
			})
		}
		w.spec.Networks = []*hostspec.Network{n}
		w.push()
	}
	// A guest of the second host, made by hand: a namespace plugged into the network's bridge.
	for _, w := range worlds {
		w.await("network", 30*time.Second, settled(1))
	}
	first, second := worlds[0], worlds[1]
	for _, args := range []string{
		"netns add guest", "link add tap7 type veth peer name eth0 netns guest", "link set tap7 master wbr7 up",
		"-n guest addr add 10.77.7.9/24 dev eth0", "-n guest link set eth0 up",
	} {
		second.exec(append([]string{"ip"}, strings.Fields(args)...)...)
	}
	ping := []string{"nsenter", "--net=/run/netns/guest", "busybox", "ping", "-c1", "-W1"}
	took := second.eventually(10*time.Second, func(string) bool { return true }, append(ping, "10.77.7.1")...)
	t.Logf("guest reached the router on the other host after %.2f s", took.Seconds())
	second.exec(append(ping, "10.77.7.2")...)
	neighbour := second.exec("ip", "-n", "guest", "neigh", "show", "10.77.7.2")
	if !strings.Contains(neighbour, "02:77:00:00:00:01") {
		t.Errorf("the services' address belongs to %q", neighbour)
	}
	// With its own services gone the guest must not reach those of the other host.
	second.spec.Networks[0].Services.Links[0].Addresses = []string{"10.77.7.3/24"}
	second.spec.Networks[0].Services.Generation++
	second.push()
	second.await("services moved", 20*time.Second, settled(second.generation))
	second.exec("ip", "-n", "guest", "neigh", "flush", "all")
	if _, err := second.host.Exec(t.Context(), append(ping, "10.77.7.2")...); err == nil {
		t.Error("the guest reaches the services of the other host through the tunnel")
	}
	// A host that dies takes only its own part away.
	if err := first.host.PowerOff(t.Context()); err != nil {
		t.Fatal(err)
	}
	second.exec(append(ping, "10.77.7.3")...)
}
