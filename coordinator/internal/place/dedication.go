package place

import (
	"fmt"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// Dedicated is what a dedication means to one request.
type Dedicated struct {
	// Mine tells that the owner of what is placed may be there.
	Mine bool
	// Chosen tells that the VM is in the affinity group of the dedication.
	Chosen bool
	// Group is the name of that group; not told to those whose dedication it is not.
	Group string
}

// Claims are the dedications of a zone, by the ids of zones, pods, clusters and hosts.
type Claims struct {
	Of map[cloud.ID]Dedicated
	// Choosy tells that the VM is in the group of a dedication: it goes to a place of such a group only, and what is not
	// choosy to none but zones. What is not a VM of a tenant (a router) goes wherever its owner may be.
	Choosy bool
	Router bool
}

// Refuse says why a host's dedications keep the request away, "" if they do not.
func (c *Claims) Refuse(h *Host) string {
	if c == nil || len(c.Of) == 0 && !c.Choosy {
		return ""
	}
	chosen, closed := false, ""
	for _, at := range []struct {
		id   cloud.ID
		what string
	}{{h.Zone, "its zone"}, {h.Pod, "its pod"}, {h.Cluster, "its cluster"}, {h.ID, "it"}} {
		d, ok := c.Of[at.id]
		if !ok {
			continue
		}
		if !d.Mine {
			return at.what + " is dedicated to somebody else"
		}
		chosen = d.Chosen // the narrowest decides
		if at.id != h.Zone {
			closed = fmt.Sprintf("%s is dedicated: only VMs in affinity group %s are placed there", at.what, d.Group)
		}
	}
	switch {
	case c.Router || chosen:
		return ""
	case c.Choosy:
		return "it is not dedicated, or not by the affinity group that the VM is in"
	}
	return closed
}
