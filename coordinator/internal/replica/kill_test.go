package replica_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/replica"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// childEnv makes the test binary one replica that writes as long as it leads and
// prints what was acknowledged, a line each. Its value is a childConfig.
const childEnv = "WISP_TEST_REPLICA"

type childConfig struct {
	NodeID, DataDir, Bind string
	Bootstrap             []replica.Peer
	Heartbeat             time.Duration
	List                  bool // only print what is there, and end
}

func TestMain(m *testing.M) {
	if arg := os.Getenv(childEnv); arg != "" {
		fmt.Fprintln(os.Stderr, child(arg))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// child returns only when it fails.
func child(arg string) error {
	var c childConfig
	if err := json.Unmarshal([]byte(arg), &c); err != nil {
		return err
	}
	ctx := context.Background()
	r, err := replica.Open(ctx, replica.Config{
		NodeID: c.NodeID, DataDir: c.DataDir, Bind: c.Bind, Bootstrap: c.Bootstrap, API: c.NodeID,
		SnapshotEntries: 200, TrailingEntries: 50, SnapshotInterval: 50e6,
		Heartbeat: c.Heartbeat, Election: c.Heartbeat, Lease: c.Heartbeat,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}, store.NewDB(items, replica.Members))
	if err != nil {
		return err
	}
	if c.List {
		for ready := false; !ready; _, _, ready = r.Leader() {
			<-waitToLead(r)
		}
		for i := range items.All(r.DB().Current()) {
			fmt.Println(i.Name)
		}
		os.Exit(0)
	}
	for w := range 8 {
		go func() {
			for i := 0; ; i++ {
				<-waitToLead(r)
				name := fmt.Sprintf("%s-%d-%d-%d", c.NodeID, os.Getpid(), w, i)
				if putCounted(ctx, r, name) == nil {
					os.Stdout.WriteString(name + "\n") // one write: lines stay whole
				}
			}
		}()
	}
	select {}
}

// waitToLead returns a channel that is closed once r leads, or might.
func waitToLead(r *replica.Replica) <-chan struct{} {
	changed := r.LeadershipChanges()
	if _, _, leads := r.Leader(); !leads {
		return changed
	}
	now := make(chan struct{})
	close(now)
	return now
}

// process is a child and what it has acknowledged.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when its output has ended
}

func startChild(t *testing.T, c childConfig, acked func(string)) *process {
	t.Helper()
	arg, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(arg))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			acked(lines.Text())
		}
	}()
	return p
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
	_ = p.cmd.Wait()
}

// TestKillNine kills processes with SIGKILL while they write: mostly the leader,
// sometimes all. What was acknowledged must be there afterwards, on every replica.
func TestKillNine(t *testing.T) {
	var configs []childConfig
	var peers []replica.Peer
	for i := range 3 {
		c := childConfig{NodeID: fmt.Sprintf("k%d", i), DataDir: t.TempDir(), Bind: freeAddress(t)}
		peers = append(peers, replica.Peer{ID: c.NodeID, Address: c.Bind})
		configs = append(configs, c)
	}
	var l load
	var mu sync.Mutex
	writer := -1
	children := make([]*process, 3)
	start := func(i int) {
		configs[i].Bootstrap = peers
		children[i] = startChild(t, configs[i], func(name string) {
			l.mu.Lock()
			l.acked = append(l.acked, name)
			l.mu.Unlock()
			l.n.Add(1)
			mu.Lock()
			writer = i
			mu.Unlock()
		})
	}
	for i := range children {
		start(i)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	const rounds = 8
	for round := range rounds {
		l.waitFor(t, int64(20+rng.IntN(200)))
		mu.Lock()
		victims := []int{writer}
		mu.Unlock()
		if round%4 == 3 {
			victims = []int{0, 1, 2}
		}
		for _, i := range victims {
			children[i].kill()
		}
		for _, i := range victims {
			start(i)
		}
	}
	l.waitFor(t, 100)
	for _, p := range children {
		p.kill()
	}
	var nodes []*node
	for _, c := range configs {
		n := &node{cfg: replica.Config{
			NodeID: c.NodeID, DataDir: c.DataDir, Bind: c.Bind, Bootstrap: peers,
			Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		}}
		t.Cleanup(n.stop)
		n.start(t)
		nodes = append(nodes, n)
	}
	leaderOf(t, nodes)
	settle(t, nodes)
	for _, n := range nodes {
		l.check(t, n.db)
	}
	t.Logf("%d acknowledged writes, none lost over %d kills", len(l.acked), rounds)
}

// TestDamagedLog changes bytes of the last entries of a log on disk. The replica
// either has everything, because the byte did not matter, or does not start.
func TestDamagedLog(t *testing.T) {
	n := diskNodes(t, 1)[0]
	n.start(t)
	leaderOf(t, []*node{n})
	var want []string
	for i := range 5 {
		name := fmt.Sprintf("row-%d-of-the-damaged-log", i)
		if err := put(t.Context(), n.r, name); err != nil {
			t.Fatal(err)
		}
		want = append(want, name)
	}
	n.stop()
	path := filepath.Join(n.cfg.DataDir, "raft", "log.db")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.LastIndex(good, []byte(want[4]))
	if at < 0 {
		t.Fatal("the last row is not in the log")
	}
	config, err := json.Marshal(childConfig{
		NodeID: n.cfg.NodeID, DataDir: n.cfg.DataDir, Bind: n.cfg.Bind, Bootstrap: n.cfg.Bootstrap, Heartbeat: 10 * time.Millisecond, List: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	started, refused := 0, 0
	check := func(what string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+string(config))
		out, err := cmd.Output()
		if err != nil {
			refused++
			return
		}
		started++
		got := strings.Fields(string(out))
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: it starts with %q", what, got)
		}
	}
	check("undamaged")
	if started != 1 {
		t.Fatal("it does not even start undamaged")
	}
	// The entry is some 250 bytes: its head with index, term and type, then the write set.
	for offset := at - 180; offset < at+100; offset += 14 {
		bad := bytes.Clone(good)
		bad[offset] ^= 0x11
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		check(fmt.Sprintf("byte %d of the row's name changed", offset-at))
	}
	if refused < 5 {
		t.Errorf("%d refused, %d started: the damage does not reach the entry", refused, started)
	}
	t.Logf("%d refused, %d started with everything", refused, started)
}
