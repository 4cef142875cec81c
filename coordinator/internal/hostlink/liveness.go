package hostlink

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/pki"
	"github.com/wispcloud/wisp/coordinator/internal/replica"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// lookEvery is how often the leader looks for silent hosts.
const lookEvery = 2 * time.Second

// watchHosts says which hosts are not heard from any more, while this coordinator leads.
func (s *Server) watchHosts(ctx context.Context) error {
	s.leader.fresh()
	began := s.cfg.Now()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		silent := s.silent(s.cfg.Replica.DB().Current(), began)
		for _, id := range silent {
			s.cfg.Log.Warn("host is not heard from", "host", id)
			err := s.cfg.Replica.Update(ctx, func(tx *store.Tx) error { return infra.SetStatus(tx, id, cloud.HostAlert) })
			if err != nil {
				return err
			}
		}
	}
}

// silent lists the hosts whose silence is worth an alert. Since this leader began, every host gets its full time.
func (s *Server) silent(r store.Reader, began time.Time) []cloud.ID {
	now := s.cfg.Now()
	quiet := time.Duration(float64(pingInterval.Duration(r)) * pingTimeout.Float(r))
	wait := alertWait.Duration(r)
	var out []cloud.ID
	for h := range tables.Hosts.All(r) {
		switch h.Status {
		case cloud.HostUp:
			last, heard := s.leader.seen(h.ID)
			if !heard {
				last = began
			}
			if now.Sub(last) > quiet {
				out = append(out, h.ID)
			}
		case cloud.HostDisconnected:
			since := h.Disconnected
			if since.Before(began) {
				since = began
			}
			if now.Sub(since) > wait {
				out = append(out, h.ID)
			}
		}
	}
	return out
}

// tidyEvery is how often the leader removes what is of no use any more.
const tidyEvery = time.Hour

// tidy removes ended tokens and revocations, and the addresses of coordinators that are none any more, while this
// coordinator leads.
func (s *Server) tidy(ctx context.Context) error {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for {
		members, err := s.cfg.Replica.ListPeers()
		if err != nil {
			return err
		}
		err = s.cfg.Replica.Update(ctx, func(tx *store.Tx) error {
			return errors.Join(pki.ForgetExpired(tx), infra.ForgetTokens(tx, 7*24*time.Hour), forgetCoordinators(tx, members))
		})
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func forgetCoordinators(tx *store.Tx, members []replica.MemberInfo) error {
	for c := range tables.Coordinators.All(tx) {
		is := slices.ContainsFunc(members, func(m replica.MemberInfo) bool { return m.ID == c.NodeID })
		if is {
			continue
		}
		if err := tables.Coordinators.Delete(tx, c.ID); err != nil {
			return err
		}
	}
	return nil
}
