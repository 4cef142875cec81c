package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// controlSocket is PID 1's, below the host's /run.
const controlSocket = "wisp-lab.sock"

// restartDelay is as systemd's default RestartSec.
const restartDelay = 100 * time.Millisecond

// ServiceStatus says how a service of a host is.
type ServiceStatus struct {
	Name string `json:"name"`
	// PID is the host's number for it, 0 when it does not run.
	PID int `json:"pid"`
	// Starts counts from power-on.
	Starts int `json:"starts"`
	// LastExit says how it last ended, "" if it never did.
	LastExit string `json:"last_exit,omitempty"`
	// Wanted is false after StopService.
	Wanted bool `json:"wanted"`
}

// supervisor runs in a host's PID 1: it keeps the services running, and reaps
// whatever ends, for every orphan of the host becomes its child.
type supervisor struct {
	mu       sync.Mutex
	services []*supervised
	null     *os.File
}

type supervised struct {
	service
	log    *os.File
	status ServiceStatus
}

func newSupervisor(services []service, logs map[string]*os.File) *supervisor {
	s := &supervisor{}
	for _, svc := range services {
		s.services = append(s.services, &supervised{
			service: svc, log: logs[svc.Name], status: ServiceStatus{Name: svc.Name},
		})
	}
	return s
}

func (s *supervisor) find(name string) (*supervised, error) {
	for _, svc := range s.services {
		if svc.Name == name {
			return svc, nil
		}
	}
	return nil, fmt.Errorf("find service %s: the host has none of this name", name)
}

// start runs a service and wants it to run from now on.
func (s *supervisor) start(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	svc, err := s.find(name)
	if err != nil {
		return err
	}
	svc.status.Wanted = true
	return s.spawn(svc)
}

// spawn is called with the lock held, so that reap cannot see the child's end
// before its number is known.
func (s *supervisor) spawn(svc *supervised) error {
	if svc.status.PID != 0 || !svc.status.Wanted {
		return nil
	}
	if s.null == nil {
		null, err := os.Open(os.DevNull)
		if err != nil {
			return err
		}
		s.null = null
	}
	path, err := exec.LookPath(svc.Argv[0])
	if err != nil {
		return fmt.Errorf("start %s: %w", svc.Name, err)
	}
	// Not os/exec: its Wait would compete with reap for the child.
	pid, err := syscall.ForkExec(path, svc.Argv, &syscall.ProcAttr{
		Dir: "/", Env: os.Environ(),
		Files: []uintptr{s.null.Fd(), svc.log.Fd(), svc.log.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", svc.Name, err)
	}
	svc.status.PID = pid
	svc.status.Starts++
	slog.Info("service started", "service", svc.Name, "pid", pid)
	return nil
}

// reap waits for children as long as the host is on.
func (s *supervisor) reap(ended <-chan os.Signal) error {
	for {
		for s.reapOne() {
		}
		<-ended
	}
}

func (s *supervisor) reapOne() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	var status unix.WaitStatus
	pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
	if errors.Is(err, unix.EINTR) {
		return true
	}
	if err != nil || pid <= 0 {
		return false
	}
	for _, svc := range s.services {
		if svc.status.PID != pid {
			continue
		}
		svc.status.PID = 0
		svc.status.LastExit = describe(status)
		slog.Info("service ended", "service", svc.Name, "pid", pid, "how", svc.status.LastExit)
		time.AfterFunc(restartDelay, func() { s.restart(svc) })
	}
	return true
}

func (s *supervisor) restart(svc *supervised) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.spawn(svc); err != nil {
		slog.Error("service not restarted", "service", svc.Name, "err", err)
		svc.status.LastExit = err.Error()
		time.AfterFunc(time.Second, func() { s.restart(svc) })
	}
}

func describe(status unix.WaitStatus) string {
	if status.Signaled() {
		return "signal " + unix.SignalName(status.Signal())
	}
	return "exit code " + strconv.Itoa(status.ExitStatus())
}

