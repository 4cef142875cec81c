package namespace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/wispcloud/wisp/netsvc/specsource"
	"github.com/wispcloud/wisp/proto/netspec"
	"github.com/wispcloud/wisp/proto/netspec/specio"
)

const (
	// observePeriod is the longest time a peer hears nothing.
	observePeriod = 5 * time.Second
	// writeTimeout ends a session whose peer does not read.
	writeTimeout = 10 * time.Second
)

// ErrShutdown is returned by Serve when the peer asked for the end.
type ErrShutdown struct {
	// KeepState leaves links, addresses and rules for a successor.
	KeepState bool
}

func (e *ErrShutdown) Error() string { return "the host asked for shutdown" }

// Serve talks to the peers of a source, one at a time, until ctx ends or a peer asks for shutdown.
func (n *Namespace) Serve(ctx context.Context, source specsource.Source) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var current running
	defer func() { current.end() }()
	for {
		stream, err := source.Accept(ctx)
		if err != nil {
			var shutdown *ErrShutdown
			if errors.As(context.Cause(ctx), &shutdown) {
				return shutdown
			}
			return err
		}
		current.end()
		current = start(ctx, func(ctx context.Context) {
			err := n.session(ctx, stream)
			var shutdown *ErrShutdown
			if errors.As(err, &shutdown) {
				cancel(shutdown)
				return
			}
			n.o.Log.Debug("session ended", "cause", err)
		})
	}
}

// running is a goroutine that can be ended and waited for; the zero value is none.
type running struct {
	cancel context.CancelFunc
	done   chan struct{}
}

func start(ctx context.Context, f func(context.Context)) running {
	ctx, cancel := context.WithCancel(ctx)
	r := running{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		f(ctx)
	}()
	return r
}

func (r running) end() {
	if r.cancel != nil {
		r.cancel()
		<-r.done
	}
}

// session serves one peer: it reads in this goroutine and writes in another.
func (n *Namespace) session(ctx context.Context, stream io.ReadWriteCloser) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { stream.Close() })
	defer stop()
	w := specio.NewWriter(deadlineWriter{stream})
	asked := make(chan struct{}, 1)
	var writer sync.WaitGroup
	writer.Go(func() {
		defer cancel()
		n.report(ctx, w, asked)
	})
	defer writer.Wait()
	defer cancel()

	r := specio.NewReader(stream)
	for {
		var m netspec.ToService
		if err := r.Read(&m); err != nil {
			var decode *specio.DecodeError
			if errors.As(err, &decode) {
				err = w.Write(refusal(0, decode))
			}
			if err != nil {
				return err
			}
			continue
		}
		switch m := m.GetMessage().(type) {
		case *netspec.ToService_Apply:
			if err := n.Accept(m.Apply); err != nil {
				n.o.Log.Warn("spec refused", "err", err)
				if err := w.Write(refusal(m.Apply.GetGeneration(), err)); err != nil {
					return err
				}
			}
		case *netspec.ToService_Observe:
			select {
			case asked <- struct{}{}:
			default:
			}
		case *netspec.ToService_Recall:
			if n.o.Recall != nil {
				n.o.Recall(m.Recall)
			}
		case *netspec.ToService_Shutdown:
			return &ErrShutdown{KeepState: m.Shutdown.GetKeepState()}
		default:
			if err := w.Write(refusal(0, fmt.Errorf("%w: this version does not know the message", ErrRefused))); err != nil {
				return err
			}
		}
	}
}

// report sends an observation at once, after each change, when asked, and every few seconds.
func (n *Namespace) report(ctx context.Context, w *specio.Writer, asked <-chan struct{}) {
	tick := time.NewTicker(observePeriod)
	defer tick.Stop()
	for {
		changed := n.Changed()
		m := &netspec.FromService{Message: &netspec.FromService_Observation{Observation: n.Observation()}}
		if err := w.Write(m); err != nil {
			n.o.Log.Debug("send observation", "err", err)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-asked:
		case <-tick.C:
		}
	}
}

func refusal(generation uint64, err error) *netspec.FromService {
	return &netspec.FromService{Message: &netspec.FromService_Refusal{
		Refusal: &netspec.Refusal{Generation: generation, Reason: err.Error()},
	}}
}

// deadlineWriter gives each write a time to end in, where the stream can.
type deadlineWriter struct{ io.Writer }

func (d deadlineWriter) Write(b []byte) (int, error) {
	if c, ok := d.Writer.(interface{ SetWriteDeadline(time.Time) error }); ok {
		if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return 0, err
		}
	}
	return d.Writer.Write(b)
}
