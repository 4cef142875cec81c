package hostlink

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/wispcloud/wisp/proto/peerlink"
)

// inbox gathers news of hosts until they are delivered: per host the newest of each kind. A slow leader costs one entry
// per host, however much the hosts say.
type inbox struct {
	mu     sync.Mutex
	byHost map[string]*peerlink.HostReport
	ready  chan struct{}
}

func newInbox() *inbox {
	return &inbox{byHost: map[string]*peerlink.HostReport{}, ready: make(chan struct{}, 1)}
}

// put adds news to what is waiting.
func (b *inbox) put(n *peerlink.HostReport) {
	b.mu.Lock()
	was := b.byHost[n.GetHostId()]
	switch {
	case was == nil:
		b.byHost[n.GetHostId()] = n
	case was.GetLink() == n.GetLink():
		b.byHost[n.GetHostId()] = merged(was, n)
	case was.GetLink() < n.GetLink():
		b.byHost[n.GetHostId()] = n // what is left of the older link is of no interest any more
	}
	b.mu.Unlock()
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

// merged is what both say of the same link, b being the newer.
func merged(a, b *peerlink.HostReport) *peerlink.HostReport {
	m := &peerlink.HostReport{HostId: a.GetHostId(), Link: a.GetLink(), Hello: a.GetHello(), Observation: a.GetObservation(), Closed: a.GetClosed() || b.GetClosed()}
	if b.GetHello() != nil {
		m.Hello = b.GetHello()
	}
	if b.GetObservation() != nil {
		m.Observation = b.GetObservation()
	}
	return m
}

// back returns news that could not be delivered. What came in meanwhile is newer.
func (b *inbox) back(reports []*peerlink.HostReport) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, old := range reports {
		is := b.byHost[old.GetHostId()]
		switch {
		case is == nil:
			b.byHost[old.GetHostId()] = old
		case is.GetLink() == old.GetLink():
			b.byHost[old.GetHostId()] = merged(old, is)
		case is.GetLink() < old.GetLink():
			b.byHost[old.GetHostId()] = old
		}
	}
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

// take hands out up to n news.
func (b *inbox) take(n int) []*peerlink.HostReport {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []*peerlink.HostReport
	for id, r := range b.byHost {
		if len(out) == n {
			select {
			case b.ready <- struct{}{}:
			default:
			}
			break
		}
		out = append(out, r)
		delete(b.byHost, id)
	}
	return out
}

const (
	// batch is how many hosts' news go into one transaction or one call to the leader.
	batch = 64
	// retry is how long to wait when there is no leader to deliver to.
	retry = 200 * time.Millisecond
)

// deliver brings the news of this coordinator's hosts to the leader.
func (s *Server) deliver(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.inbox.ready:
		}
		reports := s.inbox.take(batch)
		if len(reports) == 0 {
			continue
		}
		err := s.report(ctx, reports)
		if err == nil {
			continue
		}
		s.inbox.back(reports)
		if ctx.Err() != nil {
			return
		}
		s.cfg.Log.Debug("news of hosts not delivered yet", "hosts", len(reports), "error", err)
		select {
		case <-ctx.Done():
			return
		case <-s.cfg.Replica.LeadershipChanges():
		case <-time.After(retry):
		}
	}
}

var errNoLeader = errors.New("no leader is known")

func (s *Server) report(ctx context.Context, reports []*peerlink.HostReport) error {
	if s.isLeader() {
		return s.fold(ctx, reports)
	}
	c, err := s.leaderClient()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err = c.Report(ctx, &peerlink.ReportRequest{Reports: reports})
	return err
}
