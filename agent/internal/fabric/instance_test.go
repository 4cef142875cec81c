package fabric

import (
	"bytes"
	"fmt"
	"net"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/wispcloud/wisp/agent/internal/netrun"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// incarnated is a routed network in an incarnation.
func incarnated(incarnation uint64) *hostspec.Network {
	n := proto.Clone(served(vxlan(1), svc(), gw(), pub())).(*hostspec.Network)
	n.Incarnation = incarnation
	return n
}

// charge says where the legs of the instances are: "on", "off", "mixed", or "none" without a namespace.
func charge(t *testing.T, instances ...string) string {
	t.Helper()
	shot, err := look()
	if err != nil {
		t.Fatal(err)
	}
	all, err := namespaces()
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, instance := range instances {
		on, there := 0, 0
		for _, leg := range incarnated(0).GetLegs() {
			if l := shot.byName[legName(instance, leg.GetName())]; l != nil {
				there++
				if l.Attrs().MasterIndex != 0 {
					on++
				}
			}
		}
		word := "mixed"
		switch {
		case there == 0 && !strings.Contains(strings.Join(all, " ")+" ", instance+" "):
			word = "none"
		case there == 3 && on == 3:
			word = "on"
		case there == 3 && on == 0:
			word = "off"
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

// TestReplacement goes through a replacement with an agent that forgets everything between two passes.
func TestReplacement(t *testing.T) {
	f := newUnderlay(t)
	first, second, third := id(1), netrun.Instance(id(1), 1), netrun.Instance(id(1), 2)
	leg := func(instance, name string) string { return legName(instance, name) }
	ready := map[string]bool{id(1): true}
	steps := []struct {
		name        string
		do          [][]string
		incarnation uint64
		ready       map[string]bool
		running     []string
		charge      string
		serving     string
	}{
		{"the first", nil, 0, nil, nil, "on none none", first},
		{"the second is made", nil, 1, nil, []string{first}, "on off none", first},
		{"and waits", nil, 1, nil, []string{first, second}, "on off none", first},
		{"a leg of the first is repaired", [][]string{{"link", "del", leg(first, "gw0")}}, 1, nil, []string{first, second}, "on off none", first},
		{"killed when one leg was off", [][]string{{"link", "set", leg(first, "svc0"), "nomaster"}}, 1, nil, []string{first, second}, "on off none", first},
		{"ready", nil, 1, ready, []string{first, second}, "off on none", second},
		{"not ready any more", nil, 1, nil, []string{first, second}, "off on none", second},
		{"killed when one leg was on", [][]string{
			{"link", "set", leg(second, "svc0"), "nomaster"},
			{"link", "set", leg(second, "pub0"), "nomaster"},
			{"link", "set", leg(first, "pub0"), "master", "cloudbr1", "up"},
		}, 1, nil, []string{first, second}, "off on none", second},
		{"killed when all were off", [][]string{
			{"link", "set", leg(second, "svc0"), "nomaster"},
			{"link", "set", leg(second, "gw0"), "nomaster"},
			{"link", "set", leg(second, "pub0"), "nomaster"},
		}, 1, nil, []string{first, second}, "off on none", second},
		{"the first has ended", nil, 1, nil, []string{second}, "none on none", second},
		{"two more are asked for", nil, 2, nil, []string{second}, "none on off", second},
		{"ready again", nil, 2, ready, []string{second, third}, "none off on", third},
		{"all done", nil, 2, nil, []string{third}, "none none on", third},
	}
	for _, s := range steps {
		for _, args := range s.do {
			ip(t, args...)
		}
		want := Want{Networks: []*hostspec.Network{incarnated(s.incarnation)}, Ready: s.ready, Running: map[string]bool{}}
		for _, instance := range s.running {
			want.Running[instance] = true
		}
		results, err := New(f.config).Apply(t.Context(), want)
		if err != nil || results[id(1)].Err != nil {
			t.Fatal(s.name, err, results[id(1)].Err)
		}
		if got := charge(t, first, second, third); got != s.charge || results[id(1)].Serving != s.serving {
			t.Errorf("%s: legs %s, serving %s; want %s, %s", s.name, got, results[id(1)].Serving, s.charge, s.serving)
		}
	}
	if _, err := f.Apply(t.Context(), Want{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("", picture(t)); diff != "" {
		t.Errorf("left over (-want +got):\n%s", diff)
	}
}

// TestReplacementLosesNothing pings ten times a second through the router while it is replaced.
func TestReplacementLosesNothing(t *testing.T) {
	f := newUnderlay(t)
	router := func(instance string) {
		ns := NamespaceName(instance)
		for _, args := range [][]string{
			{"addr", "add", "10.1.1.1/24", "dev", "gw0"},
			{"addr", "add", "203.0.113.1/24", "dev", "pub0"},
			{"link", "set", "gw0", "up"},
			{"link", "set", "pub0", "up"},
		} {
			ip(t, append([]string{"-n", ns}, args...)...)
		}
		if out, err := exec.Command("nsenter", "--net="+NamespacePath(instance), "sysctl", "-qw", "net.ipv4.ip_forward=1").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	apply := func(incarnation uint64, ready bool) string {
		results, err := f.Apply(t.Context(), Want{
			Networks: []*hostspec.Network{incarnated(incarnation)}, Ready: map[string]bool{id(1): ready},
			Running: map[string]bool{id(1): true},
		})
		if err != nil || results[id(1)].Err != nil {
			t.Fatal(err, results[id(1)].Err)
		}
		return results[id(1)].Serving
	}
	first, second := id(1), netrun.Instance(id(1), 1)
	apply(0, true)
	router(first)
	for _, e := range []struct{ name, bridge, address, gateway string }{
		{"guest", "wbr1", "10.1.1.5/24", "10.1.1.1"}, {"far", "cloudbr1", "203.0.113.9/24", "203.0.113.1"},
	} {
		ip(t, "netns", "add", e.name)
		ip(t, "link", "add", "t"+e.name, "type", "veth", "peer", "name", "eth0", "netns", e.name)
		ip(t, "link", "set", "t"+e.name, "master", e.bridge, "up")
		ip(t, "-n", e.name, "addr", "add", e.address, "dev", "eth0")
		ip(t, "-n", e.name, "link", "set", "eth0", "up")
		ip(t, "-n", e.name, "route", "add", "default", "via", e.gateway)
	}
	const count = 30
	if out, err := exec.Command("nsenter", "--net="+NamespaceDir+"/guest", "busybox", "ping", "-c1", "-W10", "203.0.113.9").CombinedOutput(); err != nil {
		t.Fatalf("no answer before the replacement: %v\n%s", err, out)
	}
	var out bytes.Buffer
	ping := exec.Command("nsenter", "--net="+NamespaceDir+"/guest", "busybox", "ping", "-i", "0.1", "-W", "5", "-c", fmt.Sprint(count), "203.0.113.9")
	ping.Stdout, ping.Stderr = &out, &out
	if err := ping.Start(); err != nil {
		t.Fatal(err)
	}
	if got := apply(1, false); got != first {
		t.Errorf("%s serves before its successor is ready", got)
	}
	router(second)
	begin := time.Now()
	if got := apply(1, true); got != second {
		t.Errorf("%s serves, want %s", got, second)
	}
	t.Logf("the pass with the swap took %s", time.Since(begin).Round(time.Microsecond))
	_ = ping.Wait() // Its exit status tells of losses, which are read below.
	m := regexp.MustCompile(`(\d+) (?:packets )?transmitted, (\d+)`).FindStringSubmatch(out.String())
	if m == nil {
		t.Fatalf("no summary:\n%s", &out)
	}
	sent, _ := strconv.Atoi(m[1])
	received, _ := strconv.Atoi(m[2])
	t.Logf("%d of %d lost over the swap", sent-received, sent)
	if sent != count || sent-received > 1 {
		t.Errorf("%d sent, %d came back", sent, received)
	}
}

// TestReplacementIsNoRepair goes through a planned replacement with an agent that remembers: nothing was broken, so
// nothing may be counted as mended, until something is.
func TestReplacementIsNoRepair(t *testing.T) {
	f := newUnderlay(t)
	first, second := id(1), netrun.Instance(id(1), 1)
	both := map[string]bool{first: true, second: true}
	ready := map[string]bool{id(1): true}
	for _, s := range []struct {
		name        string
		do          []string
		incarnation uint64
		ready       map[string]bool
		running     map[string]bool
		repairs     uint64
	}{
		{"made", nil, 0, nil, nil, 0},
		{"serves", nil, 0, ready, map[string]bool{first: true}, 0},
		{"the second is made", nil, 1, nil, map[string]bool{first: true}, 0},
		{"and waits", nil, 1, nil, both, 0},
		{"ready", nil, 1, ready, both, 0},
		{"the first ends", nil, 1, ready, both, 0},
		{"the first has ended", nil, 1, ready, map[string]bool{second: true}, 0},
		{"all done", nil, 1, ready, map[string]bool{second: true}, 0},
		{"a leg is gone", []string{"link", "del", legName(second, "gw0")}, 1, ready, map[string]bool{second: true}, 1},
		{"and was mended", nil, 1, ready, map[string]bool{second: true}, 1},
	} {
		if s.do != nil {
			ip(t, s.do...)
		}
		results, err := f.Apply(t.Context(), Want{Networks: []*hostspec.Network{incarnated(s.incarnation)}, Ready: s.ready, Running: s.running})
		if err != nil || results[id(1)].Err != nil {
			t.Fatal(s.name, err, results[id(1)].Err)
		}
		if got := results[id(1)].Repairs; got != s.repairs {
			t.Errorf("%s: %d repairs counted, want %d", s.name, got, s.repairs)
		}
	}
	if _, err := f.Apply(t.Context(), Want{}); err != nil {
		t.Fatal(err)
	}
}

// TestStandbyLegs: the router's legs of a namespace that gets ready to replace another host's router, or makes room for
// one, are made and are in no bridge; the local services' leg stays. None of that is a repair.
func TestStandbyLegs(t *testing.T) {
	f := newUnderlay(t)
	plugged := func(instance string) string {
		t.Helper()
		shot, err := look()
		if err != nil {
			t.Fatal(err)
		}
		var words []string
		for _, leg := range incarnated(0).GetLegs() {
			l := shot.byName[legName(instance, leg.GetName())]
			switch {
			case l == nil:
				words = append(words, "none")
			case l.Attrs().MasterIndex != 0 && l.Attrs().Flags&net.FlagUp != 0:
				words = append(words, leg.GetName())
			case l.Attrs().MasterIndex == 0 && l.Attrs().Flags&net.FlagUp == 0:
				words = append(words, "-")
			default:
				words = append(words, "half")
			}
		}
		return strings.Join(words, " ")
	}
	first, second := id(1), netrun.Instance(id(1), 1)
	for _, s := range []struct {
		name        string
		do          []string
		standby     bool
		incarnation uint64
		ready       bool
		running     []string
		want        string // of the first, of the second
		serving     string
		repairs     uint64
	}{
		{"on standby", nil, true, 0, true, nil, "svc0 - -, none none none", first, 0},
		{"somebody plugs a leg in", []string{"link", "set", legName(first, "gw0"), "master", "wbr1", "up"}, true, 0, true, []string{first}, "svc0 - -, none none none", first, 1},
		{"in charge", nil, false, 0, true, []string{first}, "svc0 gw0 pub0, none none none", first, 1},
		{"makes room", nil, true, 0, true, []string{first}, "svc0 - -, none none none", first, 1},
		{"replaced meanwhile", nil, true, 1, false, []string{first}, "svc0 - -, - - -", first, 1},
		{"by one that is ready", nil, true, 1, true, []string{first, second}, "- - -, svc0 - -", second, 1},
		{"which stays in charge", nil, false, 1, true, []string{second}, "none none none, svc0 gw0 pub0", second, 1},
	} {
		if s.do != nil {
			ip(t, s.do...)
		}
		n := incarnated(s.incarnation)
		if s.standby {
			n.Legs, n.StandbyLegs = n.GetLegs()[:1], n.GetLegs()[1:]
		}
		want := Want{Networks: []*hostspec.Network{n}, Ready: map[string]bool{id(1): s.ready}, Running: map[string]bool{}}
		for _, instance := range s.running {
			want.Running[instance] = true
		}
		results, err := f.Apply(t.Context(), want)
		if err != nil || results[id(1)].Err != nil {
			t.Fatal(s.name, err, results[id(1)].Err)
		}
		r := results[id(1)]
		if got := plugged(first) + ", " + plugged(second); got != s.want || r.Serving != s.serving || r.Repairs != s.repairs {
			t.Errorf("%s: %s, serving %s, %d repairs; want %s, %s, %d", s.name, got, r.Serving, r.Repairs, s.want, s.serving, s.repairs)
		}
	}
}
