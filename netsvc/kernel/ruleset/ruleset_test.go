package ruleset

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/netsvc/kernel"
	"github.com/wispcloud/wisp/netsvc/kernel/fake"
)

func want(rules ...string) Want {
	return Want{
		Policies: map[string]string{"FORWARD": "DROP"},
		Jumps:    map[string]string{"FORWARD": "T-MAIN"},
		Chains:   []kernel.Chain{{Name: "T-MAIN", Rules: []string{"-j T-SUB"}}, {Name: "T-SUB", Rules: rules}},
	}
}

// reader counts how often the table is read, and may spell rules in its own way as a real kernel does.
type reader struct {
	*fake.Kernel
	reads int
	loads int
	spell func(string) string
	// foreign happens right after a change of ours.
	foreign func()
}

func (r *reader) ChangeChains(ctx context.Context, changes ...kernel.Change) error {
	r.loads++
	err := r.Kernel.ChangeChains(ctx, changes...)
	if r.foreign != nil {
		r.foreign()
		r.foreign = nil
	}
	return err
}

func (r *reader) SaveTable(ctx context.Context, name string) (kernel.Table, error) {
	r.reads++
	t, err := r.Kernel.SaveTable(ctx, name)
	if r.spell != nil {
		for chain, rules := range t.Chains {
			if !strings.HasPrefix(chain, "T-") {
				continue
			}
			for i := range rules {
				t.Chains[chain][i] = r.spell(rules[i])
			}
		}
	}
	return t, err
}

func TestQuietPassesReadNothing(t *testing.T) {
	for name, spell := range map[string]func(string) string{
		"kernel spells alike":      nil,
		"kernel spells in its way": func(s string) string { return strings.Replace(s, "-j", "--jump", 1) },
	} {
		t.Run(name, func(t *testing.T) {
			k := &reader{Kernel: fake.New(), spell: spell}
			s := New(NewTables(k), "filter", "T-")
			apply := func(w Want) {
				t.Helper()
				if err := s.Apply(t.Context(), w); err != nil {
					t.Fatal(err)
				}
			}
			apply(want("-j ACCEPT"))
			apply(want("-j ACCEPT")) // learns the spelling
			k.Journal()
			k.reads = 0
			for range 5 {
				apply(want("-j ACCEPT"))
			}
			if k.reads != 0 || len(k.Journal()) != 0 {
				t.Errorf("quiet passes read %d times", k.reads)
			}
			// Somebody else changes something else: one look, no load.
			k.Flush("filter", "OUTPUT")
			apply(want("-j ACCEPT"))
			if journal := k.Journal(); k.reads != 1 || len(journal) != 0 {
				t.Errorf("after a foreign change: %d reads, changes %q", k.reads, journal)
			}
			// A changed rule loads its chain only, and reads nothing before.
			k.reads = 0
			apply(want("-j ACCEPT", "-j DROP"))
			if journal := k.Journal(); k.reads != 0 || !cmp.Equal(journal, []string{"load filter T-SUB"}) {
				t.Errorf("after a changed rule: %d reads, changes %q", k.reads, journal)
			}
			if s.Repairs() != 0 {
				t.Errorf("%d repairs", s.Repairs())
			}
			apply(want("-j ACCEPT", "-j DROP"))
			k.Flush("filter", "T-SUB")
			apply(want("-j ACCEPT", "-j DROP"))
			if journal := k.Journal(); !cmp.Equal(journal, []string{"load filter T-SUB"}) || s.Repairs() != 1 {
				t.Errorf("after a flush: changes %q, %d repairs", journal, s.Repairs())
			}
		})
	}
}

