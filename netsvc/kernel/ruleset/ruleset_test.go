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
	spell func(string) string
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
			s := New(k, "filter", "T-")
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

// TestFlushBeforeTheSpellingIsLearnt: a chain emptied right after its load is not taken for what was wanted.
func TestFlushBeforeTheSpellingIsLearnt(t *testing.T) {
	k := fake.New()
	s := New(k, "filter", "T-")
	if err := s.Apply(t.Context(), want("-j ACCEPT")); err != nil {
		t.Fatal(err)
	}
	k.Flush("filter", "T-SUB")
	s.generation++ // as if the flush had come between the load and the look at the generation
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
		s := New(k, "filter", "T-")
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
	other := New(k, "filter", "OTHER-")
	theirs := Want{Jumps: map[string]string{"FORWARD": "OTHER-A"}, Chains: []kernel.Chain{{Name: "OTHER-A", Rules: []string{"-j ACCEPT"}}}}
	if err := other.Apply(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	s := New(k, "filter", "T-")
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
		s := New(k, "filter", "T-")
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
	s := New(k, "filter", "T-")
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
