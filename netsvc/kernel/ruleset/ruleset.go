// Package ruleset makes the chains of one service in one netfilter table true: chains whose names begin with the
// service's prefix, the jumps into them, and policies of built-in chains.
//
// Only chains that differ are loaded, all of them in one atomic step, so a service may render everything it wants each
// time. Reading back is cheap: the kernel counts changes of its rules (nf_tables generation), and while the count stands
// where this package left it nothing is read at all. When somebody else has moved it, the table is read once, for all
// services that have chains in it, and each chain compared with what the kernel showed after the load; a difference is
// repaired. Where the count stands at its beginning nobody has ever made a rule: the tables are known to be empty, and
// Tables.Together loads what all services want in one step.
//
// What the kernel shows may be spelt differently from what was loaded, so the text to compare with is taken from the
// kernel itself, in the first quiet pass after a load. Until then, and after a restart, the rendered text is compared:
// services spell their rules as iptables-save does, so a successor finds its predecessor's chains unchanged and loads
// nothing.
package ruleset

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/wispcloud/wisp/netsvc/kernel"
)

// Kernel is what this package needs of the kernel.
type Kernel interface {
	ChangeChains(ctx context.Context, changes ...kernel.Change) error
	SaveTable(ctx context.Context, table string) (kernel.Table, error)
	NetfilterGeneration() (generation uint32, ok bool, err error)
}

// Want is everything a service wants in the table. The zero value removes its chains and jumps.
type Want struct {
	// Policies of built-in chains.
	Policies map[string]string
	// Jumps from built-in chains, by their name, to chains of the service.
	Jumps  map[string]string
	Chains []kernel.Chain
}

// Set is one service's part of one table. It is for one goroutine.
type Set struct {
	tables        *Tables
	table, prefix string
	drift         kernel.Drift

	want Want
	text string // of want
	// loaded is what each chain should read as; seen says that the text is the kernel's own.
	loaded map[string][]string
	seen   bool
	// epoch of the tables in which the table was as wanted; valid while counted.
	epoch   uint64
	counted bool
	// forgotten makes the next pass load everything.
	forgotten bool
	// idle counts passes since the last look where the kernel does not count changes.
	idle int
}

// legacyPeriod is after how many passes a table is read where the kernel does not count changes.
const legacyPeriod = 4

// New returns a Set for chains whose names begin with prefix; no other service's may.
func New(t *Tables, table, prefix string) *Set {
	s := &Set{tables: t, table: table, prefix: prefix}
	t.sets = append(t.sets, s)
	return s
}

// Repairs counts drift mended since start.
func (s *Set) Repairs() uint64 { return s.drift.Repairs() }

// Forget makes the next Apply load all chains, whatever the kernel holds.
func (s *Set) Forget() {
	s.counted, s.forgotten = false, true
}

// Apply makes want true. Want's slices and maps are kept.
func (s *Set) Apply(ctx context.Context, want Want) error {
	text := fmt.Sprint(want)
	counts, err := s.tables.look()
	if err != nil {
		return err
	}
	if text == s.text && s.quiet(counts) {
		return s.learn(ctx, counts)
	}
	forgotten := s.forgotten
	changes, err := s.apply(ctx, want, counts)
	if forgotten {
		changes = 0 // asked for, not repaired
	}
	s.drift.Pass(text, changes, err)
	if err != nil {
		s.counted = false // look again
		return err
	}
	s.want, s.text = want, text
	return nil
}

// quiet says whether nothing can have changed since the last pass.
func (s *Set) quiet(counts bool) bool {
	if counts {
		return s.current()
	}
	s.idle++
	return s.counted && s.idle < legacyPeriod
}

// current says whether the table is as the last pass has left it.
func (s *Set) current() bool { return s.counted && s.epoch == s.tables.epoch }

// learn takes the kernel's spelling of the chains, once after a load.
func (s *Set) learn(ctx context.Context, counts bool) error {
	if s.seen {
		return nil
	}
	if len(s.want.Chains) > 0 {
		have, err := s.tables.spelt(ctx, s)
		if err != nil || counts && !s.current() {
			return err // somebody is at work: the next pass looks
		}
		for _, chain := range s.want.Chains {
			// The spelling may differ, the number of rules cannot: then somebody was faster than this pass.
			if len(have.Chains[chain.Name]) != len(chain.Rules) {
				s.tables.lose()
				s.counted = false
				return nil
			}
			s.loaded[chain.Name] = have.Chains[chain.Name]
		}
	}
	s.seen = true
	s.tables.release(s.table)
	return nil
}

