package place_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/place"
)

// at is a host h in cluster 11, pod 12, zone 100.
var at = place.Host{ID: id(10), Cluster: id(11), Pod: id(12), Zone: id(100)}

func TestClaims(t *testing.T) {
	mine, chosen, theirs := place.Dedicated{Mine: true, Group: "g"}, place.Dedicated{Mine: true, Chosen: true, Group: "g"}, place.Dedicated{}
	for _, x := range []struct {
		name   string
		claims *place.Claims
		want   string
	}{
		{"nothing is dedicated", nil, ""},
		{"somebody else's host", &place.Claims{Of: map[cloud.ID]place.Dedicated{id(10): theirs}}, "it is dedicated to somebody else"},
		{"somebody else's cluster", &place.Claims{Of: map[cloud.ID]place.Dedicated{id(11): theirs}}, "its cluster is dedicated to somebody else"},
		{"somebody else's zone", &place.Claims{Of: map[cloud.ID]place.Dedicated{id(100): theirs}}, "its zone is dedicated to somebody else"},
		{"another host", &place.Claims{Of: map[cloud.ID]place.Dedicated{id(1): theirs}}, ""},
		{"one's own host without the group", &place.Claims{Of: map[cloud.ID]place.Dedicated{id(10): mine}}, "it is dedicated: only VMs in affinity group g are placed there"},
		{"one's own zone needs no group", &place.Claims{Of: map[cloud.ID]place.Dedicated{id(100): mine}}, ""},
		{"with the group", &place.Claims{Choosy: true, Of: map[cloud.ID]place.Dedicated{id(12): chosen}}, ""},
		{"with the group, on a host that is free to all", &place.Claims{Choosy: true}, "it is not dedicated, or not by the affinity group that the VM is in"},
		{"the narrowest decides", &place.Claims{Choosy: true, Of: map[cloud.ID]place.Dedicated{id(12): chosen, id(10): mine}}, "it is not dedicated, or not by"},
		{"a host in one's pod that is another's", &place.Claims{Choosy: true, Of: map[cloud.ID]place.Dedicated{id(12): chosen, id(10): theirs}}, "it is dedicated to somebody else"},
		{"a router where its owner may be", &place.Claims{Router: true, Of: map[cloud.ID]place.Dedicated{id(10): mine}}, ""},
		{"a router on somebody else's", &place.Claims{Router: true, Of: map[cloud.ID]place.Dedicated{id(12): theirs}}, "its pod is dedicated to somebody else"},
	} {
		if got := x.claims.Refuse(&at); got != x.want && (x.want == "" || !strings.HasPrefix(got, x.want)) {
			t.Errorf("%s: %q, want %q", x.name, got, x.want)
		}
	}
}

// Whatever is dedicated how: nothing is chosen on what is somebody else's, and without its group none but a router in a
// dedicated pod, cluster or host.
func TestDedicatedStaysDedicated(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var hosts []place.Host
		for n := byte(1); n <= 6; n++ {
			hosts = append(hosts, host(n, func(h *place.Host) { h.Cluster, h.Pod = id(20+n/2), id(30+n/4) }))
		}
		c := &place.Claims{Of: map[cloud.ID]place.Dedicated{}, Choosy: rapid.Bool().Draw(t, "choosy"), Router: rapid.Bool().Draw(t, "router")}
		for _, n := range rapid.SliceOfDistinct(rapid.SampledFrom([]byte{1, 2, 3, 4, 5, 6, 20, 21, 22, 23, 30, 31, 100}), rapid.ID).Draw(t, "places") {
			d := place.Dedicated{Mine: rapid.Bool().Draw(t, "mine"), Group: "g"}
			d.Chosen = d.Mine && c.Choosy && rapid.Bool().Draw(t, "chosen")
			c.Of[id(n)] = d
		}
		req := place.Request{Zone: id(100), CPUs: 1, CPUMHz: 1, MemoryMiB: 1, Claims: c}
		if rapid.Bool().Draw(t, "pinned") {
			req.Host = id(1)
		}
		choice, err := place.Choose(&place.Fleet{Hosts: hosts}, &req)
		if err != nil {
			return
		}
		h := hosts[choice.Host[15]-1]
		for _, at := range []cloud.ID{h.Zone, h.Pod, h.Cluster, h.ID} {
			d, ok := c.Of[at]
			if ok && !d.Mine {
				t.Fatalf("host %s is chosen, which is somebody else's by %s", h.ID, at)
			}
			if ok && at != h.Zone && !c.Router && !c.Choosy {
				t.Fatalf("host %s is chosen without the group of %s", h.ID, at)
			}
		}
	})
}
