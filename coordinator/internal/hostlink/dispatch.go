package hostlink

import (
	"context"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/hostplan"
)

// gather is how long changes are collected before links are woken: a burst of commits renders a host once.
const gather = 5 * time.Millisecond

// dispatch wakes the links whose specs a change of the state may touch.
func (s *Server) dispatch(ctx context.Context) {
	db := s.cfg.Replica.DB()
	watch := db.Watch(hostplan.Watched()...)
	defer watch.Close()
	index := hostplan.NewIndex(db.Current())
	for {
		select {
		case <-ctx.Done():
			return
		case <-watch.C():
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(gather):
		}
		touched, ok := watch.Touched()
		r := db.Current()
		if !ok {
			index.Reset(r)
			s.links.poke(hostplan.Scope{All: true})
			continue
		}
		s.links.poke(index.Scope(r, touched))
	}
}
