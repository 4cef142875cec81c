package netrun

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/wispcloud/wisp/proto/netspec"
	"github.com/wispcloud/wisp/proto/netspec/specio"
	"golang.org/x/sys/unix"
)

// keeper owns the process of one namespace.
type keeper struct {
	session
	// instance names the namespace, files and unit: the network, and the incarnation if there was more than one.
	instance string
	cancel   context.CancelFunc

	// Under mu of the session.
	over bool
	pid  int
	// Another namespace is about to take over from this one.
	passing bool
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
		k.config.Log.Warn("services of network are interrupted", "network", k.instance, "error", err)
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
	if _, err := os.Stat(k.config.NamespacePath(k.instance)); err != nil {
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

// talk goes on until the process ends, or has to be ended.
func (k *keeper) talk(ctx context.Context, conn net.Conn, pid int) error {
	return k.session.talk(ctx, conn, manners{
		ended: func() error { return k.end(conn, pid) },
		restart: func(w *specio.Writer) error {
			if k.isPassing() {
				return nil
			}
			// restartNetwork: what the services keep in memory goes, what they set up stays for their successors.
			return errors.Join(errors.New("services are restarted as asked"), k.replace(w, pid))
		},
		refused: func(w *specio.Writer, why error) error {
			return errors.Join(fmt.Errorf("%w; replacing them", why), k.replace(w, pid))
		},
		odd: func(w *specio.Writer, version string) error {
			want := k.config.binary.Version()
			if want == "" || version == "" || version == want {
				return nil
			}
			return errors.Join(fmt.Errorf("services are of version %s, not %s; replacing them", version, want), k.replace(w, pid))
		},
		check: func() error { return k.check(pid) },
		stuck: func() error { return kill(pid) },
	})
}

// check looks at what a live process may get wrong without ending.
func (k *keeper) check(pid int) error {
	home, err := os.Stat(k.config.NamespacePath(k.instance))
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
	if isNsfs(k.config.NamespacePath(k.instance)) && !os.SameFile(home, lives) {
		return errors.New("services live in a namespace that is not the network's any more")
	}
	return nil
}

func isNsfs(path string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(path, &fs) == nil && fs.Type == unix.NSFS_MAGIC
}

// replace ends a process whose successor takes over what it set up.
func (k *keeper) replace(w *specio.Writer, pid int) error {
	return k.shutDown(w, pid, true)
}

// end ends the services for good.
func (k *keeper) end(conn net.Conn, pid int) error {
	k.finish(k.shutDown(specio.NewWriter(timedWriter{conn}), pid, false))
	return nil
}

func (k *keeper) isPassing() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.passing
}

// shutDown asks, waits a moment, and kills.
func (k *keeper) shutDown(w *specio.Writer, pid int, keepState bool) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("end services: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	m := &netspec.ToService{Message: &netspec.ToService_Shutdown{Shutdown: &netspec.Shutdown{KeepState: keepState}}}
	if err := send(w, m); err == nil && waitExit(fd, endTimeout) {
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
		if k.config.Taken != nil && !k.isPassing() {
			err = errors.Join(err, k.config.Taken.Delete(k.session.id))
		}
	}
	k.mu.Lock()
	k.err, k.over, k.seen = err, err == nil, nil
	k.mu.Unlock()
}
