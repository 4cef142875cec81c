package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/replica/replicatest"
)

// The test binary is the coordinator, too: run again with this variable it does what main does.
const asCoordinator = "WISP_TEST_AS_COORDINATOR"

func TestMain(m *testing.M) {
	if os.Getenv(asCoordinator) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// process is a coordinator of its own process.
type process struct {
	t          *testing.T
	name, dir  string
	plain      string
	peers      string
	config     string
	cmd        *exec.Cmd
	log        *os.File
	notifyAddr string
}

func newProcess(t *testing.T, name, join string) *process {
	t.Helper()
	p := &process{t: t, name: name, dir: t.TempDir()}
	var ports []string
	for range 5 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		ports = append(ports, l.Addr().String())
	}
	p.plain, p.peers = ports[0], ports[1]
	p.config = filepath.Join(p.dir, "c.yaml")
	text := fmt.Sprintf("data_dir: %s\nnode: %s\napi: [%q]\nplain: [%q]\npeers: %q\nraft: %q\nagents: %q\n", filepath.Join(p.dir, "data"), name, ports[4], ports[0], ports[1], ports[2], ports[3])
	if join != "" {
		text += fmt.Sprintf("join: [%q]\n", join)
	}
	if err := errors.Join(os.WriteFile(p.config, []byte(text), 0o600), os.Mkdir(filepath.Join(p.dir, "data"), 0o700)); err != nil {
		t.Fatal(err)
	}
	var err error
	if p.log, err = os.Create(filepath.Join(p.dir, "log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.kill()
		_ = p.log.Close()
		if t.Failed() {
			if b, err := os.ReadFile(p.log.Name()); err == nil {
				t.Logf("log of %s:\n%s", name, b[max(0, len(b)-4000):])
			}
		}
	})
	return p
}

func (p *process) start() {
	p.t.Helper()
	p.cmd = exec.Command(os.Args[0], "-config", p.config)
	p.cmd.Env = append(os.Environ(), asCoordinator+"=1", "NOTIFY_SOCKET="+p.notifyAddr)
	p.cmd.Stderr, p.cmd.Stdout = p.log, p.log
	// It dies with the test, also when that is killed.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
}

// kill is kill -9.
func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	p.cmd = nil
}

func (p *process) ready() {
	p.t.Helper()
	replicatest.Wait(p.t, 30*time.Second, p.name+" to be ready", func() error {
		res, err := http.Get("http://" + p.plain + "/readyz")
		if err != nil {
			return err
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return errors.New(res.Status)
		}
		return nil
	})
}

func (p *process) env() map[string]string {
	p.t.Helper()
	out := map[string]string{}
	replicatest.Wait(p.t, 20*time.Second, "the credentials", func() error {
		b, err := os.ReadFile(filepath.Join(p.dir, "data", "admin.env"))
		for _, l := range strings.Split(string(b), "\n") {
			if k, v, ok := strings.Cut(l, "="); ok {
				out[k] = v
			}
		}
		return err
	})
	return out
}

var patient = &http.Client{Timeout: 20 * time.Second}

func call(ctx context.Context, address string, env map[string]string, command string, params ...string) (int, string, error) {
	v := url.Values{"command": {command}, "response": {"json"}, "apiKey": {env["CLOUDSTACK_KEY"]}}
	for i := 0; i < len(params); i += 2 {
		v.Set(params[i], params[i+1])
	}
	v.Set("signature", api.Sign(v, cloud.Secret(env["CLOUDSTACK_SECRET"])))
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/client/api", strings.NewReader(v.Encode()))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := patient.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), err
}

// load writes domains at coordinators until it is stopped, and remembers what was acknowledged.
type load struct {
	stop    context.CancelFunc
	clients sync.WaitGroup
	mu      sync.Mutex
	acked   []string
	n       atomic.Int64
}

func startLoad(t *testing.T, env map[string]string, at func() []string) *load {
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{stop: cancel}
	for c := range 4 {
		l.clients.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				name := fmt.Sprintf("d-%d-%d", c, i)
				addresses := at()
				code, _, err := call(ctx, addresses[(c+i)%len(addresses)], env, "createDomain", "name", name)
				if err != nil || code != http.StatusOK {
					continue
				}
				l.mu.Lock()
				l.acked = append(l.acked, name)
				l.mu.Unlock()
				l.n.Add(1)
			}
		})
	}
	return l
}

func (l *load) reach(t *testing.T, n int64) {
	t.Helper()
	replicatest.Wait(t, 40*time.Second, fmt.Sprint(n, " acknowledged writes"), func() error {
		if got := l.n.Load(); got < n {
			return fmt.Errorf("%d", got)
		}
		return nil
	})
}

