package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wispcloud/wisp/packaging/api"
	"github.com/wispcloud/wisp/packaging/lab"
)

// programs builds the programs of the product once.
var programs = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv("WISP_BIN"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.MkdirTemp("", "wisp-e2e-bin")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", dir, "../../coordinator/cmd/wisp-coordinator", "../../coordinator/cmd/wisp",
		"../../agent/cmd/wisp-agent", "../../netsvc/cmd/wisp-netsvc")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	lab.Main() // a lab host's first process may be this binary
	code := m.Run()
	if os.Getenv("WISP_BIN") == "" {
		if dir, err := programs(); err == nil {
			_ = os.RemoveAll(dir)
		}
	}
	os.Exit(code)
}

// node is one coordinator process, on loopback.
type node struct {
	name, dir                string
	api, agents, raft, peers string // addresses
	join                     string
	cmd                      *exec.Cmd
	ended                    chan error
}

// freeAddress gives a loopback address that nobody listens at now. It is below the ports that the kernel gives to
// outgoing connections (ip_local_port_range, from 32768), one of which could have it before the coordinator does, and
// none is given twice.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 1000 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(20000+rand.IntN(12000)))
		if _, given := givenAddresses.LoadOrStore(address, true); given {
			continue
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		_ = l.Close()
		return address
	}
	t.Fatal("no free port between 20000 and 32000")
	return ""
}

var givenAddresses sync.Map

func newNode(t *testing.T, name string) *node {
	t.Helper()
	n := &node{name: name, dir: t.TempDir(), api: freeAddress(t), agents: freeAddress(t), raft: freeAddress(t), peers: freeAddress(t)}
	t.Cleanup(func() {
		n.kill()
		if t.Failed() {
			if log, err := os.ReadFile(n.log()); err == nil {
				lines := strings.Split(strings.TrimSpace(string(log)), "\n")
				t.Logf("end of the log of %s:\n%s", n.name, strings.Join(lines[max(0, len(lines)-30):], "\n"))
			}
		}
	})
	return n
}

func (n *node) log() string { return filepath.Join(n.dir, "log") }

// start starts the process and does not wait for it to be ready.
func (n *node) start(t *testing.T) {
	t.Helper()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("data_dir: %s\nnode: %s\napi: []\nplain: [%q]\nagents: %q\nraft: %q\npeers: %q\n",
		filepath.Join(n.dir, "data"), n.name, n.api, n.agents, n.raft, n.peers)
	if n.join != "" {
		config += fmt.Sprintf("join: [%q]\n", n.join)
	}
	path := filepath.Join(n.dir, "coordinator.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.OpenFile(n.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	n.cmd = exec.Command(filepath.Join(bin, "wisp-coordinator"), "--config", path)
	n.cmd.Stdout, n.cmd.Stderr = log, log
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n.ended = make(chan error, 1)
	go func(cmd *exec.Cmd, ended chan error) { ended <- cmd.Wait() }(n.cmd, n.ended)
}

// kill is kill -9, and waits for the end.
func (n *node) kill() {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Kill()
	_ = <-n.ended
	n.cmd = nil
}

// awaitReady waits until the coordinator can serve calls.
func (n *node) awaitReady(t *testing.T) {
	t.Helper()
	await(t, 30*time.Second, n.name+" to be ready", func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.api+"/readyz", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
}

func (n *node) endpoint() string { return "http://" + n.api + "/client/api" }

// admin reads the first administrator's keys.
func (n *node) admin(t *testing.T) *api.Client {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(n.dir, "data", "admin.env"))
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	for _, l := range bytes.Split(b, []byte("\n")) {
		k, v, _ := strings.Cut(string(l), "=")
		env[k] = v
	}
	return &api.Client{Endpoint: n.endpoint(), Key: env["CLOUDSTACK_KEY"], Secret: env["CLOUDSTACK_SECRET"]}
}

// await asks until f gives no error, and says what it last saw when the time is over.
func await(t *testing.T, d time.Duration, what string, f func(ctx context.Context) error) {
	t.Helper()
	if err := awaitErr(t.Context(), d, f); err != nil {
		t.Fatalf("wait for %s: %v", what, err)
	}
}

func awaitErr(ctx context.Context, d time.Duration, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s are over; last seen: %w", d, errors.Join(last, context.Cause(ctx)))
		case <-tick.C:
		}
	}
}
