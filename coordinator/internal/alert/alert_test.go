package alert_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/alert"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/mail/mailtest"
	"github.com/wispcloud/wisp/coordinator/internal/replica/replicatest"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

type world struct {
	t *testing.T
	alert.Cluster
}

func newWorld(t *testing.T) *world {
	return &world{t, replicatest.Single(t, tables.Schema()...)}
}

func (w *world) update(f func(tx *store.Tx) error) {
	w.t.Helper()
	if err := w.Update(w.t.Context(), f); err != nil {
		w.t.Fatal(err)
	}
}

// show lists the alerts: key, and what became of it.
func (w *world) show() []string {
	var out []string
	for a := range tables.Alerts.By(w.DB().Current(), "created", nil) {
		text := a.Condition
		if !a.Resolved.IsZero() {
			text += " resolved"
		}
		if a.Archived {
			text += " archived"
		}
		if a.Hidden {
			text += " hidden"
		}
		out = append(out, text)
	}
	return out
}

func (w *world) want(say string, lines ...string) {
	w.t.Helper()
	if d := cmp.Diff(lines, w.show()); d != "" {
		w.t.Errorf("%s: %s", say, d)
	}
}

func conditions(keys ...string) (out []alert.Condition) {
	for _, k := range keys {
		out = append(out, alert.Condition{Type: alert.CPU, Key: k, Subject: "about " + k})
	}
	return out
}

// A condition has one alert from its begin to its end, whatever becomes of that.
func TestOncePerCondition(t *testing.T) {
	w := newWorld(t)
	sync := func(keys ...string) {
		t.Helper()
		w.update(func(tx *store.Tx) error { return alert.Sync(tx, "c/", conditions(keys...)) })
		if alert.Differs(w.DB().Current(), "c/", conditions(keys...)) {
			t.Errorf("after Sync of %v something differs", keys)
		}
	}
	w.update(func(tx *store.Tx) error { return alert.Raise(tx, conditions("other/x")[0]) })
	sync("c/1")
	sync("c/1")
	w.want("held twice", "other/x", "c/1")
	sync("c/1", "c/2")
	sync("c/2")
	w.want("one ended", "other/x", "c/1 resolved", "c/2")
	sync("c/1", "c/2")
	w.want("and began again", "other/x", "c/1 resolved", "c/2", "c/1")
	w.update(func(tx *store.Tx) error { return alert.Delete(tx, alert.Filter{Type: "CPU", End: tx.Now()}) })
	w.want("deleted: what holds is hidden", "other/x hidden", "c/2 hidden", "c/1 hidden")
	sync("c/1", "c/2")
	w.want("still", "other/x hidden", "c/2 hidden", "c/1 hidden")
	sync()
	w.want("ended", "other/x hidden")
	sync("c/1")
	w.update(func(tx *store.Tx) error { return alert.Archive(tx, alert.Filter{Type: "1"}) })
	w.want("archived", "other/x hidden", "c/1 archived")
	sync("c/1")
	w.want("and not raised again", "other/x hidden", "c/1 archived")
}

func TestFilterRefusals(t *testing.T) {
	w := newWorld(t)
	for _, f := range []alert.Filter{{}, {Start: time.Unix(1, 0)}, {Start: time.Unix(2, 0), End: time.Unix(1, 0)}, {IDs: []cloud.ID{{1}}}} {
		err := w.Update(t.Context(), func(tx *store.Tx) error { return alert.Delete(tx, f) })
		if cloud.CodeOf(err) != cloud.Invalid {
			t.Errorf("%+v: %v", f, err)
		}
	}
}

// mailer runs one until the test ends.
func (w *world) mailer() {
	m := &alert.Mailer{
		Cluster: w.Cluster, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Now: time.Now, Retry: 10 * time.Millisecond,
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := m.Run(ctx); err != nil && ctx.Err() == nil {
			w.t.Error(err)
		}
	}()
	w.t.Cleanup(func() { cancel(); <-done })
}

