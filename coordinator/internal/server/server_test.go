package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/replica/replicatest"
)

// freePorts asks the kernel for ports nobody uses.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		out = append(out, l.Addr().String())
	}
	return out
}

// testConfig is a coordinator on loopback.
func testConfig(t *testing.T, node string) Config {
	t.Helper()
	p := freePorts(t, 5)
	c := Default()
	c.DataDir, c.Node = t.TempDir(), node
	c.API, c.Plain, c.Agents, c.Raft, c.Peers = p[:1], p[1:2], p[2], p[3], p[4]
	return c
}

// running is a coordinator that serves.
type running struct {
	*Server
	stop context.CancelFunc
	done chan error
}

func start(t *testing.T, cfg Config) *running {
	t.Helper()
	s, err := Open(context.Background(), cfg, "test", slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{s, cancel, make(chan error, 1)}
	go func() { r.done <- s.Run(ctx) }()
	t.Cleanup(func() { r.end(t) })
	return r
}

// end stops a coordinator as SIGTERM does.
func (r *running) end(t *testing.T) {
	t.Helper()
	if r.stop == nil {
		return
	}
	r.stop()
	r.stop = nil
	if err := <-r.done; err != nil {
		t.Errorf("%s ended with %v", r.cfg.Node, err)
	}
}

func (r *running) ready(t *testing.T) {
	t.Helper()
	replicatest.Wait(t, 20*time.Second, r.cfg.Node+" to be ready", r.Ready)
}

// admin reads the first administrator's credentials.
func admin(t *testing.T, cfg Config) map[string]string {
	t.Helper()
	path := filepath.Join(cfg.DataDir, AdminFile)
	out := map[string]string{}
	replicatest.Wait(t, 20*time.Second, path, func() error {
		b, err := os.ReadFile(path)
		for _, l := range strings.Split(string(b), "\n") {
			if k, v, ok := strings.Cut(l, "="); ok {
				out[k] = v
			}
		}
		return err
	})
	return out
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func TestFirstStart(t *testing.T) {
	cfg := testConfig(t, "one")
	r := start(t, cfg)
	r.ready(t)
	env := admin(t, cfg)
	for _, f := range []string{AdminFile, SealFile, "api.key"} {
		st, err := os.Stat(filepath.Join(cfg.DataDir, f))
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v, want mode 0600", f, st, err)
		}
	}
	for path, want := range map[string]string{"/healthz": "ok", "/readyz": "ok", "/": "Wisp", "/metrics": "wisp_raft_leader 1"} {
		if code, body := get(t, "http://"+cfg.Plain[0]+path); code != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %.200s", path, code, body)
		}
	}
	r.end(t)
	// A second start keeps everything: the same credentials work, and the file is left alone.
	r = start(t, cfg)
	r.ready(t)
	if again := admin(t, cfg); again["CLOUDSTACK_KEY"] != env["CLOUDSTACK_KEY"] {
		t.Error("the second start made other credentials")
	}
	if code, body := call(t, r, env, "listUsers"); code != 200 || !strings.Contains(body, `"username":"admin"`) {
		t.Errorf("listUsers after the second start: %d %s", code, body)
	}
	// One size is the default for each kind of system VM.
	_, sizes := call(t, r, env, "listServiceOfferings", "issystem", "true")
	for _, kind := range []string{"domainrouter", "consoleproxy", "secondarystoragevm", "internalloadbalancervm", "elasticloadbalancervm"} {
		if n := strings.Count(sizes, `"systemvmtype":"`+kind+`"`); n != 1 {
			t.Errorf("%d system offerings for %s: %s", n, kind, sizes)
		}
	}
}

func TestCredentialsSurviveCrash(t *testing.T) {
	cfg := testConfig(t, "one")
	r := start(t, cfg)
	r.ready(t)
	env := admin(t, cfg)
	r.end(t)
	// As after a crash between the commit and the renaming.
	final := filepath.Join(cfg.DataDir, AdminFile)
	if err := os.Rename(final, final+".new"); err != nil {
		t.Fatal(err)
	}
	r = start(t, cfg)
	if again := admin(t, cfg); again["CLOUDSTACK_SECRET"] != env["CLOUDSTACK_SECRET"] {
		t.Error("the credentials in use were lost")
	}
	r.end(t)
	// As after a crash before the commit: credentials that are in use nowhere go away.
	if err := os.WriteFile(final+".new", []byte("CLOUDSTACK_KEY=never-in-use\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, cfg)
	replicatest.Wait(t, 20*time.Second, "the unused credentials to go", func() error {
		if _, err := os.Stat(final + ".new"); err == nil {
			return errors.New("still there")
		}
		return nil
	})
	if again := admin(t, cfg); again["CLOUDSTACK_SECRET"] != env["CLOUDSTACK_SECRET"] {
		t.Error("the credentials in use were replaced")
	}
}

func TestConfig(t *testing.T) {
	for _, x := range []struct{ name, yaml, want string }{
		{"empty", "", ""},
		{"unknown key", "datadir: /x\n", "field datadir not found"},
		{"plain on a network", "plain: ['0.0.0.0:8080']\n", "passwords would cross the network"},
		{"plain on a network, meant", "plain: ['0.0.0.0:8080']\nplain_anywhere: true\n", ""},
		{"half a certificate", "certificate: /x\n", "belong together"},
		{"bad address", "agents: nowhere\n", "missing port"},
		{"integration on a network", "integration: 0.0.0.0\n", "whoever reaches it has all rights"},
		{"integration on a network, meant", "integration: 0.0.0.0\nintegration_anywhere: true\n", ""},
		{"integration with a port", "integration: 127.0.0.1:8096\n", "no IP address"},
		{"bad level", "log_level: loud\n", "none of debug"},
		{"no listener", "api: []\nplain: []\n", "neither api nor plain"},
	} {
		t.Run(x.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "c.yaml")
			if err := os.WriteFile(path, []byte(x.yaml), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := ReadConfig(path)
			if x.want == "" && err != nil || x.want != "" && (err == nil || !strings.Contains(err.Error(), x.want)) {
				t.Errorf("got %v, want %q", err, x.want)
			}
		})
	}
}

func TestMissingSealKey(t *testing.T) {
	cfg := testConfig(t, "one")
	cfg.Join = []string{"127.0.0.1:1"}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	if _, err := Open(context.Background(), cfg, "test", log); err == nil || !strings.Contains(err.Error(), "copy it from a coordinator") {
		t.Errorf("a coordinator without the key joins: %v", err)
	}
	cfg.Join = nil
	r := start(t, cfg)
	r.ready(t)
	r.end(t)
	if err := os.Remove(filepath.Join(cfg.DataDir, SealFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(context.Background(), cfg, "test", log); err == nil || !strings.Contains(err.Error(), "restore it") {
		t.Errorf("a new key was made beside sealed state: %v", err)
	}
	if err := os.WriteFile(filepath.Join(cfg.DataDir, SealFile), []byte(strings.Repeat("00", 32)), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(context.Background(), cfg, "test", log); err == nil || !strings.Contains(err.Error(), "0600") {
		t.Errorf("a key that others can read was taken: %v", err)
	}
}
