package ruleset

import (
	"context"
	"maps"

	"github.com/wispcloud/wisp/netsvc/kernel"
)

// Tables is what the Sets of one namespace know together of its tables. It tells their own changes from those of
// others: every transaction moves the kernel's generation by one, so a change that has moved it by one was alone. What
// one Set has read is then still true for the others, who look at their own chains and jumps only. It is for one
// goroutine.
type Tables struct {
	k    Kernel
	sets []*Set
	// generation that our last look or change has left; valid while counted.
	generation uint32
	counted    bool
	// epoch rises whenever somebody else may have changed something.
	epoch uint64
	// read are tables as they were read in this epoch.
	read map[string]*snapshot
}

// snapshot is a table as it was read. changed are the prefixes of the Sets that have changed their part since.
type snapshot struct {
	table   kernel.Table
	changed map[string]bool
}

// NewTables returns a Tables that has read nothing yet.
func NewTables(k Kernel) *Tables {
	return &Tables{k: k, read: map[string]*snapshot{}}
}

// look begins a new epoch if somebody else has changed something. counts is false where the kernel does not tell.
func (t *Tables) look() (counts bool, err error) {
	generation, counts, err := t.k.NetfilterGeneration()
	if err != nil {
		return false, err
	}
	if !counts || !t.counted || generation != t.generation {
		t.lose()
	}
	t.generation, t.counted = generation, counts
	return counts, nil
}

// lose forgets what was read.
func (t *Tables) lose() {
	t.epoch++
	t.counted = false
	clear(t.read)
}

// save returns the table, read anew unless it is known to be as before for the Set.
func (t *Tables) save(ctx context.Context, s *Set) (kernel.Table, error) {
	if known := t.read[s.table]; known != nil && !known.changed[s.prefix] {
		return known.table, nil
	}
	table, err := t.k.SaveTable(ctx, s.table)
	if err != nil {
		return kernel.Table{}, err
	}
	// Somebody may have been at work meanwhile.
	epoch := t.epoch
	if counts, err := t.look(); err != nil || !counts || t.epoch != epoch {
		return table, err
	}
	t.read[s.table] = &snapshot{table: table, changed: map[string]bool{}}
	return table, nil
}

// change makes a change of the Set's part.
func (t *Tables) change(ctx context.Context, s *Set, c kernel.Change) error {
	failure := t.k.ChangeChains(ctx, c)
	if !t.counted {
		return failure
	}
	want := t.generation
	if failure == nil {
		want++
	}
	generation, _, err := t.k.NetfilterGeneration()
	if err != nil || generation != want {
		t.lose() // the next look begins an epoch
		if failure != nil {
			return failure
		}
		return err
	}
	t.generation = generation
	if known := t.read[s.table]; known != nil && failure == nil {
		known.changed[s.prefix] = true
		known.table.Policies = maps.Clone(known.table.Policies)
		maps.Copy(known.table.Policies, c.Policies)
	}
	return failure
}

// release drops what was read of a table as soon as none of its Sets needs it: it may be large.
func (t *Tables) release(table string) {
	for _, s := range t.sets {
		if s.table == table && !(s.seen && s.counted && s.epoch == t.epoch) {
			return
		}
	}
	delete(t.read, table)
}
