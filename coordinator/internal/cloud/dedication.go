package cloud

import "time"

// PlaceKind is a size of place that can be dedicated.
type PlaceKind uint8

// Places that can be dedicated, the widest first.
const (
	ZonePlace PlaceKind = iota
	PodPlace
	ClusterPlace
	HostPlace
)

func (k PlaceKind) String() string { return [...]string{"zone", "pod", "cluster", "host"}[k] }

// Dedication gives a place to an account, or without one to a domain and all below it: nobody else's VMs are placed there.
type Dedication struct {
	ID        ID        `row:"1"`
	Kind      PlaceKind `row:"2"`
	PlaceID   ID        `row:"3"`
	ZoneID    ID        `row:"4"` // of the place; a zone's own
	DomainID  ID        `row:"5"`
	AccountID ID        `row:"6"`
	GroupID   ID        `row:"7"` // the affinity group whose VMs go there
	Created   time.Time `row:"8"`
	Unknown   Unknown
}