// signal sends to a service that runs; one that does not is no error to stop.
func (s *supervisor) signal(name string, sig syscall.Signal, wanted bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	svc, err := s.find(name)
	if err != nil {
		return err
	}
	svc.status.Wanted = wanted
	if svc.status.PID == 0 {
		if !wanted {
			return nil
		}
		return fmt.Errorf("signal %s: it does not run (last: %s)", name, svc.status.LastExit)
	}
	if err := syscall.Kill(svc.status.PID, sig); err != nil {
		return fmt.Errorf("signal %s: %w", name, err)
	}
	return nil
}

func (s *supervisor) list() []ServiceStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []ServiceStatus
	for _, svc := range s.services {
		all = append(all, svc.status)
	}
	return all
}

// serveControl answers Host's methods, for only a PID of the host's own
// namespace can be signalled without guessing.
func (s *supervisor) serveControl() error {
	listener, err := net.Listen("unix", filepath.Join("/run", controlSocket))
	if err != nil {
		return fmt.Errorf("serve control socket: %w", err)
	}
	answer := func(w http.ResponseWriter, err error) {
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /services", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, json.NewEncoder(w).Encode(s.list()))
	})
	mux.HandleFunc("POST /services/{name}/start", func(w http.ResponseWriter, r *http.Request) {
		answer(w, s.start(r.PathValue("name")))
	})
	for verb, wanted := range map[string]bool{"stop": false, "kill": true} {
		mux.HandleFunc("POST /services/{name}/"+verb, func(w http.ResponseWriter, r *http.Request) {
			number, err := strconv.Atoi(r.URL.Query().Get("signal"))
			if err == nil {
				err = s.signal(r.PathValue("name"), syscall.Signal(number), wanted)
			}
			answer(w, err)
		})
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		// Lives as long as the host.
		slog.Error("control socket closed", "err", server.Serve(listener))
	}()
	return nil
}

// control asks the host's PID 1.
func (h *Host) control(ctx context.Context, method, path string, result any) error {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(h.dir, "run", controlSocket))
		},
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://host"+path, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("ask PID 1 of %s: %w", h.info.Name, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("ask PID 1 of %s: %w", h.info.Name, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ask PID 1 of %s: %s", h.info.Name, text)
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(text, result); err != nil {
		return fmt.Errorf("ask PID 1 of %s: %w", h.info.Name, err)
	}
	return nil
}

// Services says how the host's services are: virtlogd, libvirtd, agent.
func (h *Host) Services(ctx context.Context) ([]ServiceStatus, error) {
	var all []ServiceStatus
	err := h.control(ctx, http.MethodGet, "/services", &all)
	return all, err
}

// KillService sends a service a signal. When it ends, it is started again.
func (h *Host) KillService(ctx context.Context, name string, signal syscall.Signal) error {
	return h.control(ctx, http.MethodPost, fmt.Sprintf("/services/%s/kill?signal=%d", url.PathEscape(name), signal), nil)
}

// StopService sends a service a signal and does not start it again, and
// returns when it has ended.
func (h *Host) StopService(ctx context.Context, name string, signal syscall.Signal) error {
	err := h.control(ctx, http.MethodPost, fmt.Sprintf("/services/%s/stop?signal=%d", url.PathEscape(name), signal), nil)
	if err != nil {
		return err
	}
	return waitFor(ctx, name+" of "+h.info.Name+" to end", func() error {
		all, err := h.Services(ctx)
		if err != nil {
			return err
		}
		for _, svc := range all {
			if svc.Name == name && svc.PID != 0 {
				return fmt.Errorf("process %d runs", svc.PID)
			}
		}
		return nil
	})
}

// StartService starts a service that StopService stopped.
func (h *Host) StartService(ctx context.Context, name string) error {
	return h.control(ctx, http.MethodPost, "/services/"+url.PathEscape(name)+"/start", nil)
}
