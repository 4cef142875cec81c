package netrun

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/wispcloud/wisp/proto/netspec"
	"github.com/wispcloud/wisp/proto/netspec/specio"
)

// keeper owns the process of one network.
type keeper struct {
	id     string
	config Config
	wake   chan struct{}
	cancel context.CancelFunc

	mu        sync.Mutex
	want      *netspec.NetSpec
	gone      bool
	over      bool
	connected bool
	pid       int
	err       error
	seen      *netspec.Observation
	restarts  uint64
}

const (
	writeTimeout = 10 * time.Second
	endTimeout   = 3 * time.Second
	startTimeout = 5 * time.Second
)

var errNoNamespace = errors.New("the network's namespace is not there yet")

// run brings the process up and talks to it, until the context or the network ends.
func (k *keeper) run(ctx context.Context) {
	pause := firstRestart
	for ctx.Err() == nil {
		begin := time.Now()
		err := k.attend(ctx)
		if ctx.Err() != nil {
			return
		}
		k.mu.Lock()
		over := k.over
		waiting := k.want == nil || errors.Is(err, errNoNamespace)
		k.err = err
		k.mu.Unlock()
		k.config.Changed()
		if over || waiting {
			select {
			case <-ctx.Done():
			case <-k.wake:
			case <-time.After(k.config.CheckEvery):
			}
			continue
		}
		k.config.Log.Warn("services of network are interrupted", "network", k.id, "error", err)
		if time.Since(begin) > steadyRun {
			pause = firstRestart
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, lastRestart)
	}
}

// attend is one connection's life. It returns nil when the services ended as wanted.
func (k *keeper) attend(ctx context.Context) error {
	want, gone := k.wanted()
	conn, err := k.dial()
	if err != nil {
		if gone || want == nil {
			k.finish(killRecorded(k.record()))
			return nil
		}
		if conn, err = k.start(ctx); err != nil {
			k.mu.Lock()
			k.pid = 0
			k.mu.Unlock()
			return err
		}
	}
	defer func() { _ = conn.Close() }()
	pid, err := peerOf(conn)
	if err != nil {
		return err
	}
	k.mu.Lock()
	k.connected, k.pid, k.seen = true, pid, nil
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		k.connected, k.pid = false, 0
		k.mu.Unlock()
	}()
	return k.talk(ctx, conn, pid)
}

func (k *keeper) wanted() (*netspec.NetSpec, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.want, k.gone
}

func (k *keeper) dial() (*net.UnixConn, error) {
	c, err := net.DialTimeout("unix", k.socket(), time.Second)
	if err != nil {
		return nil, fmt.Errorf("reach services: %w", err)
	}
	return c.(*net.UnixConn), nil
}

// peerOf is the process that listens at the other end.
func peerOf(c *net.UnixConn) (int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("look at socket: %w", err)
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, fmt.Errorf("look at socket: %w", err)
	}
	if cerr != nil {
		return 0, fmt.Errorf("find process of socket: %w", cerr)
	}
	return int(cred.Pid), nil
}

// start runs a new process and waits until it answers.
func (k *keeper) start(ctx context.Context) (*net.UnixConn, error) {
	if _, err := os.Stat(k.config.NamespacePath(k.id)); err != nil {
		return nil, errNoNamespace
	}
	// Whatever had the socket before does not answer: end it, so that two never serve one network.
	if err := killRecorded(k.record()); err != nil {
		return nil, err
	}
	exited, err := k.spawn()
	if err != nil {
		return nil, fmt.Errorf("start services: %w", err)
	}
	deadline := time.NewTimer(startTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, err := k.dial(); err == nil {
			return c, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case err := <-exited:
			return nil, fmt.Errorf("start services: process ended at once: %w", orEnded(err))
		case <-deadline.C:
			return nil, errors.Join(errors.New("start services: no answer on the socket"), killRecorded(k.record()))
		case <-tick.C:
		}
	}
}

