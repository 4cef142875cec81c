package simtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/server"
)

// World is a number of coordinators.
type World struct {
	t       testing.TB
	nodes   []*node
	procs   bool
	key     string
	secret  cloud.Secret
	client  *http.Client
	binary  string
	dropped sync.Map // node index -> true: calls are not sent there
}

// node is one coordinator.
type node struct {
	cfg  server.Config
	stop func() // ends it with leave to tidy up; waits
	kill func() // ends it at once; nil where it runs in this process
	pid  int    // of a process
}

// New starts coordinators in this process.
func New(t testing.TB, n int) *World { return start(t, n, false) }

// NewProcesses starts coordinators as processes.
func NewProcesses(t testing.TB, n int) *World { return start(t, n, true) }

func start(t testing.TB, n int, procs bool) *World {
	t.Helper()
	w := &World{t: t, procs: procs, client: &http.Client{Timeout: 30 * time.Second}}
	if procs {
		w.binary = build(t)
	}
	for i := range n {
		w.nodes = append(w.nodes, &node{cfg: w.config(i)})
		if i > 0 {
			w.share(i)
		}
		w.StartNode(i)
		if i == 0 {
			w.credentials()
		}
	}
	t.Cleanup(func() {
		for i := range w.nodes {
			w.StopNode(i)
		}
	})
	w.Until("all coordinators are ready", 60*time.Second, func() error {
		for i := range w.nodes {
			if err := w.ready(i); err != nil {
				return err
			}
		}
		return nil
	})
	return w
}

// build makes the coordinator's program.
func build(t testing.TB) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "wisp-coordinator")
	out, err := exec.Command("go", "build", "-o", bin, "github.com/wispcloud/wisp/coordinator/cmd/wisp-coordinator").CombinedOutput()
	if err != nil {
		t.Fatalf("build coordinator: %v\n%s", err, out)
	}
	return bin
}

// freeAddress gives a loopback address that nobody listens at now. It is below the ports that the kernel gives to
// outgoing connections (ip_local_port_range, from 32768), one of which could have it before the coordinator does, and
// none is given twice.
func freeAddress(t testing.TB) string {
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

func (w *World) config(i int) server.Config {
	c := server.Default()
	c.DataDir = w.t.TempDir()
	c.Node = fmt.Sprintf("c%d", i+1)
	c.API = nil
	c.Plain = []string{freeAddress(w.t)}
	c.Agents, c.Raft, c.Peers = freeAddress(w.t), freeAddress(w.t), freeAddress(w.t)
	c.LogLevel = "info"
	if i > 0 {
		c.Join = []string{w.nodes[0].cfg.Peers}
	}
	return c
}

// share gives a new coordinator the cluster's key, as an operator does.
func (w *World) share(i int) {
	key, err := os.ReadFile(filepath.Join(w.nodes[0].cfg.DataDir, server.SealFile))
	if err == nil {
		err = os.WriteFile(filepath.Join(w.nodes[i].cfg.DataDir, server.SealFile), key, 0o600)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// StartNode starts a coordinator, again or for the first time.
func (w *World) StartNode(i int) {
	w.t.Helper()
	if w.procs {
		w.spawn(w.nodes[i])
	} else {
		w.run(w.nodes[i])
	}
	w.dropped.Delete(i)
}

func (w *World) logFile(n *node) io.WriteCloser {
	name := filepath.Join(n.cfg.DataDir, "log")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		w.t.Fatal(err)
	}
	return f
}

func (w *World) run(n *node) {
	ctx, cancel := context.WithCancel(context.Background())
	logs := w.logFile(n)
	log := slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelInfo}))
	s, err := server.Open(ctx, n.cfg, "sim", log)
	if err != nil {
		cancel()
		w.t.Fatalf("open coordinator %s: %v", n.cfg.Node, err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	n.kill = nil
	n.stop = func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("coordinator %s ended with: %v", n.cfg.Node, err)
		}
		_ = logs.Close()
	}
}

func (w *World) spawn(n *node) {
	c := n.cfg
	text := fmt.Sprintf("data_dir: %s\nnode: %s\napi: []\nplain: [%q]\nagents: %q\nraft: %q\npeers: %q\nlog_level: info\n",
		c.DataDir, c.Node, c.Plain[0], c.Agents, c.Raft, c.Peers)
	if len(c.Join) > 0 {
		text += fmt.Sprintf("join: [%q]\n", c.Join[0])
	}
	path := filepath.Join(c.DataDir, "coordinator.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(w.binary, "-config", path)
	logs := w.logFile(n)
	cmd.Stdout, cmd.Stderr = logs, logs
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	end := func(s os.Signal) func() {
		return func() {
			_ = cmd.Process.Signal(s)
			_ = cmd.Wait()
			_ = logs.Close()
		}
	}
	n.kill, n.stop, n.pid = end(os.Kill), end(os.Interrupt), cmd.Process.Pid
}

// StopNode ends a coordinator in order.
func (w *World) StopNode(i int) { w.end(i, w.nodes[i].stop) }

// KillNode ends a coordinator as kill -9 does.
func (w *World) KillNode(i int) {
	if w.nodes[i].kill == nil {
		w.t.Fatal("only a coordinator that is a process can be killed")
	}
	w.end(i, w.nodes[i].kill)
}

func (w *World) end(i int, how func()) {
	if n := w.nodes[i]; n.stop != nil {
		w.dropped.Store(i, true)
		n.stop = nil
		how()
	}
}

// credentials reads the first administrator's keys.
func (w *World) credentials() {
	path := filepath.Join(w.nodes[0].cfg.DataDir, server.AdminFile)
	w.Until("the first administrator", 30*time.Second, func() error {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, l := range strings.Split(string(b), "\n") {
			name, value, _ := strings.Cut(l, "=")
			switch name {
			case "CLOUDSTACK_KEY":
				w.key = value
			case "CLOUDSTACK_SECRET":
				w.secret = cloud.Secret(value)
			}
		}
		if w.key == "" || w.secret == "" {
			return errors.New("no keys in it yet")
		}
		return nil
	})
}

func (w *World) ready(i int) error {
	r, err := w.client.Get("http://" + w.nodes[i].cfg.Plain[0] + "/readyz")
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("coordinator %d answers %s", i, r.Status)
	}
	return nil
}

