package netrun

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/wispcloud/wisp/proto/netspec"
	"github.com/wispcloud/wisp/proto/netspec/specio"
)

// notes is a Memory that outlives a Runner.
type notes map[string]string

func (n notes) Get(id string) (string, bool) { t, ok := n[id]; return t, ok }
func (n notes) Put(id, text string) error    { n[id] = text; return nil }
func (n notes) Delete(id string) error       { delete(n, id); return nil }

func withGuests(epochs ...uint64) *netspec.NetSpec {
	spec := &netspec.NetSpec{NetworkId: network, Generation: 1, Password: &netspec.Password{}}
	for i, e := range epochs {
		spec.Password.Guests = append(spec.Password.Guests, &netspec.GuestPassword{Ip: fmt.Sprintf("10.1.1.%d", i+1), Epoch: e})
	}
	return spec
}

// TestTaken: what one process reports as taken is told to the next, as long as the spec speaks of that very password.
func TestTaken(t *testing.T) {
	memory := notes{}
	s := &session{id: network, config: Config{Taken: memory}}
	taken := func(ip string, epoch uint64) *netspec.PasswordTaken {
		return &netspec.PasswordTaken{Ip: ip, Epoch: epoch}
	}
	steps := []struct {
		name  string
		want  *netspec.NetSpec
		heard []*netspec.PasswordTaken
		told  []*netspec.PasswordTaken
	}{
		{"nothing yet", withGuests(4, 5), nil, nil},
		{"one confirms", withGuests(4, 5), []*netspec.PasswordTaken{taken("10.1.1.1", 4)}, []*netspec.PasswordTaken{taken("10.1.1.1", 4)}},
		{"a new process says nothing", withGuests(4, 5), nil, []*netspec.PasswordTaken{taken("10.1.1.1", 4)}},
		{
			"the other confirms", withGuests(4, 5),
			[]*netspec.PasswordTaken{taken("10.1.1.2", 5)},
			[]*netspec.PasswordTaken{taken("10.1.1.1", 4), taken("10.1.1.2", 5)},
		},
		{"a new password", withGuests(6, 5), nil, []*netspec.PasswordTaken{taken("10.1.1.2", 5)}},
		{"the guest is gone", withGuests(6), nil, nil},
	}
	for _, tt := range steps {
		s.want = tt.want
		if err := s.remember(&netspec.Observation{PasswordsTaken: tt.heard}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.told, s.recall().GetPasswordsTaken(), protocmp.Transform()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
	if len(memory) != 0 {
		t.Errorf("remembered for nothing: %v", memory)
	}
}

// appliance is the guest's end of a system VM's port, as far as a host sees it.
type appliance struct {
	t       *testing.T
	path    string
	l       net.Listener
	took    chan *netspec.ToService
	version string
}

func newAppliance(t *testing.T) *appliance {
	t.Helper()
	a := &appliance{t: t, path: filepath.Join(t.TempDir(), "port.sock"), took: make(chan *netspec.ToService, 64), version: "image"}
	a.up()
	return a
}

// up switches the machine on: one connection at a time, as QEMU has it.
func (a *appliance) up() {
	a.t.Helper()
	l, err := net.Listen("unix", a.path)
	if err != nil {
		a.t.Fatal(err)
	}
	a.l = l
	a.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			a.serve(conn)
		}
	}()
}

// serve is one connection: sessions begin inside it, and every spec is applied at once.
func (a *appliance) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	var split specio.Splitter
	feed, in := net.Pipe()
	defer func() { _ = in.Close() }()
	send := func(o *netspec.Observation) error {
		var raw strings.Builder
		if err := specio.NewWriter(&raw).Write(&netspec.FromService{Message: &netspec.FromService_Observation{Observation: o}}); err != nil {
			return err
		}
		_, err := conn.Write(specio.AppendData(nil, []byte(raw.String())))
		return err
	}
	go func() {
		r := specio.NewReader(feed)
		for {
			m := &netspec.ToService{}
			if err := r.Read(m); err != nil {
				return
			}
			if m.GetObserve() == nil {
				a.took <- m
			}
			if g := m.GetApply().GetGeneration(); g != 0 {
				if err := send(&netspec.Observation{AppliedGeneration: g, TriedGeneration: g, Version: a.version}); err != nil {
					return
				}
			}
		}
	}()
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		err = split.Feed(buf[:n], specio.Marks{
			Data: func(b []byte) error { _, err := in.Write(b); return err },
			Begin: func(id specio.SessionID) error {
				_, err := conn.Write(specio.AppendBegin(nil, id))
				return err
			},
			Call: func() error { return nil }, Broken: func() error { return nil },
		})
		if err != nil {
			return
		}
	}
}

