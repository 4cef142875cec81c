package reconcile

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/wispcloud/wisp/agent/internal/desired"
	"github.com/wispcloud/wisp/agent/internal/domain"
	"github.com/wispcloud/wisp/agent/internal/fabric"
	"github.com/wispcloud/wisp/proto/hostspec"
)

func standby(id string) *hostspec.SystemVM {
	return &hostspec.SystemVM{Id: id, Standby: true, Nics: []*hostspec.SystemNic{
		{Id: "g", Traffic: desired.TrafficGuest}, {Id: "p", Traffic: desired.TrafficPublic, Bridge: "br"}, {Id: "c", Traffic: desired.TrafficControl},
	}}
}

// A system VM counts as unplugged when none of its guest and public NICs has carrier; that of the control NIC is nothing to it.
func TestUnplugged(t *testing.T) {
	g, p, c := fabric.TapName("g"), fabric.TapName("p"), fabric.TapName("c")
	s := &desired.State{SystemVMs: map[string]*hostspec.SystemVM{"r": standby("r")}}
	for name, x := range map[string]struct {
		seen *domain.Seen
		want bool
	}{
		"no domain":       {nil, true},
		"it does not run": {&domain.Seen{Taps: []string{g, p, c}}, true},
		"both off":        {&domain.Seen{Active: true, Taps: []string{g, p, c}, Unlinked: []string{g, p}}, true},
		"one on":          {&domain.Seen{Active: true, Taps: []string{g, p, c}, Unlinked: []string{g}}, false},
		"both on":         {&domain.Seen{Active: true, Taps: []string{g, p, c}}, false},
		"only control on": {&domain.Seen{Active: true, Taps: []string{c}}, true},
	} {
		seen := map[string]domain.Seen{}
		if x.seen != nil {
			seen["r"] = *x.seen
		}
		if got := unplugged(s, "r", seen); got != x.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// A step that was begun before may plug a system VM in yet: until it is over, nothing is said of it.
func TestStandbyWithAStepUnderWay(t *testing.T) {
	l := New(Config{Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Changed: func() {}})
	s := &desired.State{SystemVMs: map[string]*hostspec.SystemVM{"r": standby("r"), "other": {Id: "other"}}}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	end := make(chan struct{})
	l.tasks.compute.do(ctx, desired.Key{Kind: desired.SystemVM, ID: "r"}, "start", nil, func(ctx context.Context) (time.Duration, error) {
		select {
		case <-end:
		case <-ctx.Done():
		}
		return 0, nil
	})
	if list := l.standbys(s); len(list) != 1 || list["r"] {
		t.Errorf("while it is started: %v", list)
	}
	close(end)
	l.tasks.compute.wait()
	if list := l.standbys(s); len(list) != 1 || !list["r"] {
		t.Errorf("afterwards: %v", list)
	}
	// Generations are kept while it is on standby, and forgotten with it.
	for _, x := range []struct {
		list       map[string]bool
		generation uint64
		want       uint64
	}{
		{map[string]bool{"r": true}, 5, 5},
		{map[string]bool{"r": false}, 6, 5},
		{map[string]bool{"r": true}, 7, 7},
		{map[string]bool{}, 8, 0},
	} {
		l.board.putUnplugged(x.list, x.generation)
		if got := l.Snapshot().Unplugged["r"]; got != x.want {
			t.Errorf("in generation %d: %d, want %d", x.generation, got, x.want)
		}
	}
}
