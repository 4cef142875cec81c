package server

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/replica/replicatest"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// call makes a signed call at one coordinator.
func call(t *testing.T, r *running, env map[string]string, command string, params ...string) (int, string) {
	t.Helper()
	code, body, err := try(r.cfg.Plain[0], env, command, params...)
	if err != nil {
		t.Fatal(err)
	}
	return code, body
}

func try(address string, env map[string]string, command string, params ...string) (int, string, error) {
	v := url.Values{"command": {command}, "response": {"json"}, "apiKey": {env["CLOUDSTACK_KEY"]}}
	for i := 0; i < len(params); i += 2 {
		v.Set(params[i], params[i+1])
	}
	v.Set("signature", api.Sign(v, cloud.Secret(env["CLOUDSTACK_SECRET"])))
	res, err := http.PostForm("http://"+address+"/client/api", v)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), err
}

// three makes a cluster of three from one, as an operator does.
func three(t *testing.T) (nodes []*running, env map[string]string) {
	t.Helper()
	first := testConfig(t, "one")
	nodes = append(nodes, start(t, first))
	nodes[0].ready(t)
	env = admin(t, first)
	key, err := os.ReadFile(filepath.Join(first.DataDir, SealFile))
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"two", "three"} {
		cfg := testConfig(t, name)
		cfg.Integration = fmt.Sprintf("127.0.0.%d", i+2) // as on machines of their own
		cfg.Join = []string{first.Peers}
		if err := os.WriteFile(filepath.Join(cfg.DataDir, SealFile), key, 0o600); err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, start(t, cfg))
		nodes[len(nodes)-1].ready(t)
	}
	replicatest.Wait(t, 20*time.Second, "three members", func() error {
		for _, n := range nodes {
			if p, err := n.replica.ListPeers(); err != nil || len(p) != 3 {
				return fmt.Errorf("%s knows %v %w", n.cfg.Node, p, err)
			}
		}
		return nil
	})
	return nodes, env
}

func TestAnyCoordinatorAnswers(t *testing.T) {
	nodes, env := three(t)
	for _, n := range nodes {
		if code, body := call(t, n, env, "updateConfiguration", "name", "default.page.size", "value", "123"); code != 200 {
			t.Errorf("a write at %s: %d %s", n.cfg.Node, code, body)
		}
		if code, body := call(t, n, env, "listConfigurations", "name", "default.page.size"); code != 200 || !strings.Contains(body, `"value":"123"`) {
			t.Errorf("a read at %s: %d %s", n.cfg.Node, code, body)
		}
		if code, body := call(t, n, env, "listZones", "id", "nonsense"); code != 431 || !strings.Contains(body, "entity does not exist") {
			t.Errorf("a refusal at %s: %d %s", n.cfg.Node, code, body)
		}
	}
	login(t, nodes, env)
}

