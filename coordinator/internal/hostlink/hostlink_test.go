package hostlink

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/pki"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/hostlink"
	"github.com/wispcloud/wisp/proto/hostspec"
	"github.com/wispcloud/wisp/proto/peerlink"
)

func wantCode(t *testing.T, what string, err error, want codes.Code) {
	t.Helper()
	if status.Code(err) != want {
		t.Errorf("%s: %v, want code %v", what, err, want)
	}
}

// TestFromTokenToSpec is the whole way of a host.
func TestFromTokenToSpec(t *testing.T) {
	w := newWorld(t, 1)
	place := w.place()
	a := w.agent("kvm1.example.org").mustJoin()
	h := w.host(a.id)
	if h.ResourceState != cloud.HostPending || h.Name != "kvm1.example.org" || h.IP.String() != "192.0.2.7" || h.CPUs != 4 {
		t.Errorf("pending host: %+v", h)
	}
	s := a.link(w.addrs[0], 0)
	w.until("host up", func() error {
		if h := w.host(a.id); h.Status != cloud.HostUp || h.BootID != "boot" {
			return fmt.Errorf("host is %v", h.Status)
		}
		return nil
	})
	select {
	case m := <-s.specs:
		t.Errorf("a pending host was sent a spec: %v", m)
	default:
	}
	w.adopt(place, "http://kvm1")
	first := s.spec()
	if first.GetHostId() != a.id || first.GetGeneration() == 0 || len(first.GetVms()) != 0 {
		t.Errorf("first spec: %v", first)
	}
	w.update(func(tx *store.Tx) error {
		return tables.VMs.Put(tx, &cloud.VM{ID: cloud.ID{1}, Name: "hello", InstanceName: "i-1-1-VM", HostID: mustID(t, a.id)})
	})
	second := s.spec()
	if second.GetGeneration() <= first.GetGeneration() || len(second.GetVms()) != 1 {
		t.Errorf("second spec: %v after generation %d", second, first.GetGeneration())
	}
	s.observe(&hostspec.HostObservation{AcceptedGeneration: second.GetGeneration(), SettledGeneration: second.GetGeneration(), Facts: a.facts()})
	w.until("settled generation", func() error {
		if h := w.host(a.id); h.SettledGeneration != second.GetGeneration() {
			return fmt.Errorf("settled generation is %d", h.SettledGeneration)
		}
		return nil
	})
	if got := <-w.folded; got != a.id {
		t.Errorf("folded %s", got)
	}
}

// TestUnchangedContentIsNotSent checks that changes which do not reach a host's spec do not either reach the host.
func TestUnchangedContentIsNotSent(t *testing.T) {
	w := newWorld(t, 1)
	a := w.agent("h").mustJoin()
	w.adopt(w.place(), "h")
	s := a.link(w.addrs[0], 0)
	s.spec()
	w.update(func(tx *store.Tx) error {
		return tables.VMs.Put(tx, &cloud.VM{ID: cloud.ID{1}, Name: "elsewhere", InstanceName: "i-1-1-VM", HostID: cloud.ID{99}})
	})
	w.update(func(tx *store.Tx) error { return tables.Zones.Put(tx, &cloud.Zone{ID: cloud.ID{0x77}, Name: "other"}) })
	w.update(func(tx *store.Tx) error {
		return tables.VMs.Put(tx, &cloud.VM{ID: cloud.ID{2}, Name: "here", InstanceName: "i-1-2-VM", HostID: mustID(t, a.id)})
	})
	if m := s.spec(); len(m.GetVms()) != 1 || m.GetVms()[0].GetHostname() != "here" {
		t.Errorf("a spec that says nothing new was sent: %v", m)
	}
}