// Current says whether the kernel already is as wanted, so that Apply would change nothing.
func (s *Set) Current(ctx context.Context, want Want) (bool, error) {
	counts, err := s.tables.look()
	if err != nil {
		return false, err
	}
	if fmt.Sprint(want) == s.text && counts && s.current() {
		return true, nil
	}
	have, err := s.tables.save(ctx, s)
	if err != nil {
		return false, err
	}
	change, _ := s.diff(want, have, false)
	return change.Empty(), nil
}

func (s *Set) apply(ctx context.Context, want Want, counts bool) (changes int, err error) {
	// Where nothing moved since the last pass, what the last pass left is what is there.
	known := counts && s.current()
	epoch := s.tables.epoch
	var have kernel.Table
	if !known {
		if have, err = s.tables.save(ctx, s); err != nil {
			return 0, err
		}
	}
	change, loaded := s.diff(want, have, known)
	if changes = change.Size(); changes > 0 {
		if err := s.tables.change(ctx, s, change); err != nil {
			return changes, err
		}
		s.seen = false
	}
	s.loaded, s.idle, s.forgotten = loaded, 0, false
	// If somebody else was at work meanwhile, that epoch is over and the next pass looks again.
	s.counted, s.epoch = true, epoch
	return changes, nil
}

// diff says what to load and remove, and what the chains should read as afterwards.
func (s *Set) diff(want Want, have kernel.Table, known bool) (kernel.Change, map[string][]string) {
	c := kernel.Change{
		Table: s.table, Policies: map[string]string{},
		Unjump: s.staleJumps(want, have, known), Jump: s.missingJumps(want, have, known),
	}
	loaded := map[string][]string{}
	for builtin, policy := range want.Policies {
		now := have.Policies[builtin]
		if known {
			now = s.want.Policies[builtin]
		}
		if now == "" {
			now = "ACCEPT" // an unused table shows none
		}
		if now != policy {
			c.Policies[builtin] = policy
		}
	}
	before := map[string][]string{}
	for _, chain := range s.want.Chains {
		before[chain.Name] = chain.Rules
	}
	for _, chain := range want.Chains {
		old, was := before[chain.Name]
		same := was && slices.Equal(old, chain.Rules)
		expected := chain.Rules
		if same && s.loaded[chain.Name] != nil {
			expected = s.loaded[chain.Name]
		}
		there := known && same
		if !known && !s.forgotten {
			rules, exists := have.Chains[chain.Name]
			there = exists && slices.Equal(rules, expected)
		}
		if !there {
			c.Load = append(c.Load, chain)
			expected = chain.Rules
		}
		loaded[chain.Name] = expected
	}
	names := maps.Keys(have.Chains)
	if known {
		names = maps.Keys(s.loaded)
	}
	for _, name := range slices.Sorted(names) {
		if _, wanted := loaded[name]; !wanted && strings.HasPrefix(name, s.prefix) {
			c.Remove = append(c.Remove, name)
		}
	}
	return c, loaded
}

// staleJumps are jumps to the service's chains that are not wanted.
func (s *Set) staleJumps(want Want, have kernel.Table, known bool) []kernel.Jump {
	var stale []kernel.Jump
	if known {
		for _, from := range slices.Sorted(maps.Keys(s.want.Jumps)) {
			if to := s.want.Jumps[from]; want.Jumps[from] != to {
				stale = append(stale, kernel.Jump{From: from, To: to})
			}
		}
		return stale
	}
	for _, from := range slices.Sorted(maps.Keys(have.Policies)) {
		for _, rule := range have.Chains[from] {
			to, ok := strings.CutPrefix(rule, "-j ")
			if ok && strings.HasPrefix(to, s.prefix) && want.Jumps[from] != to {
				stale = append(stale, kernel.Jump{From: from, To: to})
			}
		}
	}
	return stale
}

func (s *Set) missingJumps(want Want, have kernel.Table, known bool) []kernel.Jump {
	var missing []kernel.Jump
	for _, from := range slices.Sorted(maps.Keys(want.Jumps)) {
		to := want.Jumps[from]
		there := known && s.want.Jumps[from] == to ||
			!known && slices.Contains(have.Chains[from], "-j "+to)
		if !there {
			missing = append(missing, kernel.Jump{From: from, To: to})
		}
	}
	return missing
}
