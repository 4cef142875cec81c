package identity

import (
	"errors"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// cleanupInterval has the name and the default of CloudStack's.
var cleanupInterval = settings.Define(settings.Def{
	Name: "account.cleanup.interval", Category: "Advanced", Type: settings.Seconds, Default: "86400", Min: 1, Max: 31536000,
	Doc: "Pause in seconds between tries to finish removals of accounts and domains whose job could not.",
})

// Unfinished lists the accounts whose removal has begun, and the topmost of the domains.
func Unfinished(r store.Reader) (accounts, domains []cloud.ID) {
	for id := range tables.Accounts.IDs(r, "removing", nil) {
		accounts = append(accounts, id)
	}
	for d := range tables.Domains.All(r) {
		if p, ok := tables.Domains.Get(r, d.ParentID); d.State == cloud.Inactive && (!ok || p.State != cloud.Inactive) {
			domains = append(domains, d.ID)
		}
	}
	return accounts, domains
}

// Cleanup goes on with the removals that are not finished: those whose job failed or ran out of time. update runs a
// transaction. What stands in the way of one does not stop the others; it is returned.
func Cleanup(r store.Reader, update func(func(*store.Tx) error) error, accounts, domains []Owned) error {
	var trouble []error
	walk := func(step func(tx *store.Tx) (Progress, error)) {
		for again := true; again; {
			err := update(func(tx *store.Tx) error {
				p, err := step(tx)
				again = p.Again && !p.Done
				return err
			})
			if err != nil {
				trouble = append(trouble, err)
				return
			}
		}
	}
	ids, tops := Unfinished(r)
	for _, id := range tops {
		walk(func(tx *store.Tx) (Progress, error) { return RemoveDomain(tx, accounts, domains, id) })
	}
	for _, id := range ids {
		walk(func(tx *store.Tx) (Progress, error) { return RemoveAccount(tx, accounts, id) })
	}
	return errors.Join(trouble...)
}