func TestJoinRefusals(t *testing.T) {
	w := newWorld(t, 1)
	good := w.token(1)
	first := w.agent("first")
	if err := first.join(good); err != nil {
		t.Fatal(err)
	}
	id := first.id
	if err := first.join(good); err != nil || first.id != id {
		t.Errorf("the same key with the same token: %v, host %s, want %s", err, first.id, id)
	}
	wantCode(t, "a used up token with another key", w.agent("second").join(good), codes.Unauthenticated)

	wrong := w.token(0)
	wrong.Secret[3] ^= 1
	wantCode(t, "a wrong secret", w.agent("h").join(wrong), codes.Unauthenticated)
	unknown := w.token(0)
	unknown.ID[0] ^= 1
	wantCode(t, "an unknown token", w.agent("h").join(unknown), codes.Unauthenticated)
	pin := w.token(0)
	pin.Pin[0] ^= 1
	wantCode(t, "a wrong pin", w.agent("h").join(pin), codes.Unavailable) // the agent refuses the server

	deleted := w.token(0)
	w.update(func(tx *store.Tx) error { return infra.DeleteToken(tx, deleted.ID) })
	wantCode(t, "a deleted token", w.agent("h").join(deleted), codes.Unauthenticated)

	expired := w.token(0)
	w.clock.forward(infra.DefaultTokenLife + time.Minute)
	wantCode(t, "an expired token", w.agent("h").join(expired), codes.Unauthenticated)

	c := w.agent("h").dial(w.addrs[0], pinned(good.Pin))
	for name, req := range map[string]*hostlink.JoinRequest{
		"no request": {Token: w.token(0).Reveal(), Facts: first.facts()},
		"no name":    {Token: w.token(0).Reveal(), CertificateRequest: first.request()},
	} {
		_, err := c.Join(short(t), req)
		wantCode(t, name, err, codes.InvalidArgument)
	}
	if n := tables.Hosts.Len(w.read()); n != 1 {
		t.Errorf("%d hosts, want 1", n)
	}
}

