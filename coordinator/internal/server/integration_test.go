package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/replica/replicatest"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// ask makes a call without credentials.
func ask(address, query string, header ...string) (int, string, error) {
	r, err := http.NewRequest(http.MethodGet, "http://"+address+"/client/api?response=json&command="+query, http.NoBody)
	if err != nil {
		return 0, "", err
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
		r.Header.Set(header[i], header[i+1])
	}
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := c.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), err
}

// The integration port is closed by default, whatever its setting's default was elsewhere; set, it is open on every
// coordinator at once and without a restart, for programs of the machine only; and set to 0 it closes.
func TestCVE_2024_39864_IntegrationPort(t *testing.T) {
	nodes, env := three(t)
	_, port, err := net.SplitHostPort(freePorts(t, 1)[0])
	if err != nil {
		t.Fatal(err)
	}
	set := func(value string) {
		t.Helper()
		if code, body := call(t, nodes[0], env, "updateConfiguration", "name", "integration.api.port", "value", value); code != 200 {
			t.Fatalf("updateConfiguration: %d %s", code, body)
		}
	}
	at := func(n *running) string { return net.JoinHostPort(n.cfg.Integration, port) }
	for _, n := range nodes {
		if code, _, err := ask(at(n), "listUsers&listall=true"); err == nil {
			t.Errorf("%s: the port answers %d although it is not set", n.cfg.Node, code)
		}
	}
	set(port)
	for _, n := range nodes {
		replicatest.Wait(t, 20*time.Second, "the port of "+n.cfg.Node, func() error {
			code, body, err := ask(at(n), "listUsers&listall=true")
			if err == nil && (code != 200 || !strings.Contains(body, `"username":"admin"`)) {
				t.Fatalf("%s: %d %s", n.cfg.Node, code, body)
			}
			return err
		})
		if code, body, err := ask(at(n), "createDomain&name=of-"+n.cfg.Node); err != nil || code != 200 && code != 432 {
			t.Errorf("%s: a write: %d %s %v", n.cfg.Node, code, body, err)
		}
		for _, header := range [][]string{
			{"Host", "evil.example.org"}, {"Origin", "http://evil.example.org"}, {"Sec-Fetch-Site", "cross-site"},
		} {
			if code, body, err := ask(at(n), "listUsers&listall=true", header...); err != nil || code != 401 {
				t.Errorf("%s: a web page's request (%s) gets %d %s %v", n.cfg.Node, header, code, body, err)
			}
		}
		// The header between coordinators means nothing to the public ports.
		if code, body, err := ask(n.cfg.Plain[0], "listUsers&listall=true", "Wisp-Integration", "1"); err != nil || code != 401 {
			t.Errorf("%s: the public port believes a header: %d %s %v", n.cfg.Node, code, body, err)
		}
	}
	if code, body := call(t, nodes[0], env, "updateConfiguration", "name", "default.page.size", "value", "77"); code != 200 {
		t.Errorf("a signed call beside it: %d %s", code, body)
	}
	set("0")
	for _, n := range nodes {
		replicatest.Wait(t, 20*time.Second, "the port of "+n.cfg.Node+" to close", func() error {
			if code, _, err := ask(at(n), "listUsers&listall=true"); err == nil {
				return fmt.Errorf("it answers %d", code)
			}
			return nil
		})
	}
}

// The limit of calls holds for the whole cluster, to whichever coordinators an account talks.
func TestThrottlingHoldsForTheCluster(t *testing.T) {
	nodes, env := three(t)
	user := map[string]string{"CLOUDSTACK_KEY": "spender-key", "CLOUDSTACK_SECRET": "spender-secret"}
	for _, n := range nodes {
		if _, _, leads := n.replica.Leader(); !leads {
			continue
		}
		err := n.replica.Update(context.Background(), func(tx *store.Tx) error {
			a, err := identity.CreateAccount(tx, identity.AccountSpec{Name: "spender", Type: cloud.UserAccount, DomainID: identity.Root(tx).ID})
			if err != nil {
				return err
			}
			u, err := identity.CreateUser(tx, identity.UserSpec{AccountID: a.ID, Username: "spender"})
			return errors.Join(err, identity.SetKeys(tx, n.seal, u.ID, "spender-key", "spender-secret"))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, value := range map[string]string{"api.throttling.interval": "3600", "api.throttling.max": "50", "api.throttling.enabled": "true"} {
		if code, body := call(t, nodes[0], env, "updateConfiguration", "name", name, "value", value); code != 200 {
			t.Fatalf("updateConfiguration %s: %d %s", name, code, body)
		}
	}
	spend(t, nodes, user)
	// A new leader counts anew, and from its first call on as exactly: a change of leader costs the limit once more, not what
	// is called meanwhile.
	for _, n := range nodes {
		if _, _, leads := n.replica.Leader(); leads {
			if err := n.replica.TransferLeadership(t.Context()); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	spend(t, nodes, user)
}

// spend makes 90 calls at three coordinators, of which 50 are to be carried out. One that comes while there is no leader is
// made again.
func spend(t *testing.T, nodes []*running, user map[string]string) {
	t.Helper()
	var ok, refused, again atomic.Int32
	var wg sync.WaitGroup
	began := time.Now()
	for _, n := range nodes {
		for range 2 {
			wg.Go(func() {
				for left := 15; left > 0; {
					switch code, body, err := try(n.cfg.Plain[0], user, "listZones"); {
					case err == nil && code == 200:
						ok.Add(1)
						left--
					case err == nil && code == 429:
						refused.Add(1)
						left--
					case err == nil && code == 503 && time.Since(began) < 30*time.Second:
						again.Add(1)
					default:
						t.Errorf("%s: %d %s %v", n.cfg.Node, code, body, err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	t.Logf("90 calls, six at a time at three coordinators: %v; %d more met no leader", time.Since(began).Round(time.Millisecond), again.Load())
	if ok.Load() != 50 || refused.Load() != 40 {
		t.Errorf("%d calls were carried out and %d refused, want 50 and 40", ok.Load(), refused.Load())
	}
}