// login gets a session at a follower and uses it at another coordinator.
func login(t *testing.T, nodes []*running, env map[string]string) {
	t.Helper()
	res, err := http.PostForm("http://"+nodes[1].cfg.Plain[0]+"/client/api", url.Values{
		"command": {"login"}, "username": {env["WISP_ADMIN_USER"]}, "password": {env["WISP_ADMIN_PASSWORD"]}, "response": {"json"},
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != 200 || len(res.Cookies()) != 2 {
		t.Fatalf("login at a follower: %s, cookies %v", res.Status, res.Cookies())
	}
	q, err := http.NewRequest(http.MethodGet, "http://"+nodes[2].cfg.Plain[0]+"/client/api?command=listZones&response=json", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range res.Cookies() {
		if c.Secure {
			t.Errorf("cookie %s is Secure although the client came without TLS", c.Name)
		}
		q.AddCookie(c)
	}
	if res, err = http.DefaultClient.Do(q); err != nil || res.StatusCode != 200 {
		t.Fatalf("the session at another coordinator: %v %v", res, err)
	}
	_ = res.Body.Close()
}

// The list of coordinators is the same whoever is asked, and one that has died is down in it.
func TestManagementServersAreTold(t *testing.T) {
	nodes, env := three(t)
	list := func(at *running) map[string]string {
		code, body := call(t, at, env, "listManagementServers")
		var a struct {
			Response struct {
				Server []struct {
					ID, Name, State, Version string
					Leader                   bool
				} `json:"managementserver"`
			} `json:"listmanagementserversresponse"`
		}
		if err := json.Unmarshal([]byte(body), &a); err != nil || code != 200 {
			t.Fatalf("%d %s: %v", code, body, err)
		}
		out := map[string]string{}
		for _, x := range a.Response.Server {
			out[x.Name] = x.State
			if x.State == "Up" && x.Version != "test" {
				out[x.Name] += " of version " + x.Version
			}
			if x.Leader {
				out[x.Name] += " leads"
			}
			if code, body := call(t, at, env, "listManagementServers", "id", x.ID); code != 200 || !strings.Contains(body, `"count":1,`) {
				t.Errorf("%s by its id: %d %s", x.Name, code, body)
			}
		}
		return out
	}
	await := func(at *running, want map[string]string) {
		t.Helper()
		replicatest.Wait(t, 20*time.Second, "the states of the coordinators", func() error {
			if got := list(at); !maps.Equal(got, want) {
				return fmt.Errorf("%v, want %v", got, want)
			}
			return nil
		})
	}
	for _, n := range nodes {
		await(n, map[string]string{"one": "Up leads", "two": "Up", "three": "Up"})
	}
	if err := nodes[2].replica.Close(); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes[:2] {
		await(n, map[string]string{"one": "Up leads", "two": "Up", "three": "Down"})
	}
	nodes[2].end(t)
	nodes[2] = start(t, nodes[2].cfg)
	for _, n := range nodes {
		await(n, map[string]string{"one": "Up leads", "two": "Up", "three": "Up"})
		figures(t, n, env)
	}
}

// figures looks whether each of three coordinators tells what it uses.
func figures(t *testing.T, at *running, env map[string]string) {
	t.Helper()
	code, body := call(t, at, env, "listManagementServersMetrics")
	var a struct {
		Response struct {
			Server []struct {
				HeapMemoryUsed, ThreadsTotalCount, AvailableProcessors int
				LastServerStart, CPULoad, SystemMemoryTotal            string
			} `json:"managementserver"`
		} `json:"listmanagementserversmetricsresponse"`
	}
	if err := json.Unmarshal([]byte(body), &a); err != nil || code != 200 || len(a.Response.Server) != 3 {
		t.Fatalf("%d %s: %v", code, body, err)
	}
	for _, x := range a.Response.Server {
		if x.HeapMemoryUsed < 1<<20 || x.ThreadsTotalCount < 2 || x.AvailableProcessors < 1 || x.LastServerStart == "" || x.CPULoad == "" || x.SystemMemoryTotal == "" {
			t.Errorf("figures are missing: %s", body)
		}
	}
}

// Only coordinators may speak to the peers port.
func TestPeersNeedTheClusterKey(t *testing.T) {
	r := start(t, testConfig(t, "one"))
	r.ready(t)
	for name, conf := range map[string]*tls.Config{
		"no certificate":    {InsecureSkipVerify: true}, //nolint:gosec // the test is about the other side
		"another authority": foreignTLS(t),
	} {
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: conf}}
		res, err := c.Post("https://"+r.cfg.Peers+"/cluster/join", "application/json", strings.NewReader(`{"id":"x","raft":"127.0.0.1:1"}`))
		if err == nil {
			_ = res.Body.Close()
			t.Errorf("%s: the peers port answered %s", name, res.Status)
		}
	}
}

func foreignTLS(t *testing.T) *tls.Config {
	t.Helper()
	cfg := testConfig(t, "foreign")
	k, err := openSeal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	conf, err := clusterTLS(k, "foreign")
	if err != nil {
		t.Fatal(err)
	}
	conf.InsecureSkipVerify = true
	return conf
}

// What an address forwarded by a client itself says is not believed.
func TestCVE_2024_29006_ForwardHeadersOnPublicPort(t *testing.T) {
	r := start(t, testConfig(t, "one"))
	r.ready(t)
	env := admin(t, r.cfg)
	for i := range 12 {
		q, err := http.NewRequest(http.MethodPost, "http://"+r.cfg.Plain[0]+"/client/api", strings.NewReader("command=login&username=admin&password=wrong&response=json"))
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for _, h := range []string{"X-Forwarded-For", "X-Real-IP", "Forwarded", headerClient} {
			q.Header.Set(h, fmt.Sprintf("203.0.113.%d:1", i))
		}
		res, err := http.DefaultClient.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode == http.StatusTooManyRequests {
			_ = env
			return
		}
	}
	t.Error("twelve wrong passwords in a row were all tried")
}

// The leader dies under load: no write that was acknowledged is lost, and writing goes on.
func TestLeaderKilledUnderLoad(t *testing.T) {
	nodes, env := three(t)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	type written struct{ account string }
	acked := make(chan written, 10000)
	var clients sync.WaitGroup
	stop := make(chan struct{})
	for c := range 4 {
		clients.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				select {
				case <-stop:
					return
				default:
				}
				name := fmt.Sprintf("d-%d-%d", c, i)
				address := nodes[1+(c+i)%2].cfg.Plain[0] // of the two that stay
				code, _, err := try(address, env, "createDomain", "name", name)
				if err == nil && code == 200 {
					acked <- written{name}
				}
			}
		})
	}
	replicatest.Wait(t, 20*time.Second, "some writes", func() error {
		if len(acked) < 40 {
			return fmt.Errorf("%d", len(acked))
		}
		return nil
	})
	// The raft and peers ports of the first one fall silent at once, as with a kill.
	before := len(acked)
	leader := -1
	for i, n := range nodes {
		if _, _, leads := n.replica.Leader(); leads {
			leader = i
		}
	}
	if leader != 0 {
		t.Fatalf("%d leads, not the first", leader)
	}
	died := time.Now()
	if err := nodes[0].replica.Close(); err != nil {
		t.Fatal(err)
	}
	replicatest.Wait(t, 30*time.Second, "writes under a new leader", func() error {
		if len(acked) < before+20 {
			return errors.New("none yet")
		}
		return nil
	})
	t.Logf("20 more writes acknowledged %v after the leader's end", time.Since(died).Round(time.Millisecond))
	close(stop)
	clients.Wait()
	close(acked)
	var names []string
	for w := range acked {
		names = append(names, w.account)
	}
	// A follower may be a moment behind; what is never there is lost.
	replicatest.Wait(t, 20*time.Second, "every acknowledged domain at "+nodes[1].cfg.Node, func() error {
		at := nodes[1].replica.DB().Current()
		for _, name := range names {
			if _, ok := tables.Domains.First(at, "path", store.K("root/"+name)); !ok {
				return fmt.Errorf("domain %s is not there", name)
			}
		}
		return nil
	})
}