func (a *appliance) next() *netspec.ToService {
	a.t.Helper()
	select {
	case m := <-a.took:
		return m
	case <-time.After(20 * time.Second):
		a.t.Fatal("nothing reaches the machine")
		return nil
	}
}

// TestFeed walks a system VM through its life: fed, cut off, fed again by another agent, let go.
func TestFeed(t *testing.T) {
	memory := notes{network: "10.1.1.1=4"}
	config := Config{
		RunDir: t.TempDir(), Changed: func() {}, Log: slog.New(slog.DiscardHandler), Taken: memory,
		CheckEvery: 50 * time.Millisecond, Silence: time.Minute,
	}
	runner, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { runner.Close() }()
	a := newAppliance(t)
	spec := withGuests(4)
	feed := func() { runner.Feed(map[string]Channel{network: {Socket: a.path, Spec: spec}}) }
	applied := func(what string) {
		t.Helper()
		poll(t, what, func() (bool, any) { s := runner.FeedStatus(network); return s.Applied, s })
	}
	feed()
	if m := a.next(); m.GetRecall().GetPasswordsTaken()[0].GetEpoch() != 4 {
		t.Errorf("the machine was told %v first, want what was taken", m)
	}
	if m := a.next(); m.GetApply().GetGeneration() != 1 {
		t.Errorf("the machine was told %v, want the spec", m)
	}
	applied("the spec to be applied")
	if s := runner.FeedStatus(network); s.Observation.GetVersion() != "image" {
		t.Errorf("status %+v", s)
	}
	_ = a.l.Close()
	runner.Feed(nil)
	if s := runner.FeedStatus(network); s.Applied || s.Observation != nil {
		t.Errorf("a machine that is not fed has the status %+v", s)
	}
	// It boots again while the agent looks for it.
	feed()
	poll(t, "the reason", func() (bool, any) { s := runner.FeedStatus(network); return s.Err != nil, s })
	a.up()
	applied("the spec after a boot")
	runner.Close()
	if runner, err = New(config); err != nil {
		t.Fatal(err)
	}
	feed()
	applied("the spec by the next agent")
	big := withGuests(4)
	big.Generation, big.RequestId = 2, strings.Repeat("x\x1b", 2<<20)
	runner.Feed(map[string]Channel{network: {Socket: a.path, Spec: big}})
	poll(t, "a spec of 4 MB", func() (bool, any) {
		s := runner.FeedStatus(network)
		return s.Observation.GetAppliedGeneration() == 2, s.Err
	})
}

// TestChannelReopened takes the socket of a system VM away for good: it is made anew, once, and where that fails the status
// says why.
func TestChannelReopened(t *testing.T) {
	a := newAppliance(t)
	var asked atomic.Int32
	config := Config{
		RunDir: t.TempDir(), Changed: func() {}, Log: slog.New(slog.DiscardHandler), CheckEvery: 50 * time.Millisecond, Silence: time.Minute,
		Reopen: func(_ context.Context, id string) error {
			if id != network {
				t.Errorf("asked to reopen %s", id)
			}
			if asked.Add(1) == 1 {
				return errors.New("qemu: no such device")
			}
			a.up()
			return nil
		},
	}
	runner, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	defer runner.Close()
	_ = a.l.Close() // removes the socket, too
	runner.Feed(map[string]Channel{network: {Socket: a.path, Spec: withGuests(4)}})
	poll(t, "the reason", func() (bool, any) {
		s := runner.FeedStatus(network)
		return s.Err != nil && strings.Contains(s.Err.Error(), "no such file") && strings.Contains(s.Err.Error(), "no such device"), s
	})
	poll(t, "the spec", func() (bool, any) { s := runner.FeedStatus(network); return s.Applied, s })
	if n := asked.Load(); n != 2 {
		t.Errorf("reopened %d times", n)
	}
}
