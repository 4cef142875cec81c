package api_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/replica"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// troubled is a cluster whose reads or writes fail.
type troubled struct {
	*replica.Replica
	barrier, update error
}

func (c *troubled) Barrier(ctx context.Context) error {
	if c.barrier != nil {
		return c.barrier
	}
	return c.Replica.Barrier(ctx)
}

func (c *troubled) Update(ctx context.Context, f func(tx *store.Tx) error) error {
	if c.update != nil {
		return c.update
	}
	return c.Replica.Update(ctx, f)
}

// When the cluster is at fault callers are told so, whether anything was done, and to come again; and what certainly
// was not done is forwarded.
func TestClusterTrouble(t *testing.T) {
	c := world(t, nil)
	cluster := &troubled{Replica: c.Replica}
	cfg := api.Config{
		Registry: c.Registry, Cluster: cluster, Settings: c.Settings, Seal: c.Seal, Now: c.Clock.Now,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	plain := api.New(cfg)
	forwarded := 0
	cfg.Forward = func(w http.ResponseWriter, _ *http.Request, body []byte) error {
		forwarded++
		if !strings.Contains(string(body), "createThing") {
			return fmt.Errorf("the body is not forwarded: %q", body)
		}
		w.WriteHeader(http.StatusTeapot)
		return nil
	}
	forwarding := api.New(cfg)
	away := &replica.NotLeader{LeaderID: "other"}
	for _, x := range []struct {
		name            string
		barrier, update error
		status          int // without forwarding
		text            string
		forwards        bool
	}{
		{"a follower", away, nil, 503, "nothing was done", true},
		{"leadership lost before the write", nil, away, 503, "nothing was done", true},
		{"leadership lost during the write", nil, replica.ErrOutcomeUnknown, 503, "look whether it was carried out", false},
		{"no majority", nil, fmt.Errorf("commit: %w", context.DeadlineExceeded), 503, "look whether it was carried out", false},
		{"stopping", nil, replica.ErrClosed, 503, "nothing was done", false},
	} {
		t.Run(x.name, func(t *testing.T) {
			cluster.barrier, cluster.update = x.barrier, x.update
			before := tables.SSHKeyPairs.Len(c.Read())
			r := func() *http.Request {
				return request(c, "POST", "/client/api", 0, form, "command", "createThing", "response", "json", "name", "n")
			}
			w := httptest.NewRecorder()
			plain.ServeHTTP(w, r())
			if w.Code != x.status || !strings.Contains(w.Body.String(), x.text) || !strings.Contains(w.Body.String(), `"createthingresponse"`) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			forwarded = 0
			w = httptest.NewRecorder()
			forwarding.ServeHTTP(w, r())
			if (forwarded == 1) != x.forwards || (w.Code == http.StatusTeapot) != x.forwards {
				t.Errorf("forwarded %d times, answer %d", forwarded, w.Code)
			}
			if after := tables.SSHKeyPairs.Len(c.Read()); after != before {
				t.Errorf("%d things were made", after-before)
			}
		})
	}
}
