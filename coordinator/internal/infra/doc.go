// Package infra is the area of what VMs run on: zones, pods, clusters, hosts and their join tokens, guest operating
// systems, and capacity figures. It is functions over a transaction; the commands of the API and the host link call
// them.
//
// A host's life: an agent that presents a good join token becomes a Pending host with a certificate; AdoptHost gives it
// a place (zone, pod, cluster), after which it is sent a spec and takes VMs; RemoveHost takes its row away and revokes
// its certificate, after which nothing it says is heard.
//
// Invariants:
//   - A host's public key belongs to one row; the same key joining again is the same host.
//   - A host has a zone, a pod and a cluster, or none of the three (Pending).
//   - Status is what the link says (written by the host link alone), ResourceState what the operator wants.
//   - The usage of a token is counted in the commit that makes the host.
package infra

import (
	"errors"
	"fmt"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Hypervisor is the one this program drives.
const Hypervisor = "KVM"

// next hands out the next number of a sequence, from 1.
func next(tx *store.Tx, name string) (uint64, error) {
	s, ok := tables.Sequences.First(tx, "name", store.K(name))
	if !ok {
		s = &cloud.Sequence{ID: cloud.NameID("sequence", name), Name: name}
	}
	s.Last++
	return s.Last, tables.Sequences.Put(tx, s)
}

// allocationState reads the parameter of that name; "" keeps the fallback.
func allocationState(text string, fallback cloud.AllocationState) (cloud.AllocationState, error) {
	switch {
	case text == "":
		return fallback, nil
	case strings.EqualFold(text, "Enabled"):
		return cloud.AllocationEnabled, nil
	case strings.EqualFold(text, "Disabled"):
		return cloud.AllocationDisabled, nil
	}
	return 0, cloud.Errorf(cloud.Invalid, "Unable to resolve Allocation State '%s' to a supported state", text)
}

// taken turns a conflict in a unique index into a refusal with the given text.
func taken(err error, format string, args ...any) error {
	var c *store.Conflict
	if errors.As(err, &c) {
		return cloud.Errorf(cloud.Invalid, format, args...)
	}
	return err
}

// first tells whether a sequence has an element.
func first[R any](t *store.Table[R], r store.Reader, index string, k store.Key) bool {
	return t.Count(r, index, k) > 0
}

// checkHypervisor accepts KVM in any case.
func checkHypervisor(name string) error {
	if !strings.EqualFold(name, Hypervisor) {
		return cloud.Errorf(cloud.Invalid, "Could not find corresponding resource manager for %s; supported: %s", name, Hypervisor)
	}
	return nil
}

func wrap(verb, noun string, id fmt.Stringer, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s %s: %w", verb, noun, id, err)
}
