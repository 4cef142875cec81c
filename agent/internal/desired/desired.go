// Package desired turns a HostSpec that came over the wire into wants the appliers may trust.
//
// A spec is checked object by object: a hostile or nonsensical object costs only itself, never its neighbours and
// never the process. An object with a problem is not acted on, in either direction: it is neither made nor, because it
// is "missing" from the usable part, removed. What the appliers build from a spec (file paths, link names, libvirt
// XML) is built from the fields checked here, so this package is where path escapes and option injection end.
package desired

import (
	"errors"
	"fmt"
	"sort"

	"github.com/wispcloud/wisp/proto/hostspec"
)

// Kind is the sort of an object in a host spec.
type Kind uint8

// The kinds, in the order they depend on each other.
const (
	Pool Kind = iota + 1
	Image
	Volume
	Network
	VM
	SystemVM
)

func (k Kind) String() string {
	switch k {
	case Pool:
		return "pool"
	case Image:
		return "image"
	case Volume:
		return "volume"
	case Network:
		return "network"
	case VM:
		return "vm"
	case SystemVM:
		return "system vm"
	}
	return "object"
}

// Key names one object of a host.
type Key struct {
	Kind Kind
	ID   string
}

func (k Key) String() string { return k.Kind.String() + " " + k.ID }

// State is a checked spec. The messages it points to are shared and must not be changed.
type State struct {
	HostID     string
	Generation uint64
	RequestID  string

	Pools    map[string]*hostspec.StoragePool
	Images   map[string]*hostspec.Image
	Volumes  map[string]*hostspec.Volume
	Networks map[string]*hostspec.Network
	VMs      map[string]*hostspec.VirtualMachine
	// SystemVMs are appliances.
	SystemVMs map[string]*hostspec.SystemVM

	// Problems says why an object is not in the maps above.
	Problems map[Key]error
}

// Empty is the state of a host that was never given a spec: nothing is wanted and nothing may be removed.
func Empty() *State {
	return &State{
		Pools:     map[string]*hostspec.StoragePool{},
		Images:    map[string]*hostspec.Image{},
		Volumes:   map[string]*hostspec.Volume{},
		Networks:  map[string]*hostspec.Network{},
		VMs:       map[string]*hostspec.VirtualMachine{},
		SystemVMs: map[string]*hostspec.SystemVM{},
		Problems:  map[Key]error{},
	}
}

// Known says whether the spec speaks of the object, be it well or badly.
func (s *State) Known(k Key) bool {
	if _, bad := s.Problems[k]; bad {
		return true
	}
	var ok bool
	switch k.Kind {
	case Pool:
		_, ok = s.Pools[k.ID]
	case Image:
		_, ok = s.Images[k.ID]
	case Volume:
		_, ok = s.Volumes[k.ID]
	case Network:
		_, ok = s.Networks[k.ID]
	case VM:
		_, ok = s.VMs[k.ID]
	case SystemVM:
		_, ok = s.SystemVMs[k.ID]
	}
	return ok
}

// Read checks a spec. It never fails as a whole: see State.Problems.
func Read(spec *hostspec.HostSpec) *State {
	s := Empty()
	if spec == nil {
		return s
	}
	s.HostID, s.Generation, s.RequestID = spec.GetHostId(), spec.GetGeneration(), spec.GetRequestId()
	collect(s, Pool, spec.GetPools(), s.Pools, (*hostspec.StoragePool).GetId, s.checkPool)
	collect(s, Image, spec.GetImages(), s.Images, (*hostspec.Image).GetSha256, s.checkImage)
	collect(s, Volume, spec.GetVolumes(), s.Volumes, (*hostspec.Volume).GetId, s.checkVolume)
	collect(s, Network, spec.GetNetworks(), s.Networks, (*hostspec.Network).GetId, s.checkNetwork)
	collect(s, VM, spec.GetVms(), s.VMs, (*hostspec.VirtualMachine).GetId, s.checkVM)
	collect(s, SystemVM, spec.GetSystemVms(), s.SystemVMs, (*hostspec.SystemVM).GetId, s.checkSystemVM)
	s.checkNumbers()
	s.checkInstances()
	s.checkAppliances()
	return s
}

// collect files the objects of one kind under their ids. Two objects with one id contradict each other, so neither is
// trusted.
func collect[T comparable](s *State, kind Kind, list []T, into map[string]T, id func(T) string, check func(T) error) {
	var zero T
	for _, object := range list {
		if object == zero {
			continue
		}
		key := Key{kind, printable(id(object))}
		if s.Known(key) {
			delete(into, key.ID)
			s.Problems[key] = fmt.Errorf("check %s: listed twice", key)
			continue
		}
		if err := check(object); err != nil {
			s.Problems[key] = fmt.Errorf("check %s: %w", key, err)
			continue
		}
		into[key.ID] = object
	}
}

// checkNumbers refuses networks that would share link names.
func (s *State) checkNumbers() {
	owner := map[uint32]string{}
	for _, id := range sortedKeys(s.Networks) {
		number := s.Networks[id].GetNumber()
		first, taken := owner[number]
		if !taken {
			owner[number] = id
			continue
		}
		s.Problems[Key{Network, id}] = fmt.Errorf("check network %s: number %d belongs to network %s", id, number, first)
		delete(s.Networks, id)
	}
}

// checkInstances refuses VMs that would share a domain name, a disk or, within one network, a MAC address.
func (s *State) checkInstances() {
	names, macs, volumes := map[string]string{}, map[string]string{}, map[string]string{}
	for _, id := range sortedKeys(s.VMs) {
		vm := s.VMs[id]
		err := func() error {
			if first, taken := names[vm.GetInstanceName()]; taken {
				return fmt.Errorf("instance name %s belongs to vm %s", vm.GetInstanceName(), first)
			}
			for _, disk := range vm.GetDisks() {
				if first, taken := volumes[disk.GetVolumeId()]; taken {
					return fmt.Errorf("volume %s belongs to vm %s", disk.GetVolumeId(), first)
				}
			}
			for _, nic := range vm.GetNics() {
				at := nic.GetNetworkId() + " " + nic.GetMac()
				if first, taken := macs[at]; taken {
					return fmt.Errorf("address %s belongs to vm %s", nic.GetMac(), first)
				}
			}
			return nil
		}()
		if err != nil {
			s.Problems[Key{VM, id}] = fmt.Errorf("check vm %s: %w", id, err)
			delete(s.VMs, id)
			continue
		}
		names[vm.GetInstanceName()] = id
		for _, disk := range vm.GetDisks() {
			volumes[disk.GetVolumeId()] = id
		}
		for _, nic := range vm.GetNics() {
			macs[nic.GetNetworkId()+" "+nic.GetMac()] = id
		}
	}
}

func sortedKeys[T any](m map[string]T) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// permanent marks an error that trying again cannot mend.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// Permanent marks err as one that only a changed spec or an operator can mend; the object is reported as failed at
// once instead of after some tries.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanent{err}
}

// IsPermanent says whether err, or what it wraps, was marked so.
func IsPermanent(err error) bool {
	var p permanent
	return errors.As(err, &p)
}
