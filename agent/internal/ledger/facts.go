package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
)

// Cause is why a VM does not run.
type Cause string

// The causes; the empty one is that of a VM that runs or never ran.
const (
	CauseWanted  Cause = "wanted"
	CauseGuest   Cause = "guest"
	CauseCrashed Cause = "crashed"
)

// VMFacts is what the agent must remember of a VM because the hypervisor forgets it.
type VMFacts struct {
	// The start and boot epoch the VM last reached.
	StartEpoch uint64 `json:"start_epoch"`
	BootEpoch  uint64 `json:"boot_epoch"`
	// Why it does not run; empty while it runs.
	Cause Cause `json:"cause,omitempty"`
	// Asked is set before the guest is asked to go down, so that its going is not taken for its own wish, even when
	// the agent dies in between: "stop" or "reboot".
	Asked string `json:"asked,omitempty"`
	// How often the agent started it again by itself.
	Restarts uint32 `json:"restarts,omitempty"`
	// Boot of the host it was last seen running in; empty when it is known not to run.
	HostBoot string `json:"host_boot,omitempty"`
}

// VolumeFacts says that this agent made a volume, and where: only such files are ever deleted.
type VolumeFacts struct {
	PoolID string `json:"pool_id"`
	Path   string `json:"path"`
	// Done is set once the file is in place: a file that is missing afterwards is lost, and not made anew.
	Done bool `json:"done"`
}

// Facts is a set of small records by id, one file each.
type Facts[T comparable] struct {
	files Files
	dir   string
	mu    sync.Mutex
	cache map[string]T
}

// OpenFacts reads all records of a directory. Unreadable ones are dropped and named in warnings: every fact has a
// safe default (ask the hypervisor, keep the file).
func OpenFacts[T comparable](files Files, dir string) (f *Facts[T], warnings []string, err error) {
	f = &Facts[T]{files: files, dir: dir, cache: map[string]T{}}
	names, err := files.List(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("open facts %s: %w", dir, err)
	}
	for _, name := range names {
		id, ok := strings.CutSuffix(name, ".json")
		if !ok {
			continue
		}
		data, err := files.Read(path.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("open facts %s: %w", dir, err)
		}
		var v T
		if err := json.Unmarshal(data, &v); err != nil {
			warnings = append(warnings, fmt.Sprintf("facts %s/%s are damaged and dropped: %v", dir, name, err))
			continue
		}
		f.cache[id] = v
	}
	return f, warnings, nil
}

// Get returns the record of id, if there is one.
func (f *Facts[T]) Get(id string) (T, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v, ok := f.cache[id]
	return v, ok
}

// Put writes the record; an equal one costs nothing.
func (f *Facts[T]) Put(id string, v T) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if old, ok := f.cache[id]; ok && old == v {
		return nil
	}
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("put facts of %s: %w", id, err)
	}
	if err := f.files.Replace(path.Join(f.dir, id+".json"), "", data); err != nil {
		return fmt.Errorf("put facts of %s: %w", id, err)
	}
	f.cache[id] = v
	return nil
}

// Delete forgets id.
func (f *Facts[T]) Delete(id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.cache[id]; !ok {
		return nil
	}
	if err := f.files.Remove(path.Join(f.dir, id+".json")); err != nil {
		return fmt.Errorf("delete facts of %s: %w", id, err)
	}
	delete(f.cache, id)
	return nil
}

// All returns a copy of every record.
func (f *Facts[T]) All() map[string]T {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make(map[string]T, len(f.cache))
	for id, v := range f.cache {
		all[id] = v
	}
	return all
}