func orEnded(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

type incoming struct {
	message *netspec.FromService
	err     error
}

// talk pushes the spec whenever it changed and takes in what the services say.
func (k *keeper) talk(ctx context.Context, conn *net.UnixConn, pid int) error {
	messages := make(chan incoming)
	stop := make(chan struct{})
	defer close(stop)
	go receive(conn, messages, stop)
	writer := specio.NewWriter(conn)
	tick := time.NewTicker(k.config.CheckEvery)
	defer tick.Stop()
	heard := time.Now()
	var sent *netspec.NetSpec
	for {
		want, gone := k.wanted()
		if gone {
			return k.end(conn, writer, messages, pid)
		}
		if want != nil && sent != nil && want.GetRestarts() > sent.GetRestarts() {
			// restartNetwork: what the services keep in memory goes, what they set up stays for their successors.
			return errors.Join(errors.New("services are restarted as asked"), k.replace(conn, writer, pid))
		}
		if want != nil && !proto.Equal(want, sent) {
			if err := send(conn, writer, &netspec.ToService{Message: &netspec.ToService_Apply{Apply: want}}); err != nil {
				return err
			}
			sent = want
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-k.wake:
		case in := <-messages:
			if in.err != nil {
				k.count()
				return fmt.Errorf("services ended: %w", in.err)
			}
			heard = time.Now()
			if err := k.hear(in.message, conn, writer, pid); err != nil {
				return err
			}
		case <-tick.C:
			if err := k.check(conn, writer, pid, heard); err != nil {
				k.count()
				return errors.Join(err, kill(pid))
			}
		}
	}
}

func receive(conn *net.UnixConn, messages chan<- incoming, stop <-chan struct{}) {
	reader := specio.NewReader(conn)
	for {
		m := &netspec.FromService{}
		err := reader.Read(m)
		select {
		case messages <- incoming{m, err}:
		case <-stop:
			return
		}
		if err != nil {
			return
		}
	}
}

func send(conn *net.UnixConn, w *specio.Writer, m *netspec.ToService) error {
	if err := conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("send to services: %w", err)
	}
	if err := w.Write(m); err != nil {
		return fmt.Errorf("send to services: %w", err)
	}
	return nil
}

// hear takes in one message. A refusal, and another version, end the process; a successor is started in its place.
func (k *keeper) hear(m *netspec.FromService, conn *net.UnixConn, w *specio.Writer, pid int) error {
	if r := m.GetRefusal(); r != nil {
		return errors.Join(
			fmt.Errorf("services refused generation %d: %s; replacing them", r.GetGeneration(), r.GetReason()),
			k.replace(conn, w, pid))
	}
	o := m.GetObservation()
	if o == nil {
		return nil
	}
	if v := k.config.Version; v != "" && o.GetVersion() != "" && o.GetVersion() != v {
		return errors.Join(
			fmt.Errorf("services are of version %s, not %s; replacing them", o.GetVersion(), v), k.replace(conn, w, pid))
	}
	k.mu.Lock()
	changed := k.seen == nil || !proto.Equal(k.seen, o) || k.err != nil
	k.seen, k.err = o, nil
	k.mu.Unlock()
	if changed {
		k.config.Changed()
	}
	return nil
}

// check looks at what a live process may get wrong without ending.
func (k *keeper) check(conn *net.UnixConn, w *specio.Writer, pid int, heard time.Time) error {
	if quiet := time.Since(heard); quiet > k.config.Silence {
		return fmt.Errorf("services have said nothing for %s", quiet.Round(time.Second))
	}
	home, err := os.Stat(k.config.NamespacePath(k.id))
	if errors.Is(err, os.ErrNotExist) {
		// The fabric is about to give the name back, or to make a new namespace.
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at namespace: %w", err)
	}
	lives, err := os.Stat(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return fmt.Errorf("services ended: %w", err)
	}
	if isNsfs(k.config.NamespacePath(k.id)) && !os.SameFile(home, lives) {
		return errors.New("services live in a namespace that is not the network's any more")
	}
	return send(conn, w, &netspec.ToService{Message: &netspec.ToService_Observe{Observe: &netspec.Observe{}}})
}

func isNsfs(path string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(path, &fs) == nil && fs.Type == unix.NSFS_MAGIC
}

func (k *keeper) count() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.restarts++
}

// replace ends a process whose successor takes over what it set up.
func (k *keeper) replace(conn *net.UnixConn, w *specio.Writer, pid int) error {
	return k.shutDown(conn, w, pid, true)
}

// end ends the services for good.
func (k *keeper) end(conn *net.UnixConn, w *specio.Writer, messages <-chan incoming, pid int) error {
	go func() {
		for in := range messages {
			if in.err != nil {
				return
			}
		}
	}()
	k.finish(k.shutDown(conn, w, pid, false))
	return nil
}

// shutDown asks, waits a moment, and kills.
func (k *keeper) shutDown(conn *net.UnixConn, w *specio.Writer, pid int, keepState bool) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("end services: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	m := &netspec.ToService{Message: &netspec.ToService_Shutdown{Shutdown: &netspec.Shutdown{KeepState: keepState}}}
	if err := send(conn, w, m); err == nil && waitExit(fd, endTimeout) {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill services: %w", err)
	}
	if !waitExit(fd, endTimeout) {
		return fmt.Errorf("kill services: process %d does not end", pid)
	}
	return nil
}

// finish notes that nothing is left of the services.
func (k *keeper) finish(err error) {
	if err == nil {
		err = errors.Join(removeIfThere(k.socket()), removeIfThere(k.record()))
	}
	k.mu.Lock()
	k.err, k.over, k.seen = err, err == nil, nil
	k.mu.Unlock()
}
