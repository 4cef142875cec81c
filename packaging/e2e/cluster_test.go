package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wispcloud/wisp/agent/agenttest"
	"github.com/wispcloud/wisp/packaging/api"
)

// cluster starts three coordinators: the first makes the cloud, the others get its seal key and join.
func cluster(t *testing.T) []*node {
	t.Helper()
	nodes := []*node{newNode(t, "c1"), newNode(t, "c2"), newNode(t, "c3")}
	nodes[0].start(t)
	nodes[0].awaitReady(t)
	key, err := os.ReadFile(filepath.Join(nodes[0].dir, "data", "seal.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes[1:] {
		n.join = nodes[0].peers
		data := filepath.Join(n.dir, "data")
		if err := os.MkdirAll(data, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(data, "seal.key"), key, 0o600); err != nil {
			t.Fatal(err)
		}
		n.start(t)
		n.awaitReady(t)
	}
	return nodes
}

// anywhere calls any coordinator that answers.
func anywhere(ctx context.Context, clients []*api.Client, do func(*api.Client) error) error {
	var last error
	for _, c := range clients {
		err := do(c)
		var refusal *api.Error
		if err == nil || errors.As(err, &refusal) && refusal.Code != 530 && refusal.Code != 503 {
			return err
		}
		last = err
		if ctx.Err() != nil {
			break
		}
	}
	return last
}

// TestThreeCoordinatorsLoseTheirLeader kills the leader three times under load. No acknowledged write may be lost, jobs
// end under the new leader, and hosts follow.
func TestThreeCoordinatorsLoseTheirLeader(t *testing.T) {
	nodes := cluster(t)
	c := newCloud(t, nodes[0], 2, agenttest.Latency{Start: 50 * time.Millisecond})
	var clients []*api.Client
	for _, n := range nodes {
		clients = append(clients, &api.Client{Endpoint: n.endpoint(), Key: c.admin.Key, Secret: c.admin.Secret})
	}
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	load, endLoad := context.WithCancel(ctx)
	var mu sync.Mutex
	acked := map[string]bool{} // names of SSH keys whose creation was acknowledged
	jobs := map[string]string{}
	var workers sync.WaitGroup
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUd0Jw8Y5VvHcb2w1sBS7BdOMnUAGWuq2nCGgYx5o9p"
	for w := range 4 {
		workers.Go(func() {
			for i := 0; load.Err() == nil; i++ {
				name := fmt.Sprintf("key-%d-%d", w, i)
				err := clients[(w+i)%3].Call(load, "registerSSHKeyPair", api.Params{"name": name, "publickey": key}, nil)
				if err == nil {
					mu.Lock()
					acked[name] = true
					mu.Unlock()
				}
			}
		})
	}
	workers.Go(func() {
		for i := 0; load.Err() == nil && i < 40; i++ {
			var answer struct {
				JobID string `json:"jobid"`
			}
			name := fmt.Sprintf("vm-%d", i)
			if err := clients[i%3].Call(load, "deployVirtualMachine", c.deployParams(name), &answer); err == nil {
				mu.Lock()
				jobs[name] = answer.JobID
				mu.Unlock()
			}
		}
	})
	for range 3 {
		leader := leaderOf(t, nodes)
		count := func() int { mu.Lock(); defer mu.Unlock(); return len(acked) }
		before := count()
		await(t, 10*time.Second, "load", func(context.Context) error {
			if count() < before+50 {
				return fmt.Errorf("%d writes", count()-before)
			}
			return nil
		})
		leader.kill()
		lost := time.Now()
		before = count()
		await(t, 15*time.Second, "writes under a new leader", func(context.Context) error {
			if count() < before+20 {
				return fmt.Errorf("%d writes", count()-before)
			}
			return nil
		})
		t.Logf("20 further writes were acknowledged %.1f s after the leader %s was killed", time.Since(lost).Seconds(), leader.name)
		leader.start(t)
		leader.awaitReady(t)
	}
	endLoad()
	workers.Wait()
	t.Logf("%d writes and %d deploys were acknowledged", len(acked), len(jobs))
	for _, client := range clients {
		type pair struct {
			Name string `json:"name"`
		}
		var rows []pair
		// On a busy machine a leader may lose its office once more; what is refused for that is asked again.
		await(t, 30*time.Second, "the list of "+client.Endpoint, func(ctx context.Context) (err error) {
			rows, err = api.List[pair](ctx, client, "listSSHKeyPairs", "sshkeypair", api.Params{"pagesize": "-1"})
			return err
		})
		have := map[string]bool{}
		for _, r := range rows {
			have[r.Name] = true
		}
		for name := range acked {
			if !have[name] {
				t.Errorf("the acknowledged write %s is lost at %s", name, client.Endpoint)
			}
		}
	}
	for name, job := range jobs {
		var refusal error
		err := awaitErr(ctx, 30*time.Second, func(ctx context.Context) error {
			err := anywhere(ctx, clients, func(client *api.Client) error {
				_, err := client.Wait(ctx, "deployVirtualMachine", job)
				return err
			})
			if err != nil && !leaderless(err) {
				refusal = err
				return nil
			}
			return err
		})
		if err = errors.Join(err, refusal); err != nil {
			t.Errorf("the acknowledged deploy of %s: %v", name, err)
		}
	}
	c.admin = clients[0]
	c.destroyAll(t)
	await(t, 30*time.Second, "nothing to be left", c.empty)
}

// leaderless says whether a call was refused because nobody leads just now, or not answered.
func leaderless(err error) bool {
	var refusal *api.Error
	return !errors.As(err, &refusal) || refusal.Code == 530 || refusal.Code == 503
}

// destroyAll destroys every VM; calls that found no leader are made again.
func (c *cloud) destroyAll(t *testing.T) {
	t.Helper()
	jobs := map[string]string{} // by VM
	await(t, time.Minute, "every VM to be destroyed", func(ctx context.Context) error {
		vms, err := c.vms(ctx)
		if err != nil {
			return err
		}
		for _, v := range vms {
			if jobs[v.ID] != "" {
				continue
			}
			var answer struct {
				JobID string `json:"jobid"`
			}
			if err := c.admin.Call(ctx, "destroyVirtualMachine", api.Params{"id": v.ID, "expunge": "true"}, &answer); err != nil {
				return fmt.Errorf("destroy %s: %w", v.Name, err)
			}
			jobs[v.ID] = answer.JobID
		}
		if len(vms) > 0 {
			return fmt.Errorf("VMs are left: %+v", vms)
		}
		return nil
	})
}

// leaderOf asks the coordinators' metrics who leads.
func leaderOf(t *testing.T, nodes []*node) *node {
	t.Helper()
	var found *node
	await(t, 15*time.Second, "a leader", func(ctx context.Context) error {
		for _, n := range nodes {
			leads, err := metric(ctx, n, "wisp_raft_leader")
			if err == nil && leads == 1 {
				found = n
				return nil
			}
		}
		return errors.New("no coordinator leads")
	})
	return found
}

// metric reads one metric without labels.
func metric(ctx context.Context, n *node, name string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.api+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("%s has no metric %s", n.name, name)
}
