package ruleset

import (
	"context"
	"errors"
	"maps"
	"slices"

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
	// untouched says that nobody had ever changed anything when this epoch began. Tables are empty then, except those that
	// are in touched: what we know of them is in read, or was and is forgotten.
	untouched bool
	touched   map[string]bool
	// together, unless nil, collects changes instead of making them.
	together *[]kernel.Change
}

// snapshot is a table as it was read. changed are the prefixes of the Sets that have changed their part since.
type snapshot struct {
	table   kernel.Table
	changed map[string]bool
	// rendered says that it was not read, but loaded into an empty table, and may be spelt differently by the kernel.
	rendered bool
}

// NewTables returns a Tables that has read nothing yet.
func NewTables(k Kernel) *Tables {
	return &Tables{k: k, read: map[string]*snapshot{}, touched: map[string]bool{}}
}

// look begins a new epoch if somebody else has changed something. counts is false where the kernel does not tell.
func (t *Tables) look() (counts bool, err error) {
	generation, counts, err := t.k.NetfilterGeneration()
	if err != nil {
		return false, err
	}
	if !counts || !t.counted || generation != t.generation {
		t.lose()
		t.untouched = counts && generation == kernel.FirstGeneration
	}
	t.generation, t.counted = generation, counts
	return counts, nil
}

// lose forgets what was read.
func (t *Tables) lose() {
	t.epoch++
	t.counted, t.untouched = false, false
	clear(t.read)
	clear(t.touched)
}

// save returns the table, read anew unless it is known to be as before for the Set.
func (t *Tables) save(ctx context.Context, s *Set) (kernel.Table, error) {
	if known := t.read[s.table]; known != nil && !known.changed[s.prefix] {
		return known.table, nil
	}
	if t.untouched && !t.touched[s.table] {
		t.touched[s.table] = true
		empty := kernel.Table{Policies: map[string]string{}, Chains: map[string][]string{}}
		t.read[s.table] = &snapshot{table: empty, changed: map[string]bool{}}
		return empty, nil
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

// spelt returns the table as the kernel spells it.
func (t *Tables) spelt(ctx context.Context, s *Set) (kernel.Table, error) {
	if known := t.read[s.table]; known != nil && known.rendered {
		delete(t.read, s.table)
	}
	return t.save(ctx, s)
}

// errCollected is what Apply returns of a Set whose change was put aside for later.
var errCollected = errors.New("collected")

// change makes a change of the Set's part.
func (t *Tables) change(ctx context.Context, s *Set, c kernel.Change) error {
	if t.together != nil {
		*t.together = append(*t.together, c)
		return errCollected
	}
	failure := t.k.ChangeChains(ctx, c)
	if !t.counted {
		return failure
	}
	done := 1
	if failure != nil {
		done = 0
	}
	if alone, err := t.moved(done); !alone {
		return errors.Join(failure, err)
	}
	if known := t.read[s.table]; known != nil && failure == nil {
		known.changed[s.prefix] = true
		known.table.Policies = maps.Clone(known.table.Policies)
		maps.Copy(known.table.Policies, c.Policies)
	}
	return failure
}

// moved says whether the generation is where that many changes of ours have moved it. Else the next look begins an epoch.
func (t *Tables) moved(changes int) (alone bool, err error) {
	want := t.generation + uint32(changes)
	generation, _, err := t.k.NetfilterGeneration()
	if err != nil || generation != want {
		t.lose()
		return false, err
	}
	t.generation = generation
	return true, nil
}

// Together loads in one step, with one program, what apply would have its Sets load in many, where nobody has ever changed
// anything: at the start of a router. Elsewhere it does nothing. The Sets are applied again afterwards, and find everything
// in place, or, after an error, do it themselves; so what apply's Sets answer is of no interest.
//
// Whoever calls it must be content with having everything at once, and before what Sets are applied between.
func (t *Tables) Together(ctx context.Context, apply func()) error {
	if _, err := t.look(); err != nil || !t.untouched || len(t.touched) > 0 {
		return err
	}
	var changes []kernel.Change
	t.together = &changes
	apply()
	t.together = nil
	if len(changes) == 0 {
		return nil
	}
	if err := t.k.ChangeChains(ctx, changes...); err != nil {
		return err // what was loaded before that has moved the generation, which the next look sees
	}
	if alone, err := t.moved(len(changes)); !alone {
		return err
	}
	for _, c := range changes {
		known := t.read[c.Table]
		known.rendered = true
		load(known.table, c)
	}
	return nil
}

// load makes a change of an empty table, or of one that only load has changed.
func load(table kernel.Table, c kernel.Change) {
	maps.Copy(table.Policies, c.Policies)
	for _, chain := range c.Load {
		table.Chains[chain.Name] = slices.Clone(chain.Rules)
	}
	for _, j := range c.Jump {
		if table.Policies[j.From] == "" {
			table.Policies[j.From] = "ACCEPT" // what has a policy is a built-in chain
		}
		table.Chains[j.From] = slices.Insert(table.Chains[j.From], 0, "-j "+j.To)
	}
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
