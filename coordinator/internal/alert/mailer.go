package alert

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/mail"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

var (
	smtp      = mail.Define("alert", "Alert", "alerts")
	addresses = settings.Define(settings.Def{
		Name: "alert.email.addresses", Category: "Alert",
		Doc: "Addresses that alerts are mailed to, separated by commas; none are sent where it is empty.",
	})
	purgeDelay = settings.Define(settings.Def{
		Name: "alert.purge.delay", Category: "Advanced", Type: settings.Integer, Default: "0", Min: 0, Max: 36500,
		Doc: "Days after which alerts whose condition has ended are removed; 0 keeps them for ever.",
	})
	purgeInterval = settings.Define(settings.Def{
		Name: "alert.purge.interval", Category: "Advanced", Type: settings.Seconds, Default: "86400", Min: 10, Max: 31536000,
		Doc: "How often, in seconds, old alerts are looked for.",
	})
)

// Settings lists the settings of this package.
func Settings() []*settings.Def {
	return append(smtp.All(), addresses, purgeDelay, purgeInterval)
}

// Cluster is what the mailer needs of the replica.
type Cluster interface {
	DB() *store.DB
	Update(ctx context.Context, f func(tx *store.Tx) error) error
}

// Mailer mails alerts and removes old ones, on the leader. An alert is marked when the mail server has taken it, so it is
// mailed at least once; a mail that was sent twice has the same Message-ID.
type Mailer struct {
	Cluster Cluster
	Seal    mail.Opener
	Log     *slog.Logger
	Now     func() time.Time
	// Retry is how long a mail that could not be sent waits; 0 is a minute.
	Retry time.Duration
}

// tooOld is the age at which an alert is not worth a mail any more.
const tooOld = 24 * time.Hour

// atOnce bounds one transaction.
const atOnce = 200

// Run mails alerts until ctx ends.
func (m *Mailer) Run(ctx context.Context) error {
	var purged time.Time
	return mail.Attend(ctx, m.Cluster.DB(), m.Retry, m.pass, func(ctx context.Context) error {
		now := m.Now()
		if now.Sub(purged) < purgeInterval.Duration(m.Cluster.DB().Current()) {
			return nil
		}
		purged = now
		return m.purge(ctx)
	})
}

// pass mails what is to be mailed and tells whether the mail server failed.
func (m *Mailer) pass(ctx context.Context) (failed bool) {
	r := m.Cluster.DB().Current()
	if tables.Alerts.Count(r, "unmailed", nil) == 0 {
		return false
	}
	to, sender, configured, err := smtp.Server(r, m.Seal)
	list, aerr := mail.Addresses(addresses.Text(r))
	if err != nil || aerr != nil {
		m.Log.Error("cannot mail alerts", "error", fmt.Sprint(err, aerr))
		return true
	}
	var done []cloud.ID
	for a := range tables.Alerts.By(r, "unmailed", nil) {
		if len(done) == atOnce {
			break
		}
		if configured && len(list) > 0 && m.Now().Sub(a.Created) < tooOld {
			err := to.Send(ctx, message(r, a, sender, list))
			if err != nil && ctx.Err() == nil {
				m.Log.Warn("cannot mail an alert", "alert", a.ID, "error", err)
			}
			if some := (*mail.Undelivered)(nil); err != nil && !errors.As(err, &some) {
				failed = true
				break
			}
		}
		done = append(done, a.ID)
	}
	if len(done) == 0 {
		return failed
	}
	err = m.Cluster.Update(ctx, func(tx *store.Tx) error {
		for _, id := range done {
			a, ok := tables.Alerts.Get(tx, id)
			if !ok {
				continue
			}
			a.Mailed = tx.Now()
			if err := put(tx, a); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		m.Log.Warn("cannot note which alerts were mailed", "error", err)
	}
	return failed || err != nil
}

func message(r store.Reader, a *cloud.Alert, sender string, to []string) mail.Message {
	var b strings.Builder
	b.WriteString(a.Description + "\n\n")
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s: %s\n", name, value)
		}
	}
	line("Type", Type(a.Type).String())
	if z, ok := tables.Zones.Get(r, a.ZoneID); ok {
		line("Zone", z.Name)
	}
	if p, ok := tables.Pods.Get(r, a.PodID); ok {
		line("Pod", p.Name)
	}
	if k, ok := tables.Clusters.Get(r, a.ClusterID); ok {
		line("Cluster", k.Name)
	}
	line("Raised", a.Created.UTC().Format(time.RFC3339))
	line("Alert", a.ID.String())
	return mail.Message{
		From: sender, To: to, Subject: "[wisp] " + a.Subject, Body: b.String(), Date: a.Created, ID: "alert-" + a.ID.String(),
	}
}

// purge removes alerts that ended long ago.
func (m *Mailer) purge(ctx context.Context) error {
	old := m.old(m.Cluster.DB().Current())
	if len(old) == 0 {
		return nil
	}
	return m.Cluster.Update(ctx, func(tx *store.Tx) error {
		for _, id := range m.old(tx) {
			if err := tables.Alerts.Delete(tx, id); err != nil {
				return err
			}
		}
		return nil
	})
}

func (m *Mailer) old(r store.Reader) (ids []cloud.ID) {
	days := purgeDelay.Int(r)
	if days == 0 {
		return nil
	}
	before := m.Now().AddDate(0, 0, -int(days))
	for a := range tables.Alerts.By(r, "created", nil) {
		if !a.Created.Before(before) || len(ids) == atOnce {
			break
		}
		if a.Condition == "" || !a.Resolved.IsZero() {
			ids = append(ids, a.ID)
		}
	}
	return ids
}