// TestSetsShareWhatWasRead: services that come one after the other read a table once, although each changes it.
func TestSetsShareWhatWasRead(t *testing.T) {
	k := &reader{Kernel: fake.New()}
	k.Flush("nat", "OUTPUT") // somebody was here before, so tables must be read
	tables := NewTables(k)
	one, two := New(tables, "nat", "T-"), New(tables, "nat", "U-")
	filter := New(tables, "filter", "T-")
	theirs := Want{Jumps: map[string]string{"POSTROUTING": "U-A"}, Chains: []kernel.Chain{{Name: "U-A", Rules: []string{"-j ACCEPT"}}}}
	ours := Want{Jumps: map[string]string{"POSTROUTING": "T-A"}, Chains: []kernel.Chain{{Name: "T-A", Rules: []string{"-j ACCEPT"}}}}
	pass := func(name string, reads int) {
		t.Helper()
		k.reads = 0
		if current, err := filter.Current(t.Context(), want("-j ACCEPT")); err != nil || current != (name != "first") {
			t.Errorf("%s: current is %v, %v", name, current, err)
		}
		for _, err := range []error{
			filter.Apply(t.Context(), want("-j DROP")), one.Apply(t.Context(), ours), two.Apply(t.Context(), theirs),
			filter.Apply(t.Context(), want("-j ACCEPT")),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if k.reads != reads {
			t.Errorf("%s: %d reads, want %d", name, k.reads, reads)
		}
	}
	pass("first", 2)
	pass("second", 1) // nat, to learn the spelling; filter was changed again
	pass("third", 0)
	if tables.read["nat"] != nil {
		t.Error("a table that nobody needs is kept")
	}
	// A stranger flushes both: one read for both, and both are repaired.
	k.Flush("nat", "T-A")
	k.Flush("nat", "U-A")
	k.Journal()
	k.reads = 0
	for _, err := range []error{one.Apply(t.Context(), ours), two.Apply(t.Context(), theirs)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"load nat T-A", "load nat U-A"}, k.Journal()); diff != "" || k.reads != 1 {
		t.Errorf("after a flush: %d reads (-want +got):\n%s", k.reads, diff)
	}
}

// TestForeignChangeBesideOurs: what somebody else does between a change of ours and the look at the generation is not
// taken for ours.
func TestForeignChangeBesideOurs(t *testing.T) {
	for _, fails := range []bool{false, true} {
		k := &reader{Kernel: fake.New()}
		tables := NewTables(k)
		one, two := New(tables, "filter", "T-"), New(tables, "filter", "U-")
		theirs := Want{Chains: []kernel.Chain{{Name: "U-A", Rules: []string{"-j ACCEPT"}}}}
		apply := func() error {
			return errors.Join(one.Apply(t.Context(), want("-j ACCEPT")), two.Apply(t.Context(), theirs))
		}
		if err := apply(); err != nil {
			t.Fatal(err)
		}
		k.foreign = func() { k.Flush("filter", "U-A"); k.Flush("filter", "T-MAIN") }
		if fails {
			k.FailOn("load", errors.New("no memory"))
		}
		if err := one.Apply(t.Context(), want("-j DROP")); (err != nil) != fails {
			t.Fatal(err)
		}
		k.FailOn("", nil)
		if err := apply(); err != nil {
			t.Fatal(err)
		}
		table, err := k.SaveTable(t.Context(), "filter")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string][]string{
			"INPUT": nil, "OUTPUT": nil, "FORWARD": {"-j T-MAIN"}, "T-MAIN": {"-j T-SUB"}, "T-SUB": {"-j ACCEPT"}, "U-A": {"-j ACCEPT"},
		}, table.Chains); diff != "" {
			t.Errorf("fails is %v (-want +got):\n%s", fails, diff)
		}
	}
}

