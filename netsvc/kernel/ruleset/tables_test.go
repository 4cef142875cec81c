package ruleset

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/netsvc/kernel"
	"github.com/wispcloud/wisp/netsvc/kernel/fake"
)

// router is three Sets in two tables, as a router has them.
type router struct {
	*reader
	tables *Tables
	apply  func() error
}

func newRouter(t *testing.T, k *fake.Kernel) *router {
	r := &router{reader: &reader{Kernel: k}}
	r.tables = NewTables(r)
	filter, one, two := New(r.tables, "filter", "T-"), New(r.tables, "nat", "T-"), New(r.tables, "nat", "U-")
	nat := func(prefix string) Want {
		return Want{Jumps: map[string]string{"POSTROUTING": prefix + "A"}, Chains: []kernel.Chain{{Name: prefix + "A", Rules: []string{"-j ACCEPT"}}}}
	}
	r.apply = func() error {
		return errors.Join(one.Apply(t.Context(), nat("T-")), two.Apply(t.Context(), nat("U-")), filter.Apply(t.Context(), want("-j ACCEPT")))
	}
	return r
}

func (r *router) together(t *testing.T) error {
	return r.tables.Together(t.Context(), func() { _ = r.apply() })
}

var routerJournal = []string{
	"load nat T-A", "jump nat POSTROUTING T-A", "load nat U-A", "jump nat POSTROUTING U-A",
	"load filter T-MAIN T-SUB", "jump filter FORWARD T-MAIN",
}

// TestTogether: in a namespace nobody has touched, everything is loaded by one program, and nothing is read.
func TestTogether(t *testing.T) {
	r := newRouter(t, fake.New())
	if err := r.together(t); err != nil {
		t.Fatal(err)
	}
	for _, reads := range []int{0, 2} { // the second pass learns the spelling
		if err := r.apply(); err != nil {
			t.Fatal(err)
		}
		if r.reads != reads || r.loads != 1 {
			t.Errorf("%d reads, %d loads, want %d and one", r.reads, r.loads, reads)
		}
	}
	if diff := cmp.Diff(routerJournal, r.Journal()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for range 3 {
		if err := errors.Join(r.together(t), r.apply()); err != nil {
			t.Fatal(err)
		}
	}
	if r.reads != 2 || r.loads != 1 {
		t.Errorf("after quiet passes: %d reads, %d loads", r.reads, r.loads)
	}
}

// TestTogetherOnlyAtTheStart: where somebody has been at work before, it loads nothing, and what is there is read.
func TestTogetherOnlyAtTheStart(t *testing.T) {
	k := fake.New()
	k.Flush("nat", "OUTPUT")
	r := newRouter(t, k)
	if err := r.together(t); err != nil || r.loads != 0 {
		t.Errorf("%d loads, %v", r.loads, err)
	}
	if err := r.apply(); err != nil || r.loads != 3 || r.reads != 2 {
		t.Errorf("%d loads, %d reads, %v", r.loads, r.reads, err)
	}
	// A successor finds everything as it is.
	r = newRouter(t, k)
	if err := errors.Join(r.together(t), r.apply()); err != nil || r.loads != 0 || r.reads != 2 {
		t.Errorf("the successor: %d loads, %d reads, %v", r.loads, r.reads, err)
	}
}

// TestTogetherFails: after an error, or beside a stranger, each Set looks for itself and does its part.
func TestTogetherFails(t *testing.T) {
	for name, spoil := range map[string]func(*router){
		"nothing is loaded":     func(r *router) { r.FailOn("load nat T-A", errors.New("no memory")) },
		"half of it is loaded":  func(r *router) { r.FailOn("load filter", errors.New("no memory")) },
		"a stranger is at work": func(r *router) { r.foreign = func() { r.Flush("nat", "U-A") } },
	} {
		t.Run(name, func(t *testing.T) {
			k := fake.New()
			r := newRouter(t, k)
			spoil(r)
			if err := r.together(t); (err == nil) != (r.foreign == nil && name == "a stranger is at work") {
				t.Errorf("error %v", err)
			}
			r.FailOn("", nil)
			if err := r.apply(); err != nil {
				t.Fatal(err)
			}
			for table, want := range map[string]map[string][]string{
				"filter": {"INPUT": nil, "OUTPUT": nil, "FORWARD": {"-j T-MAIN"}, "T-MAIN": {"-j T-SUB"}, "T-SUB": {"-j ACCEPT"}},
				"nat": {
					"PREROUTING": nil, "INPUT": nil, "OUTPUT": nil, "POSTROUTING": {"-j U-A", "-j T-A"},
					"T-A": {"-j ACCEPT"}, "U-A": {"-j ACCEPT"},
				},
			} {
				have, err := k.SaveTable(t.Context(), table)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, have.Chains); diff != "" {
					t.Errorf("%s (-want +got):\n%s", table, diff)
				}
			}
			for _, s := range r.tables.sets {
				if s.Repairs() != 0 {
					t.Errorf("%s %s counts %d repairs", s.table, s.prefix, s.Repairs())
				}
			}
		})
	}
}

// TestForgottenTableIsRead: a table that was known to be empty and has been released is not taken for empty again.
func TestForgottenTableIsRead(t *testing.T) {
	r := newRouter(t, fake.New())
	for range 3 {
		if err := r.apply(); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range r.tables.sets {
		s.Forget()
	}
	r.Journal()
	if err := r.apply(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"load nat T-A", "load nat U-A", "load filter T-MAIN T-SUB"}, r.Journal()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
