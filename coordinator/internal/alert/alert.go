// Package alert keeps what an operator should know of: a host that is silent, storage that runs full, a router that
// finds no host. An alert about a condition is raised once, stays open while the condition holds, and is resolved when
// it ends; then the condition may raise another one. Alerts are mailed by the leader (Mailer).
//
// Whoever knows a condition from a change calls Raise and Resolve in that change's transaction. Whoever computes
// conditions from figures (infra's thresholds) calls Sync with all that hold.
package alert

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Type numbers what alerts are about, as clients see it.
type Type uint8

// The types that are raised here.
const (
	Memory           Type = 0
	CPU              Type = 1
	Storage          Type = 2
	StorageAllocated Type = 3
	PublicIP         Type = 4
	PrivateIP        Type = 5
	Host             Type = 6
	UserVM           Type = 7
	Router           Type = 8
	StorageMisc      Type = 11
	Coordinator      Type = 13
	VLAN             Type = 17
	DirectPublicIP   Type = 23
	LocalStorage     Type = 24
)

// names of all types of 4.1, by number.
var names = [...]string{
	"MEMORY", "CPU", "STORAGE", "STORAGE_ALLOCATED", "PUBLIC_IP", "PRIVATE_IP", "HOST", "USERVM", "DOMAIN_ROUTER", "CONSOLE_PROXY",
	"ROUTING", "STORAGE_MISC", "USAGE_SERVER", "MANAGMENT_NODE", "DOMAIN_ROUTER_MIGRATE", "CONSOLE_PROXY_MIGRATE", "USERVM_MIGRATE",
	"VLAN", "SSVM", "USAGE_SERVER_RESULT", "STORAGE_DELETE", "UPDATE_RESOURCE_COUNT", "USAGE_SANITY_RESULT",
	"DIRECT_ATTACHED_PUBLIC_IP", "LOCAL_STORAGE", "RESOURCE_LIMIT_EXCEEDED",
}

// Known is how many types there are: a type is a number below it.
const Known = len(names)

// String is the name of a type; a number that has none is shown as it is.
func (t Type) String() string {
	if int(t) < len(names) {
		return names[t]
	}
	return fmt.Sprintf("TYPE_%d", uint8(t))
}

// Condition is something that holds for a while.
type Condition struct {
	Type Type
	// Key names the condition, the same text every time: "host/<id>".
	Key                  string
	Subject, Description string
	ZoneID, PodID        cloud.ID
	ClusterID, Resource  cloud.ID
}

// Raise opens an alert unless one of the same condition is open.
func Raise(tx *store.Tx, c Condition) error {
	if _, open := tables.Alerts.First(tx, "condition", store.K(c.Key)); open && c.Key != "" {
		return nil
	}
	return put(tx, &cloud.Alert{
		ID: tx.NewID(), Type: uint8(c.Type), Name: c.Type.String(), Subject: c.Subject, Description: c.Description, ZoneID: c.ZoneID, PodID: c.PodID,
		ClusterID: c.ClusterID, ResourceID: c.Resource, Created: tx.Now(), Condition: c.Key,
	})
}

// Generate writes an alert that somebody asked for; nothing ends it.
func Generate(tx *store.Tx, t Type, name, description string, zone, pod cloud.ID) (*cloud.Alert, error) {
	a := &cloud.Alert{
		ID: tx.NewID(), Type: uint8(t), Name: name, Subject: name, Description: description, ZoneID: zone, PodID: pod, Created: tx.Now(),
	}
	return a, put(tx, a)
}

func put(tx *store.Tx, a *cloud.Alert) error {
	if err := tables.Alerts.Put(tx, a); err != nil {
		return fmt.Errorf("write alert %q: %w", a.Subject, err)
	}
	return nil
}

// Resolve ends a condition. One that does not hold stays so.
func Resolve(tx *store.Tx, key string) error {
	a, open := tables.Alerts.First(tx, "condition", store.K(key))
	if !open {
		return nil
	}
	if a.Hidden {
		return tables.Alerts.Delete(tx, a.ID)
	}
	a.Resolved = tx.Now()
	if a.Mailed.IsZero() {
		a.Mailed = tx.Now() // it is over before anybody was told
	}
	return put(tx, a)
}

