package replica_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/replica"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// childEnv makes the test binary one replica that writes as long as it leads and
// prints what was acknowledged, a line each. Its value is a childConfig.
const childEnv = "WISP_TEST_REPLICA"

type childConfig struct {
	NodeID, DataDir, Bind string
	Bootstrap             []replica.Peer
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
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}, store.NewDB(items, replica.Members))
	if err != nil {
		return err
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