func (w *world) configure(values map[string]string) {
	g := settings.New(alert.Settings())
	w.update(func(tx *store.Tx) error {
		for name, v := range values {
			if err := g.Set(tx, name, v); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestMails(t *testing.T) {
	s := mailtest.Start(t, mailtest.Config{Refuse: "451 later"})
	w := newWorld(t)
	w.configure(map[string]string{
		"alert.smtp.host": s.Host, "alert.smtp.port": fmt.Sprint(s.Port), "alert.email.sender": "cloud@example.org",
		"alert.email.addresses": "a@example.org, b@example.org",
	})
	w.mailer()
	w.update(func(tx *store.Tx) error { return alert.Sync(tx, "c/", conditions("c/1")) })
	s.Refuse("") // only from here on it takes any
	sent := func(n int) {
		t.Helper()
		replicatest.Wait(t, 20*time.Second, fmt.Sprint(n, " mails"), func() error {
			if got := len(s.Mails()); got != n || tables.Alerts.Count(w.DB().Current(), "unmailed", nil) > 0 {
				return fmt.Errorf("%d", got)
			}
			return nil
		})
	}
	sent(1)
	m := s.Mails()[0]
	if d := cmp.Diff([]string{"a@example.org", "b@example.org"}, m.To); d != "" || m.Header.Get("Subject") != "[wisp] about c/1" {
		t.Errorf("%s %v", d, m.Header)
	}
	w.update(func(tx *store.Tx) error { return alert.Sync(tx, "c/", conditions("c/1")) })
	w.update(func(tx *store.Tx) error { return alert.Sync(tx, "c/", nil) })
	w.update(func(tx *store.Tx) error { return alert.Sync(tx, "c/", conditions("c/1")) })
	sent(2)
}

// One address that the mail server does not know keeps no alert from the others.
func TestOneAddressIsWrong(t *testing.T) {
	s := mailtest.Start(t, mailtest.Config{Refuse: "550 nobody here", Only: "gone@example.org"})
	w := newWorld(t)
	w.configure(map[string]string{
		"alert.smtp.host": s.Host, "alert.smtp.port": fmt.Sprint(s.Port), "alert.email.sender": "cloud@example.org",
		"alert.email.addresses": "gone@example.org, b@example.org",
	})
	w.mailer()
	w.update(func(tx *store.Tx) error { return alert.Sync(tx, "c/", conditions("c/1", "c/2")) })
	replicatest.Wait(t, 20*time.Second, "two mails", func() error {
		if got := len(s.Mails()); got != 2 || tables.Alerts.Count(w.DB().Current(), "unmailed", nil) > 0 {
			return fmt.Errorf("%d", got)
		}
		return nil
	})
}

// What was raised while nobody was to be told is not told later.
func TestNoMailIsConfigured(t *testing.T) {
	w := newWorld(t)
	w.mailer()
	w.update(func(tx *store.Tx) error { return alert.Sync(tx, "c/", conditions("c/1")) })
	replicatest.Wait(t, 20*time.Second, "the alert to be passed over", func() error {
		if n := tables.Alerts.Count(w.DB().Current(), "unmailed", nil); n > 0 {
			return fmt.Errorf("%d wait", n)
		}
		return nil
	})
}

func TestOldAlertsGo(t *testing.T) {
	w := newWorld(t)
	w.configure(map[string]string{"alert.purge.delay": "1"})
	old := func(tx *store.Tx, key string, resolved bool) error {
		a := &cloud.Alert{ID: tx.NewID(), Condition: key, Created: tx.Now().AddDate(0, 0, -2), Mailed: tx.Now()}
		if resolved {
			a.Resolved = tx.Now()
		}
		return tables.Alerts.Put(tx, a)
	}
	w.update(func(tx *store.Tx) error {
		if err := old(tx, "gone", true); err != nil {
			return err
		}
		return old(tx, "holds", false)
	})
	w.mailer()
	replicatest.Wait(t, 20*time.Second, "the old one to go", func() error {
		if got := w.show(); len(got) != 1 || got[0] != "holds" {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
}