// Leader is the index of the coordinator that leads, found by its log of metrics; -1 where none says so.
func (w *World) Leader() int {
	for i := range w.nodes {
		if _, gone := w.dropped.Load(i); gone {
			continue
		}
		r, err := w.client.Get("http://" + w.nodes[i].cfg.Plain[0] + "/metrics")
		if err != nil {
			continue
		}
		b, _ := io.ReadAll(r.Body)
		_ = r.Body.Close()
		if strings.Contains(string(b), "wisp_raft_leader 1") {
			return i
		}
	}
	return -1
}

// Object is what stands in an answer's envelope.
type Object map[string]any

// Refusal is an answer with an error.
type Refusal struct {
	Status int
	Text   string
}

func (r *Refusal) Error() string { return fmt.Sprintf("%d %s", r.Status, r.Text) }

// Call calls the API of a coordinator that lives, as root.
func (w *World) Call(command string, params ...string) (Object, error) {
	var last error
	for i := range w.nodes {
		if _, gone := w.dropped.Load(i); gone {
			continue
		}
		o, err := w.callAt(i, command, params)
		var refused *Refusal
		if err == nil || errors.As(err, &refused) {
			return o, err
		}
		last = err
	}
	return nil, last
}

func (w *World) callAt(i int, command string, params []string) (Object, error) {
	v := url.Values{"command": {command}, "response": {"json"}, "apiKey": {w.key}}
	for i := 0; i+1 < len(params); i += 2 {
		v.Set(params[i], params[i+1])
	}
	v.Set("signature", api.Sign(v, w.secret))
	r, err := w.client.PostForm("http://"+w.nodes[i].cfg.Plain[0]+"/client/api", v)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var top map[string]Object
	if err := json.Unmarshal(body, &top); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", command, err, bytes.TrimSpace(body))
	}
	for _, o := range top {
		if r.StatusCode != http.StatusOK {
			text, _ := o["errortext"].(string)
			return nil, &Refusal{r.StatusCode, text}
		}
		return o, nil
	}
	return nil, fmt.Errorf("%s: empty answer", command)
}

// Must is Call that waits for the job of an asynchronous command and fails the test unless all succeeds.
func (w *World) Must(command string, params ...string) Object {
	w.t.Helper()
	var o Object
	w.Until(command, 30*time.Second, func() (err error) {
		o, err = w.Call(command, params...)
		var refused *Refusal
		if errors.As(err, &refused) && refused.Status < 500 {
			w.t.Fatalf("%s: %v", command, err)
		}
		return err
	})
	if id, ok := o["jobid"].(string); ok {
		result, err := w.Job(id, 2*time.Minute)
		if err != nil {
			w.t.Fatalf("%s: %v", command, err)
		}
		return result
	}
	return o
}

// Job waits for the end of a job and gives its result.
func (w *World) Job(id string, within time.Duration) (Object, error) {
	w.t.Helper()
	var result Object
	var failed error
	w.Until("job "+id, within, func() error {
		o, err := w.Call("queryAsyncJobResult", "jobid", id)
		if err != nil {
			return err
		}
		inner, _ := o["jobresult"].(map[string]any)
		switch o["jobstatus"] {
		case 1.0:
			result = inner
			return nil
		case 2.0:
			failed = fmt.Errorf("job failed: %v", inner["errortext"])
			return nil
		}
		return errors.New("pending")
	})
	return result, failed
}

// Get walks an answer: "zone.id", or "zone.0.id"; a list without a number gives its first element.
func (o Object) Get(path string) any {
	var v any = map[string]any(o)
	for _, step := range strings.Split(path, ".") {
		if l, ok := v.([]any); ok {
			if len(l) == 0 {
				return nil
			}
			v = l[0]
		}
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[step]
	}
	return v
}

// Text is Get for texts.
func (o Object) Text(path string) string {
	s, _ := o.Get(path).(string)
	return s
}

// List is Get for lists.
func (o Object) List(name string) []Object {
	l, _ := o[name].([]any)
	var out []Object
	for _, e := range l {
		if m, ok := e.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

// Until tries until f returns nil, and fails the test with what it last returned when the time is over.
func (w *World) Until(what string, within time.Duration, f func() error) {
	w.t.Helper()
	end := time.Now().Add(within)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			for _, n := range w.nodes {
				b, _ := os.ReadFile(filepath.Join(n.cfg.DataDir, "log"))
				w.t.Logf("log of %s:\n%s", n.cfg.Node, b[max(0, len(b)-6000):])
			}
			w.t.Fatalf("waited %v for %s: %v", within, what, err)
		}
		<-tick.C
	}
}
