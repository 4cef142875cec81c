package api_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// sink is a ResponseWriter that costs nothing.
type sink struct {
	h http.Header
	n int
}

func (s *sink) Header() http.Header         { return s.h }
func (s *sink) Write(b []byte) (int, error) { s.n += len(b); return len(b), nil }
func (s *sink) WriteHeader(int)             {}

// signedURL is a signed GET, as most calls are.
func signedURL(c *apitest.Cloud, user string, pairs ...string) string {
	u := c.Users[user]
	v := url.Values{"apiKey": {u.APIKey}, "response": {"json"}}
	for i := 0; i < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
	}
	v.Set("signature", api.Sign(v, u.Secret))
	return "/client/api?" + v.Encode()
}

// benchWorld has a finished job and 500 things of one user.
func benchWorld(b *testing.B) (c *apitest.Cloud, small, page string) {
	c = world(b, nil)
	u := c.Users["a-user"]
	id := cloud.NameID("job", "x")
	c.Update(func(tx *store.Tx) error {
		for i := range 499 {
			k := &cloud.SSHKeyPair{ID: tx.NewID(), AccountID: u.Account.ID, DomainID: u.Account.DomainID, Name: fmt.Sprintf("thing-%04d", i)}
			if err := tables.SSHKeyPairs.Put(tx, k); err != nil {
				return err
			}
		}
		return tables.Jobs.Put(tx, &cloud.Job{
			ID: id, Command: "deployVirtualMachine", UserID: u.User.ID, AccountID: u.Account.ID, DomainID: u.Account.DomainID,
			Status: cloud.JobSucceeded, Created: tx.Now(), Completed: tx.Now(),
			Result: c.Seal.Seal(`{"virtualmachine":{"name":"` + strings.Repeat("x", 1500) + `"}}`),
		})
	})
	return c, signedURL(c, "a-user", "command", "queryAsyncJobResult", "jobid", id.String()), signedURL(c, "a-user", "command", "listThings")
}

// BenchmarkCall is what the API costs beside net/http.
func BenchmarkCall(b *testing.B) {
	c, small, page := benchWorld(b)
	for name, u := range map[string]string{"queryAsyncJobResult": small, "list-of-500": page} {
		b.Run(name, func(b *testing.B) {
			w := &sink{h: http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				clear(w.h)
				c.Server.ServeHTTP(w, httptest.NewRequest(http.MethodGet, u, nil))
			}
			b.SetBytes(int64(w.n / b.N))
		})
	}
}

// TestSmallCallBesidePlainHTTP prints the ratio of goal P4: CPU of a signed small GET to that of a plain net/http reply of
// the same bytes, both over loopback with the same client, interleaved. The bound is loose: machines are noisy.
func TestSmallCallBesidePlainHTTP(t *testing.T) {
	if testing.Short() {
		t.Skip("a measurement")
	}
	var ours, plain time.Duration
	result := testing.Benchmark(func(b *testing.B) {
		c, small, _ := benchWorld(b)
		var body []byte
		base := strings.TrimSuffix(c.URL, "/client/api")
		body = fetch(b, base+small)
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json; charset=UTF-8")
			_, _ = w.Write(body)
		}))
		defer srv.Close()
		ours, plain = 0, 0
		for b.Loop() {
			for range 100 {
				t0 := cpu()
				fetch(b, base+small)
				t1 := cpu()
				fetch(b, srv.URL+small)
				ours, plain = ours+t1-t0, plain+cpu()-t1
			}
		}
	})
	n := float64(result.N * 100)
	ratio := float64(ours) / float64(plain)
	t.Logf("P4: signed queryAsyncJobResult %.1f us CPU, plain reply %.1f us (client included in both), ratio %.2f", float64(ours.Nanoseconds())/n/1000, float64(plain.Nanoseconds())/n/1000, ratio)
	if ratio > 4 {
		t.Errorf("a small call costs %.1f times a plain reply", ratio)
	}
}

func fetch(b *testing.B, u string) []byte {
	res, err := http.Get(u)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		b.Fatal(res.Status, err)
	}
	return body
}

// cpu is what this process has used.
func cpu() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