// Open tells whether a condition is known to hold.
func Open(r store.Reader, key string) bool {
	return tables.Alerts.Count(r, "condition", store.K(key)) > 0
}

// opened lists the keys of open conditions that begin with a prefix.
func opened(r store.Reader, prefix string) map[string]bool {
	out := map[string]bool{}
	for a := range tables.Alerts.By(r, "condition", nil) {
		if strings.HasPrefix(a.Condition, prefix) {
			out[a.Condition] = true
		}
	}
	return out
}

// Differs tells whether Sync would write something.
func Differs(r store.Reader, prefix string, hold []Condition) bool {
	open := opened(r, prefix)
	for _, c := range hold {
		if !open[c.Key] {
			return true
		}
		delete(open, c.Key)
	}
	return len(open) > 0
}

// Sync makes the open conditions whose keys begin with prefix those that hold. It writes in the order of keys: what is
// resolved at one time is told in the same order by every run.
func Sync(tx *store.Tx, prefix string, hold []Condition) error {
	for _, key := range slices.Sorted(maps.Keys(opened(tx, prefix))) {
		if !slices.ContainsFunc(hold, func(c Condition) bool { return c.Key == key }) {
			if err := Resolve(tx, key); err != nil {
				return err
			}
		}
	}
	for _, c := range hold {
		if err := Raise(tx, c); err != nil {
			return err
		}
	}
	return nil
}

// Filter chooses alerts to archive or delete: by id, or by type and time.
type Filter struct {
	IDs        []cloud.ID
	Type       string // a name or number; "" any
	Start, End time.Time
}

func (f *Filter) chooses(a *cloud.Alert) bool {
	return (len(f.IDs) == 0 || slices.Contains(f.IDs, a.ID)) && OfType(a, f.Type) &&
		(f.Start.IsZero() || !a.Created.Before(f.Start)) && (f.End.IsZero() || !a.Created.After(f.End))
}

// OfType tells whether an alert has a type, which is a name or a number; "" is any.
func OfType(a *cloud.Alert, t string) bool {
	return t == "" || strings.EqualFold(t, Type(a.Type).String()) || t == fmt.Sprint(a.Type) || strings.EqualFold(t, a.Name)
}

// errNothing refuses a call without any condition: it would take everything.
var errNothing = cloud.Errorf(cloud.Invalid, "either ids, type or enddate must be specified")

func (f *Filter) check() error {
	switch {
	case len(f.IDs) == 0 && f.Type == "" && f.End.IsZero():
		return errNothing
	case !f.Start.IsZero() && f.End.IsZero():
		return cloud.Errorf(cloud.Invalid, "enddate must be specified with startdate parameter")
	case f.End.Before(f.Start) && !f.End.IsZero():
		return cloud.Errorf(cloud.Invalid, "startdate must be before enddate")
	}
	return nil
}

func (f *Filter) each(tx *store.Tx, do func(a *cloud.Alert) error) error {
	if err := f.check(); err != nil {
		return err
	}
	n := 0
	for a := range tables.Alerts.By(tx, "created", nil) {
		if a.Hidden || !f.chooses(a) {
			continue
		}
		n++
		if err := do(a); err != nil {
			return err
		}
	}
	if len(f.IDs) > 0 && n < len(f.IDs) {
		return cloud.Errorf(cloud.Invalid, "not all of the %d alerts of ids exist and fit the other parameters", len(f.IDs))
	}
	return nil
}

// Archive puts alerts out of sight of listAlerts.
func Archive(tx *store.Tx, f Filter) error {
	return f.each(tx, func(a *cloud.Alert) error {
		a.Archived = true
		return put(tx, a)
	})
}

// Delete removes alerts. One whose condition still holds is hidden until that ends: the condition must not raise
// another one at once.
func Delete(tx *store.Tx, f Filter) error {
	return f.each(tx, func(a *cloud.Alert) error {
		if a.Condition == "" || !a.Resolved.IsZero() {
			return tables.Alerts.Delete(tx, a.ID)
		}
		a.Hidden = true
		return put(tx, a)
	})
}
