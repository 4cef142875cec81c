package netsvctest

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/netsvc/kernel"
	"github.com/wispcloud/wisp/netsvc/kernel/fake"
)

// Kernel is what the real kernel and the fake have in common.
type Kernel interface {
	kernel.Reader
	SetLoopbackUp() error
	SetLinkName(index int, name string) error
	SetLinkMTU(index, mtu int) error
	SetLinkUp(index int, up bool) error
	AddAddress(index int, a kernel.Address) error
	DeleteAddress(index int, a kernel.Address) error
	Announce(l kernel.Link, addr netip.Addr) error
	ReplaceRoute(kernel.Route) error
	DeleteRoute(kernel.Route) error
	AddRule(kernel.Rule) error
	DeleteRule(kernel.Rule) error
	SetSysctl(key, value string) error
	ChangeChains(ctx context.Context, changes ...kernel.Change) error
	NetfilterGeneration() (uint32, bool, error)
	Neighbour(index int, addr netip.Addr) (kernel.MAC, bool, error)
}

// Port is a link as the fabric hands it over: down, under a name of its own.
type Port struct {
	Name string
	MAC  string
}

// State is one desired state and the whole text of the namespace when it is true.
type State[W any] struct {
	Name string
	Want W
	Text string
}

// Walk is a table of desired states to be walked over.
type Walk[W any] struct {
	Ports   []Port
	Options kernel.TextOptions
	// New makes the service under test; it returns its Apply.
	New func(k Kernel) func(ctx context.Context, want W) error
	// Prepare is called once on the new namespace; nil for nothing.
	Prepare func(t *testing.T, k Kernel)
	States  []State[W]
}

// shuffles is how many random orders are walked on each kernel.
const shuffles = 6

// Run walks the states in order and then shuffled, by turns with one service and with a new one for each state (as
// after a restart), over the fake kernel and over a real namespace. After each state the whole text is compared, and
// applying the state again must change nothing.
func (w Walk[W]) Run(t *testing.T) {
	t.Run("fake", func(t *testing.T) {
		k := fake.New()
		for _, p := range w.Ports {
			k.AddLink(p.Name, mustMAC(t, p.MAC), 1500)
		}
		w.walk(t, k, func() string { return strings.Join(k.Journal(), "\n") })
	})
	t.Run("real", func(t *testing.T) {
		Enter(t)
		k, err := kernel.Open()
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		other := NewNode(t)
		for _, p := range w.Ports {
			RunHere(t, "ip", "link", "add", "name", p.Name, "address", p.MAC, "type", "veth", "peer", "name", "peer", "netns", other.PID())
			other.Must("ip", "link", "set", "peer", "name", "o-"+p.Name, "up")
		}
		w.walk(t, k, func() string { return "" })
	})
}

func (w Walk[W]) walk(t *testing.T, k Kernel, journal func() string) {
	if w.Prepare != nil {
		w.Prepare(t, k)
	}
	apply := w.New(k)
	for _, s := range w.States {
		w.step(t, k, apply, s, journal)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for round := range shuffles {
		for _, i := range random.Perm(len(w.States)) {
			if round%2 == 1 {
				apply = w.New(k)
			}
			w.step(t, k, apply, w.States[i], journal)
		}
		if t.Failed() {
			t.Fatalf("in shuffle %d", round)
		}
	}
}

func (w Walk[W]) step(t *testing.T, k Kernel, apply func(context.Context, W) error, s State[W], journal func() string) {
	t.Helper()
	if err := apply(t.Context(), s.Want); err != nil {
		t.Errorf("%s: apply: %v", s.Name, err)
	}
	before := journal()
	text, err := kernel.Text(t.Context(), k, w.Options)
	if err != nil {
		t.Fatalf("%s: read state: %v", s.Name, err)
	}
	if diff := cmp.Diff(strings.TrimLeft(s.Text, "\n"), text); diff != "" {
		t.Errorf("%s (-want +got):\n%s\nchanges:\n%s", s.Name, diff, before)
	}
	if err := apply(t.Context(), s.Want); err != nil {
		t.Errorf("%s: apply again: %v", s.Name, err)
	}
	if again := journal(); again != "" {
		t.Errorf("%s: applied again, it changed:\n%s", s.Name, again)
	}
}

func mustMAC(t *testing.T, s string) kernel.MAC {
	t.Helper()
	mac, err := kernel.ParseMAC(s)
	if err != nil {
		t.Fatal(err)
	}
	return mac
}