// TestWithoutCertificate calls everything with no certificate, and with a host's what only coordinators may.
func TestWithoutCertificate(t *testing.T) {
	w := newWorld(t, 1)
	tok := w.token(0)
	nobody := w.agent("x").dial(w.addrs[0], pinned(tok.Pin))
	_, err := nobody.Renew(short(t), &hostlink.RenewRequest{})
	wantCode(t, "renew", err, codes.Unauthenticated)
	l, err := nobody.Link(short(t))
	if err == nil {
		_, err = l.Recv()
	}
	wantCode(t, "link", err, codes.Unauthenticated)
	f, err := nobody.FetchImage(short(t), &hostlink.FetchImageRequest{})
	if err == nil {
		_, err = f.Recv()
	}
	wantCode(t, "fetch", err, codes.Unauthenticated)

	a := w.agent("h").mustJoin()
	conn, err := w.servers[0].peers.conn(w.addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	_, err = hostlink.NewHostLinkClient(conn).Renew(short(t), &hostlink.RenewRequest{})
	wantCode(t, "renew as a coordinator", err, codes.PermissionDenied)
	_, err = peerlink.NewPeerLinkClient(conn).Announce(short(t), &peerlink.AnnounceRequest{NodeId: "other", Address: "a:1"})
	wantCode(t, "announce another coordinator", err, codes.PermissionDenied)
	p := a.peerClient(w.addrs[0])
	_, err = p.Report(short(t), &peerlink.ReportRequest{})
	wantCode(t, "report as a host", err, codes.PermissionDenied)
	_, err = p.Announce(short(t), &peerlink.AnnounceRequest{NodeId: "node1", Address: "evil:1"})
	wantCode(t, "announce as a host", err, codes.PermissionDenied)
	_, err = p.Renew(short(t), &peerlink.RenewRequest{HostId: cloud.ID{5}.String(), CertificateRequest: a.request()})
	wantCode(t, "renew for another host", err, codes.PermissionDenied)
}

func TestOtherHostsID(t *testing.T) {
	w := newWorld(t, 1)
	a, b := w.agent("a").mustJoin(), w.agent("b").mustJoin()
	wantCode(t, "hello as another host", a.linkAs(w.addrs[0], 0, b.id).end(), codes.PermissionDenied)
	s := a.link(w.addrs[0], 0)
	s.observe(&hostspec.HostObservation{HostId: b.id, Facts: &hostspec.HostFacts{Hostname: "stolen"}})
	wantCode(t, "observation for another host", s.end(), codes.PermissionDenied)
	if h := w.host(b.id); h.Name != "b" || h.Status == cloud.HostUp {
		t.Errorf("the other host was written: %+v", h)
	}
}

func TestRemovedHost(t *testing.T) {
	w := newWorld(t, 1)
	a := w.agent("h").mustJoin()
	w.adopt(w.place(), "h")
	s := a.link(w.addrs[0], 0)
	s.spec()
	w.update(func(tx *store.Tx) error { return infra.RemoveHost(tx, mustID(t, a.id), false, false, nil) })
	wantCode(t, "the open link", s.end(), codes.Unauthenticated)
	wantCode(t, "a new link", a.link(w.addrs[0], 0).end(), codes.Unauthenticated)
	_, err := a.client(w.addrs[0]).Renew(short(t), &hostlink.RenewRequest{CertificateRequest: a.request()})
	wantCode(t, "renewal", err, codes.Unauthenticated)
	was := a.id
	if err := a.join(w.token(0)); err != nil || a.id == was {
		t.Errorf("joining anew: %v, host %s", err, a.id)
	}
}

func TestRenewal(t *testing.T) {
	w := newWorld(t, 1)
	a := w.agent("h").mustJoin()
	before := w.host(a.id)
	w.clock.forward(pki.LeafLifetime - time.Hour)
	answer, err := a.client(w.addrs[0]).Renew(short(t), &hostlink.RenewRequest{CertificateRequest: a.request()})
	if err != nil {
		t.Fatal(err)
	}
	after := w.host(a.id)
	if after.CertificateSerial == before.CertificateSerial || !after.CertificateExpires.After(before.CertificateExpires) {
		t.Errorf("serial %s until %v after %s until %v", after.CertificateSerial, after.CertificateExpires, before.CertificateSerial, before.CertificateExpires)
	}
	old := *a
	w.clock.forward(2 * time.Hour)
	_, err = old.client(w.addrs[0]).Renew(short(t), &hostlink.RenewRequest{CertificateRequest: a.request()})
	if err == nil {
		t.Error("an expired certificate was accepted")
	}
	a.take(a.id, answer.GetCertificateChain(), answer.GetCaCertificates())
	a.link(w.addrs[0], 0)
	w.until("host up with the new certificate", func() error {
		if h := w.host(a.id); h.Status != cloud.HostUp {
			return fmt.Errorf("host is %v", h.Status)
		}
		return nil
	})
}

func TestNewerLinkReplacesOlder(t *testing.T) {
	w := newWorld(t, 1)
	a := w.agent("h").mustJoin()
	older := a.link(w.addrs[0], 0)
	w.until("host up", func() error {
		if w.host(a.id).Status != cloud.HostUp {
			return errors.New("not up")
		}
		return nil
	})
	newer := a.link(w.addrs[0], 0)
	wantCode(t, "the older link", older.end(), codes.Aborted)
	newer.observe(&hostspec.HostObservation{Facts: a.facts(), BootId: "second"})
	w.until("news of the newer link", func() error {
		if h := w.host(a.id); h.BootID != "second" || h.Status != cloud.HostUp {
			return fmt.Errorf("boot %s, %v", h.BootID, h.Status)
		}
		return nil
	})
}

// TestLedgerAhead checks that a coordinator which lags behind the host's ledger keeps quiet until it has caught up.
func TestLedgerAhead(t *testing.T) {
	w := newWorld(t, 1)
	a := w.agent("h").mustJoin()
	w.adopt(w.place(), "h")
	ahead := w.read().Index() + 20
	s := a.link(w.addrs[0], ahead)
	for w.read().Index() < ahead {
		w.update(func(tx *store.Tx) error {
			return tables.Zones.Edit(tx, cloud.ID{0xa}, func(z *cloud.Zone) error { z.Name += "."; return nil })
		})
	}
	w.update(func(tx *store.Tx) error {
		return tables.VMs.Put(tx, &cloud.VM{ID: cloud.ID{2}, Name: "here", InstanceName: "i-1-2-VM", HostID: mustID(t, a.id)})
	})
	for {
		m := s.spec()
		if m.GetGeneration() <= ahead {
			t.Fatalf("generation %d was sent to a ledger of %d", m.GetGeneration(), ahead)
		}
		if len(m.GetVms()) == 1 {
			return
		}
	}
}

func TestStatusOfHost(t *testing.T) {
	w := newWorld(t, 1)
	a := w.agent("h").mustJoin()
	status := func(want cloud.HostStatus) {
		t.Helper()
		w.until("host "+want.String(), func() error {
			if h := w.host(a.id); h.Status != want {
				return fmt.Errorf("host is %v", h.Status)
			}
			return nil
		})
	}
	s := a.link(w.addrs[0], 0)
	status(cloud.HostUp)
	w.clock.forward(150*time.Second + time.Second) // ping.interval 60 s times ping.timeout 2.5
	status(cloud.HostAlert)
	if n := tables.Alerts.Len(w.read()); n != 1 {
		t.Errorf("%d alerts, want 1", n)
	}
	s.observe(&hostspec.HostObservation{Facts: a.facts()})
	status(cloud.HostUp)
	s.close()
	status(cloud.HostDisconnected)
	w.clock.forward(1800*time.Second + time.Second) // alert.wait
	status(cloud.HostAlert)
	a.link(w.addrs[0], 0)
	status(cloud.HostUp)
}

func TestReconnect(t *testing.T) {
	w := newWorld(t, 1)
	a := w.agent("h").mustJoin()
	w.adopt(w.place(), "h")
	s := a.link(w.addrs[0], 0)
	s.spec()
	w.update(func(tx *store.Tx) error { return infra.Reconnect(tx, mustID(t, a.id)) })
	wantCode(t, "the link", s.end(), codes.Unavailable)
	a.link(w.addrs[0], 0).spec()
}

// TestPoisonousObservation checks that one host cannot hold up the others.
func TestPoisonousObservation(t *testing.T) {
	w := newWorld(t, 1)
	place := w.place()
	bad, good := w.agent("bad").mustJoin(), w.agent("good").mustJoin()
	w.adopt(place, "bad")
	w.adopt(place, "good")
	b, g := bad.link(w.addrs[0], 0), good.link(w.addrs[0], 0)
	b.spec()
	g.spec()
	b.observe(&hostspec.HostObservation{Facts: &hostspec.HostFacts{KernelVersion: "poison"}})
	g.observe(&hostspec.HostObservation{Facts: good.facts(), SettledGeneration: 7})
	w.until("news of the good host", func() error {
		if h := w.host(good.id); h.SettledGeneration != 7 {
			return errors.New("not folded")
		}
		return nil
	})
}

// TestFollowers joins, renews and reports through followers, and then loses the leader.
func TestFollowers(t *testing.T) {
	w := newWorld(t, 3)
	place := w.place()
	leader := w.c.LeaderIndex()
	follower := (leader + 1) % 3
	a := w.agent("h")
	if err := a.join(w.token(1, w.addrs[follower])); err != nil {
		t.Fatal(err)
	}
	w.adopt(place, "h")
	s := a.link(w.addrs[follower], 0)
	s.spec()
	s.observe(&hostspec.HostObservation{Facts: a.facts(), SettledGeneration: 5})
	w.until("news through the follower", func() error {
		if h := w.host(a.id); h.Status != cloud.HostUp || h.SettledGeneration != 5 {
			return fmt.Errorf("host is %v, settled %d", h.Status, h.SettledGeneration)
		}
		return nil
	})
	if _, err := a.client(w.addrs[follower]).Renew(short(t), &hostlink.RenewRequest{CertificateRequest: a.request()}); err != nil {
		t.Errorf("renewal through a follower: %v", err)
	}
	w.c.Kill(leader)
	w.update(func(tx *store.Tx) error {
		return tables.VMs.Put(tx, &cloud.VM{ID: cloud.ID{2}, Name: "here", InstanceName: "i-1-2-VM", HostID: mustID(t, a.id)})
	})
	if m := s.spec(); len(m.GetVms()) != 1 {
		t.Errorf("spec after the leader was lost: %v", m)
	}
	s.observe(&hostspec.HostObservation{Facts: a.facts(), SettledGeneration: 6})
	w.until("news at the new leader", func() error {
		if h := w.host(a.id); h.SettledGeneration != 6 {
			return fmt.Errorf("settled %d", h.SettledGeneration)
		}
		return nil
	})
}

func TestFetchImage(t *testing.T) {
	w := newWorld(t, 3)
	place := w.place()
	a, b := w.agent("a").mustJoin(), w.agent("b").mustJoin()
	w.adopt(place, "a")
	w.adopt(place, "b")
	content := strings.Repeat("wisp image ", 100_000) // more than one message
	sum := sha256.Sum256([]byte(content))
	sha := hex.EncodeToString(sum[:])
	w.files[2].m[sha] = content
	w.update(func(tx *store.Tx) error {
		return tables.Volumes.Put(tx, &cloud.Volume{ID: cloud.ID{1}, State: cloud.VolumeReady, HostID: mustID(t, a.id), SHA256: sha})
	})
	w.c.Settle()
	fetch := func(x *agent, at int, offset uint64) (string, uint64, error) {
		s, err := x.client(w.addrs[at]).FetchImage(short(t), &hostlink.FetchImageRequest{Sha256: sha, Offset: offset})
		if err != nil {
			return "", 0, err
		}
		var got strings.Builder
		var size uint64
		for {
			m, err := s.Recv()
			if err != nil {
				if errors.Is(err, errEOF) {
					err = nil
				}
				return got.String(), size, err
			}
			size += m.GetSizeBytes()
			got.Write(m.GetData())
		}
	}
	for at := range 3 {
		got, size, err := fetch(a, at, 0)
		if err != nil || got != content || size != uint64(len(content)) {
			t.Errorf("from coordinator %d: %d bytes of %d, %v", at, len(got), size, err)
		}
		got, size, err = fetch(a, at, 1_000_000)
		if err != nil || got != content[1_000_000:] || size != uint64(len(content)) {
			t.Errorf("from coordinator %d at an offset: %d bytes of %d, %v", at, len(got), size, err)
		}
	}
	_, _, err := fetch(b, 2, 0)
	wantCode(t, "an image of another host", err, codes.NotFound)
	_, _, err = fetch(a, 2, uint64(len(content))+1)
	wantCode(t, "an offset behind the end", err, codes.OutOfRange)
}

// TestMirror checks that a template's image does not stay with one coordinator.
func TestMirror(t *testing.T) {
	w := newWorld(t, 3)
	content := "an image"
	sum := sha256.Sum256([]byte(content))
	sha := hex.EncodeToString(sum[:])
	if err := w.files[1].Import(short(t), sha, strings.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	w.update(func(tx *store.Tx) error {
		return errors.Join(
			tables.ImageStores.Put(tx, &cloud.ImageStore{ID: cloud.ID{1}, URL: "file:///x"}),
			tables.Templates.Put(tx, &cloud.Template{ID: cloud.ID{1}, State: cloud.TemplateReady, SHA256: sha}),
		)
	})
	w.until("three copies", func() error {
		for i, f := range w.files {
			r, _, err := f.Open(sha)
			if err != nil {
				return fmt.Errorf("coordinator %d: %w", i, err)
			}
			_ = r.Close()
		}
		return nil
	})
}

// TestGoneCoordinator checks that agents are not told of coordinators that are none any more.
func TestGoneCoordinator(t *testing.T) {
	w := newWorld(t, 1)
	w.update(func(tx *store.Tx) error { return infra.Announce(tx, "gone", "192.0.2.9:8250") })
	members, err := w.c.Leader().ListPeers()
	if err != nil {
		t.Fatal(err)
	}
	w.update(func(tx *store.Tx) error { return forgetCoordinators(tx, members) })
	if got := infra.CoordinatorAddresses(w.read()); len(got) != 1 || got[0] != w.addrs[0] {
		t.Errorf("%v, want %v", got, w.addrs)
	}
}

// TestRequestID follows the id of an API call into the spec that stems from it.
func TestRequestID(t *testing.T) {
	w := newWorld(t, 1)
	a := w.agent("h").mustJoin()
	w.adopt(w.place(), "h")
	s := a.link(w.addrs[0], 0)
	if got := s.spec().GetRequestId(); got != "" {
		t.Errorf("a spec without a job has request id %q", got)
	}
	w.update(func(tx *store.Tx) error {
		return errors.Join(
			tables.VMs.Put(tx, &cloud.VM{ID: cloud.ID{1}, InstanceName: "i-1-1-VM", HostID: mustID(t, a.id)}),
			tables.Jobs.Put(tx, &cloud.Job{ID: cloud.ID{1}, InstanceID: cloud.ID{1}, Created: tx.Now(), RequestID: "r-17"}),
			tables.Jobs.Put(tx, &cloud.Job{ID: cloud.ID{2}, InstanceID: cloud.ID{1}, Created: tx.Now().Add(time.Hour), Status: cloud.JobSucceeded, RequestID: "r-18"}),
		)
	})
	if got := s.spec().GetRequestId(); got != "r-17" {
		t.Errorf("request id %q, want r-17", got)
	}
}

// TestExaggeration checks that a host which lies about its size cannot make the cloud's sums overflow.
func TestExaggeration(t *testing.T) {
	w := newWorld(t, 1)
	a := w.agent("h").mustJoin()
	w.adopt(w.place(), "h")
	s := a.link(w.addrs[0], 0)
	s.spec()
	s.observe(&hostspec.HostObservation{SettledGeneration: 3, Facts: &hostspec.HostFacts{
		Cpus: ^uint32(0), CpuMhz: ^uint32(0), MemoryMib: ^uint64(0), KernelVersion: strings.Repeat("k", 1<<16), Features: make([]string, 10_000),
	}})
	w.until("the observation", func() error {
		if h := w.host(a.id); h.SettledGeneration != 3 {
			return errors.New("not folded")
		}
		return nil
	})
	h := w.host(a.id)
	if len(h.KernelVersion) > 255 || len(h.Features) > 64 {
		t.Errorf("%d bytes of kernel version, %d features", len(h.KernelVersion), len(h.Features))
	}
	for _, c := range infra.Capacities(w.read(), h.ZoneID, cloud.ID{}, cloud.ID{}, infra.Factors{CPU: 4, Memory: 4, Storage: 4}) {
		if c.Total > 1<<60 {
			t.Errorf("capacity %s is %d", infra.CapacityNames[c.Type], c.Total)
		}
	}
}
