package identity

import (
	"fmt"
	"iter"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Owned is a kind of thing that belongs to accounts (or, in a list for domains, to domains), and how an owner that goes
// away loses it. The program composes one list of kinds in the order in which they have to go: what uses another thing
// before what it uses.
type Owned struct {
	Kind string // "virtual machine"; for errors and logs
	// IDs yields what the owner has, also what is on its way out already.
	IDs func(r store.Reader, owner cloud.ID) iter.Seq[cloud.ID]
	// Remove removes one, or begins to: it may be gone at once or later, when a host has reported. asked is false where
	// nothing was left to begin, so that a thing under way costs no commit; it is called again for it until it is gone.
	// It must bear being run in any state the thing can be in. An error stops the removal of the owner, which can be
	// asked for again.
	Remove func(tx *store.Tx, id cloud.ID) (asked bool, err error)
	// Lent is for what an administrator set aside for the owner: it does not stand in the way of a removal that is to take
	// nothing along.
	Lent bool
	// Refuse, optional, tells before anything is removed why the owner cannot go yet.
	Refuse func(r store.Reader, owner cloud.ID) error
}

// Refused asks all kinds whether an owner may go.
func Refused(r store.Reader, kinds []Owned, owner cloud.ID) error {
	for _, k := range kinds {
		if k.Refuse == nil {
			continue
		}
		if err := k.Refuse(r, owner); err != nil {
			return err
		}
	}
	return nil
}

// Progress is how far a removal is.
type Progress struct {
	Done bool
	// Again tells that there is more to do at once, in another transaction.
	Again bool
	// WaitOn are rows that have to change or go first.
	WaitOn []cloud.ID
}

// Outcome is the progress as what a job's step says.
func (p Progress) Outcome() job.Outcome {
	switch {
	case p.Done:
		return job.Done()
	case p.Again:
		return job.Again()
	}
	return job.WaitOn(p.WaitOn...)
}

const (
	// removeAtOnce bounds the things that one transaction begins to remove.
	removeAtOnce = 20
	// waitForMost bounds the rows that a removal waits for at once.
	waitForMost = 100
)

// RemoveOwned takes one step to remove all that an owner has: it begins with the first kind of which there is
// something, and goes on to the next when nothing is left of it. Each step is one commit, and reads where it stands from
// the rows, so it does not matter where the step before was cut.
func RemoveOwned(tx *store.Tx, kinds []Owned, owner cloud.ID) (Progress, error) {
	for _, k := range kinds {
		asked := 0
		var left []cloud.ID
		for id := range k.IDs(tx, owner) {
			if asked == removeAtOnce {
				return Progress{Again: true}, nil
			}
			did, err := k.Remove(tx, id)
			if err != nil {
				return Progress{}, fmt.Errorf("remove %s %s: %w", k.Kind, id, err)
			}
			if did {
				asked++
			}
			if len(left) < waitForMost {
				left = append(left, id)
			}
		}
		if asked > 0 {
			return Progress{Again: true}, nil
		}
		if len(left) > 0 {
			return Progress{WaitOn: left}, nil
		}
	}
	return Progress{Done: true}, nil
}

// BeginRemoval shuts an account that is to be removed: from now on nobody acts for it and nothing is made for it.
func BeginRemoval(tx *store.Tx, a *cloud.Account) error {
	a.Removing, a.State = true, cloud.Disabled
	if err := tables.Accounts.Put(tx, a); err != nil {
		return fmt.Errorf("remove account %s: %w", a.Name, err)
	}
	for u := range tables.Users.By(tx, "account", store.K(a.ID)) {
		if err := EndSessions(tx, u.ID); err != nil {
			return err
		}
	}
	return nil
}

// RemoveAccount takes one step of removing an account: what it owns, then its users, then itself.
func RemoveAccount(tx *store.Tx, kinds []Owned, id cloud.ID) (Progress, error) {
	a, ok := tables.Accounts.Get(tx, id)
	if !ok {
		return Progress{Done: true}, nil
	}
	p, err := RemoveOwned(tx, kinds, id)
	if err != nil || !p.Done {
		return p, err
	}
	for u := range tables.Users.By(tx, "account", store.K(id)) {
		if err := RemoveUser(tx, u); err != nil {
			return Progress{}, err
		}
	}
	for l := range tables.ResourceLimits.By(tx, "account", store.K(id)) {
		if err := tables.ResourceLimits.Delete(tx, l.ID); err != nil {
			return Progress{}, fmt.Errorf("remove limits of account %s: %w", a.Name, err)
		}
	}
	for l := range tables.LDAPLinks.By(tx, "account", store.K(id)) {
		if err := tables.LDAPLinks.Delete(tx, l.ID); err != nil {
			return Progress{}, fmt.Errorf("remove LDAP link of account %s: %w", a.Name, err)
		}
	}
	if err := dropCounts(tx, a); err != nil {
		return Progress{}, err
	}
	if err := forget(tx, id); err != nil {
		return Progress{}, err
	}
	return Progress{Done: true}, tables.Accounts.Delete(tx, id)
}

// dropCounts removes an account's counters. They are zero when all that was counted is gone; were one not, the domains
// above would keep it for ever, so it is taken from them, too.
func dropCounts(tx *store.Tx, a *cloud.Account) error {
	for c := range tables.ResourceCounts.By(tx, "account", store.K(a.ID)) {
		if c.Count != 0 {
			if err := Count(tx, a.ID, c.Type, -c.Count); err != nil {
				return err
			}
		}
		if err := tables.ResourceCounts.Delete(tx, c.ID); err != nil {
			return fmt.Errorf("remove counts of account %s: %w", a.Name, err)
		}
	}
	return nil
}

// BeginDomainRemoval shuts a domain and all below it.
func BeginDomainRemoval(tx *store.Tx, d *cloud.Domain) error {
	for _, x := range Subtree(tx, d) {
		x.State = cloud.Inactive
		if err := tables.Domains.Put(tx, x); err != nil {
			return fmt.Errorf("remove domain %s: %w", x.Path, err)
		}
	}
	return nil
}

// RemoveDomain takes one step of removing a domain with all that is in it, the domains farthest down first. accounts and
// domains are the kinds of things that accounts and domains own.
func RemoveDomain(tx *store.Tx, accounts, domains []Owned, id cloud.ID) (Progress, error) {
	top, ok := tables.Domains.Get(tx, id)
	if !ok {
		return Progress{Done: true}, nil
	}
	all := Subtree(tx, top)
	var wait []cloud.ID
	begun := 0
	for i := len(all) - 1; i >= 0; i-- {
		d := all[i]
		for a := range tables.Accounts.By(tx, "name", store.K(d.ID)) {
			if !a.Removing {
				// The kinds' own Refuse was asked when the call came.
				if err := BeginRemoval(tx, a); err != nil {
					return Progress{}, err
				}
			}
			p, err := RemoveAccount(tx, accounts, a.ID)
			if err != nil {
				return Progress{}, fmt.Errorf("remove account %s: %w", a.Name, err)
			}
			wait = append(wait, p.WaitOn...)
			if p.Done || p.Again {
				if begun++; begun == accountsAtOnce {
					return Progress{Again: true}, nil
				}
			}
		}
		if begun > 0 || len(wait) > 0 {
			continue
		}
		if tables.Domains.Count(tx, "parent", store.K(d.ID)) > 0 {
			continue
		}
		p, err := RemoveOwned(tx, domains, d.ID)
		if err != nil {
			return Progress{}, fmt.Errorf("remove domain %s: %w", d.Path, err)
		}
		if !p.Done {
			return p, nil
		}
		if err := dropDomain(tx, d); err != nil {
			return Progress{}, err
		}
		return Progress{Done: d.ID == id, Again: true}, nil
	}
	if begun > 0 {
		return Progress{Again: true}, nil
	}
	return Progress{WaitOn: wait[:min(len(wait), waitForMost)]}, nil
}

// accountsAtOnce bounds the accounts that one step of a domain's removal moves on.
const accountsAtOnce = 5

// dropDomain removes a domain's row and what is kept for it.
func dropDomain(tx *store.Tx, d *cloud.Domain) error {
	for l := range tables.ResourceLimits.By(tx, "domain", store.K(d.ID)) {
		if err := tables.ResourceLimits.Delete(tx, l.ID); err != nil {
			return fmt.Errorf("remove limits of domain %s: %w", d.Path, err)
		}
	}
	for c := range tables.ResourceCounts.By(tx, "account", store.K(d.ID)) {
		if err := tables.ResourceCounts.Delete(tx, c.ID); err != nil {
			return fmt.Errorf("remove counts of domain %s: %w", d.Path, err)
		}
	}
	for s := range tables.LDAPServers.By(tx, "domain", store.K(d.ID)) {
		if err := tables.LDAPServers.Delete(tx, s.ID); err != nil {
			return fmt.Errorf("remove LDAP servers of domain %s: %w", d.Path, err)
		}
	}
	for l := range tables.LDAPLinks.By(tx, "owner", store.K(d.ID)) {
		if err := tables.LDAPLinks.Delete(tx, l.ID); err != nil {
			return fmt.Errorf("remove LDAP links of domain %s: %w", d.Path, err)
		}
	}
	if err := forget(tx, d.ID); err != nil {
		return err
	}
	return tables.Domains.Delete(tx, d.ID)
}