// check stops the load and looks for every acknowledged write at a coordinator.
func (l *load) check(t *testing.T, address string, env map[string]string) {
	t.Helper()
	l.stop()
	l.clients.Wait()
	missing := map[string]bool{}
	for _, n := range l.acked {
		missing[n] = true
	}
	const size = 500
	for page := 1; ; page++ {
		code, body, err := call(t.Context(), address, env, "listDomains", "page", fmt.Sprint(page), "pagesize", fmt.Sprint(size))
		if err != nil || code != http.StatusOK {
			t.Fatal(code, body, err)
		}
		rows := strings.Split(body, `"name":"`)[1:]
		for _, r := range rows {
			name, _, _ := strings.Cut(r, `"`)
			delete(missing, name)
		}
		if len(rows) == 0 {
			break
		}
	}
	if len(missing) > 0 {
		t.Errorf("%d of %d acknowledged writes are lost: %v", len(missing), len(l.acked), missing)
	}
	t.Logf("%d acknowledged writes, none lost", len(l.acked))
}

// One coordinator, killed again and again while it writes: it comes back by itself with all it acknowledged.
func TestKillOne(t *testing.T) {
	p := newProcess(t, "one", "")
	p.start()
	p.ready()
	env := p.env()
	l := startLoad(t, env, func() []string { return []string{p.plain} })
	for range 5 {
		l.reach(t, l.n.Load()+20)
		p.kill()
		p.start()
		p.ready()
	}
	l.reach(t, l.n.Load()+20)
	l.check(t, p.plain, env)
}

// Three coordinators, whose leader is killed: the others go on, and the dead one catches up when it is back.
func TestKillLeaderOfThree(t *testing.T) {
	one := newProcess(t, "one", "")
	one.start()
	one.ready()
	env := one.env()
	all := []*process{one}
	key, err := os.ReadFile(filepath.Join(one.dir, "data", "seal.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"two", "three"} {
		p := newProcess(t, name, one.peers)
		if err := os.WriteFile(filepath.Join(p.dir, "data", "seal.key"), key, 0o600); err != nil {
			t.Fatal(err)
		}
		p.start()
		p.ready()
		all = append(all, p)
	}
	leader := func() int {
		found := -1
		replicatest.Wait(t, 20*time.Second, "a leader", func() error {
			for i, p := range all {
				res, err := http.Get("http://" + p.plain + "/metrics")
				if err != nil {
					continue
				}
				b, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				if err == nil && strings.Contains(string(b), "\nwisp_raft_leader 1\n") {
					found = i
					return nil
				}
			}
			return errors.New("nobody leads")
		})
		return found
	}
	var alive atomic.Pointer[[]string]
	set := func(without int) {
		var out []string
		for i, p := range all {
			if i != without {
				out = append(out, p.plain)
			}
		}
		alive.Store(&out)
	}
	set(-1)
	l := startLoad(t, env, func() []string { return *alive.Load() })
	for range 3 {
		l.reach(t, l.n.Load()+20)
		n := leader()
		set(n)
		died := time.Now()
		all[n].kill()
		l.reach(t, l.n.Load()+20)
		t.Logf("20 more writes acknowledged %v after kill -9 of %s, which led", time.Since(died).Round(time.Millisecond), all[n].name)
		all[n].start()
		all[n].ready()
		set(-1)
	}
	l.check(t, all[0].plain, env)
}

// SIGTERM ends it cleanly, and systemd is told of the beginning and the end.
func TestTerminate(t *testing.T) {
	p := newProcess(t, "one", "")
	p.notifyAddr = filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: p.notifyAddr, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	next := func() string {
		b := make([]byte, 256)
		if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	p.start()
	if got := next(); got != "READY=1" {
		t.Errorf("told %q", got)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := next(); got != "STOPPING=1" {
		t.Errorf("told %q", got)
	}
	err = p.cmd.Wait()
	p.cmd = nil
	if err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
}

func TestFlags(t *testing.T) {
	var out, logs strings.Builder
	if err := run(t.Context(), []string{"-version"}, &out, &logs); err != nil || out.String() != version+"\n" {
		t.Errorf("-version: %q %v", out.String(), err)
	}
	good, bad := filepath.Join(t.TempDir(), "good.yaml"), filepath.Join(t.TempDir(), "bad.yaml")
	if err := errors.Join(os.WriteFile(good, nil, 0o600), os.WriteFile(bad, []byte("nonsense: 1\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), []string{"-config", good, "-check"}, &out, &logs); err != nil {
		t.Errorf("-check: %v", err)
	}
	for _, args := range [][]string{{"-config", bad, "-check"}, {"-config", bad + ".none"}, {"-unknown"}} {
		if err := run(t.Context(), args, &out, &logs); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}
