package netrun

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/wispcloud/wisp/proto/netspec"
	"github.com/wispcloud/wisp/proto/netspec/specio"
)

// Channel is the way to the services of a running system VM: the host's end of its virtio-serial port, a unix socket
// that the hypervisor made, and what its services shall do.
type Channel struct {
	Socket string
	Spec   *netspec.NetSpec
}

// channel keeps the talk with one system VM going. The machine itself belongs to others.
type channel struct {
	session
	socket string
	cancel context.CancelFunc
}

const (
	dialTimeout = 2 * time.Second
	// A machine that boots does not answer: there is nobody to be hurried.
	firstRedial = 100 * time.Millisecond
	lastRedial  = 2 * time.Second
	// The socket is there as soon as the machine runs. When it was missed that often in a row, it will not come by itself.
	missesToReopen = 4
)

// Feed tells which system VMs run, by id, and what their services shall do. All others are not talked to any more.
func (r *Runner) Feed(want map[string]Channel) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, c := range r.channels {
		if w, ok := want[id]; !ok || w.Socket != c.socket {
			c.cancel()
			delete(r.channels, id)
			r.config.Changed()
		}
	}
	for id, w := range want {
		c := r.channels[id]
		if c == nil {
			ctx, cancel := context.WithCancel(r.ctx)
			c = &channel{
				session: session{id: id, config: r.config, wake: make(chan struct{}, 1)}, socket: w.Socket,
				cancel: cancel,
			}
			r.channels[id] = c
			r.group.Go(func() { c.run(ctx) })
		}
		c.mu.Lock()
		same := proto.Equal(c.want, w.Spec)
		c.want = w.Spec
		c.mu.Unlock()
		if !same {
			c.poke()
		}
	}
}

// FeedStatus returns what is known of the services of a system VM.
func (r *Runner) FeedStatus(id string) Status {
	r.mu.Lock()
	c := r.channels[id]
	r.mu.Unlock()
	if c == nil {
		return Status{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status()
}

// Forget drops what is remembered of a system VM that is gone for good.
func (r *Runner) Forget(id string) error {
	if r.config.Taken == nil {
		return nil
	}
	return r.config.Taken.Delete(id)
}

func (c *channel) run(ctx context.Context) {
	pause := firstRedial
	var socket lostSocket
	for ctx.Err() == nil {
		begin := time.Now()
		err := socket.mend(ctx, c, c.attend(ctx))
		if ctx.Err() != nil {
			return
		}
		c.mu.Lock()
		told := c.err != nil && err != nil && c.err.Error() == err.Error()
		c.err = err
		c.mu.Unlock()
		if !told {
			c.config.Log.Warn("channel to system vm is interrupted", "vm", c.id, "error", err)
		}
		c.config.Changed()
		if time.Since(begin) > steadyRun || errors.Is(err, specio.ErrNoSession) {
			pause = firstRedial
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, lastRedial)
	}
}

// lostSocket counts how often the socket of a running machine was missed in a row.
type lostSocket struct {
	misses int
	// failed is why it could not be made anew.
	failed error
}

// mend takes the end of an attempt, has the socket made anew when it is gone, and returns what there is to say.
func (s *lostSocket) mend(ctx context.Context, c *channel, err error) error {
	if !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.ECONNREFUSED) {
		*s = lostSocket{}
		return err
	}
	if s.misses++; s.misses == missesToReopen && c.config.Reopen != nil {
		c.config.Log.Warn("socket of channel to system vm is gone; having it made anew", "vm", c.id, "error", err)
		*s = lostSocket{failed: c.config.Reopen(ctx, c.id)}
	}
	return errors.Join(err, s.failed)
}

// attend is one session's life.
func (c *channel) attend(ctx context.Context) error {
	raw, err := net.DialTimeout("unix", c.socket, dialTimeout)
	if err != nil {
		return fmt.Errorf("reach system vm: %w", err)
	}
	defer func() { _ = raw.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	if err := raw.SetDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("reach system vm: %w", err)
	}
	conn, err := specio.Begin(raw)
	if err != nil {
		return err
	}
	if err := raw.SetDeadline(time.Time{}); err != nil {
		return fmt.Errorf("reach system vm: %w", err)
	}
	c.mu.Lock()
	c.connected, c.seen = true, nil
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.connected, c.seen = false, nil
		c.mu.Unlock()
	}()
	return c.talk(ctx, conn, manners{
		ended: func() error { return nil },
		refused: func(w *specio.Writer, why error) error {
			// The process holds a newer spec than this host's ledger. Its successor, which the machine's first process
			// starts, holds none.
			m := &netspec.ToService{Message: &netspec.ToService_Shutdown{Shutdown: &netspec.Shutdown{KeepState: true}}}
			return errors.Join(why, send(w, m))
		},
	})
}