// TestFlushBeforeTheSpellingIsLearnt: a chain emptied right after its load is not taken for what was wanted.
func TestFlushBeforeTheSpellingIsLearnt(t *testing.T) {
	k := fake.New()
	s := New(NewTables(k), "filter", "T-")
	if err := s.Apply(t.Context(), want("-j ACCEPT")); err != nil {
		t.Fatal(err)
	}
	k.Flush("filter", "T-SUB")
	s.tables.generation++ // as if the flush had come between the load and the look at the generation
	for range 2 {
		if err := s.Apply(t.Context(), want("-j ACCEPT")); err != nil {
			t.Fatal(err)
		}
	}
	table, err := k.SaveTable(t.Context(), "filter")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"-j ACCEPT"}, table.Chains["T-SUB"]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFailureIsTriedAgain(t *testing.T) {
	broken := errors.New("no memory")
	for _, op := range []string{"load", "jump"} {
		k := fake.New()
		s := New(NewTables(k), "filter", "T-")
		k.FailOn(op, broken)
		if err := s.Apply(t.Context(), want("-j ACCEPT")); !errors.Is(err, broken) {
			t.Errorf("%s: error %v", op, err)
		}
		k.FailOn("", nil)
		if err := s.Apply(t.Context(), want("-j ACCEPT")); err != nil {
			t.Errorf("%s: again: %v", op, err)
		}
		if current, err := s.Current(t.Context(), want("-j ACCEPT")); err != nil || !current {
			t.Errorf("%s: after the second try current is %v, %v", op, current, err)
		}
		if s.Repairs() != 0 {
			t.Errorf("%s: a retry was counted as repair", op)
		}
	}
}

func TestChainsOfOthersAreLeftAlone(t *testing.T) {
	k := fake.New()
	other := New(NewTables(k), "filter", "OTHER-")
	theirs := Want{Jumps: map[string]string{"FORWARD": "OTHER-A"}, Chains: []kernel.Chain{{Name: "OTHER-A", Rules: []string{"-j ACCEPT"}}}}
	if err := other.Apply(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	s := New(NewTables(k), "filter", "T-")
	for _, w := range []Want{want("-j ACCEPT"), {Policies: map[string]string{"FORWARD": "ACCEPT"}}} {
		if err := s.Apply(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		if current, err := other.Current(t.Context(), theirs); err != nil || !current {
			t.Errorf("the other's chains: %v, %v", current, err)
		}
	}
}

// TestJumpsMove: a jump to another chain replaces the old one in one step with the chains, whether what was there before is
// known or read, and however often it is there.
func TestJumpsMove(t *testing.T) {
	moved := Want{Jumps: map[string]string{"INPUT": "T-NEW"}, Chains: []kernel.Chain{{Name: "T-NEW", Rules: []string{"-j DROP"}}}}
	for _, known := range []bool{true, false} {
		k := fake.New()
		s := New(NewTables(k), "filter", "T-")
		if err := s.Apply(t.Context(), want("-j ACCEPT")); err != nil {
			t.Fatal(err)
		}
		unjumps := []string{"unjump filter FORWARD T-MAIN"}
		if !known {
			again := kernel.Change{Table: "filter", Jump: []kernel.Jump{{From: "FORWARD", To: "T-MAIN"}}}
			if err := k.ChangeChains(t.Context(), again); err != nil {
				t.Fatal(err)
			}
			unjumps = append(unjumps, unjumps...)
		}
		k.Journal()
		before, _, _ := k.NetfilterGeneration()
		if err := s.Apply(t.Context(), moved); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(append(unjumps, "load filter T-NEW", "jump filter INPUT T-NEW"), k.Journal()); diff != "" {
			t.Errorf("known is %v (-want +got):\n%s", known, diff)
		}
		if after, _, _ := k.NetfilterGeneration(); after != before+1 {
			t.Errorf("known is %v: %d steps", known, after-before)
		}
	}
}

func TestForgetLoadsOnce(t *testing.T) {
	k := fake.New()
	s := New(NewTables(k), "filter", "T-")
	for _, step := range []struct {
		name   string
		forget bool
		want   []string
	}{
		{"first", false, []string{"load filter T-MAIN T-SUB", "jump filter FORWARD T-MAIN"}},
		{"second", false, nil},
		{"forgotten", true, []string{"load filter T-MAIN T-SUB"}},
		{"after it", false, nil},
	} {
		if step.forget {
			s.Forget()
		}
		if err := s.Apply(t.Context(), want("-j ACCEPT")); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(step.want, k.Journal()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
	}
	if s.Repairs() != 0 {
		t.Errorf("%d repairs", s.Repairs())
	}
}
