package store

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// check verifies what tree promises beyond its content: order, separators,
// counts, equal heights.
func (t tree) check() error {
	if t.root == nil {
		if n := t.layout.count(t.single); n != t.n {
			return fmt.Errorf("%d entries, but a count of %d", n, t.n)
		}
		return nil
	}
	n, _, err := t.root.check(t.layout, "", "")
	if err == nil && n != t.n {
		return fmt.Errorf("%d entries, but a count of %d", n, t.n)
	}
	return err
}

func (b *branch) check(l layout, low, high string) (n, height int, err error) {
	if b.seps.len() != b.len()-1 || max(len(b.pages), len(b.kids)) != b.len() || b.len() > maxKids {
		return 0, 0, fmt.Errorf("branch of %d children has %d separators, %d pages, %d kids", b.len(), b.seps.len(), len(b.pages), len(b.kids))
	}
	for i := range b.len() {
		from, to := low, high
		if i > 0 {
			from = b.seps.at(i - 1)
		}
		if i < b.seps.len() {
			to = b.seps.at(i)
		}
		var m, h int
		if b.kids != nil {
			if m, h, err = b.kids[i].check(l, from, to); err != nil {
				return 0, 0, err
			}
			h++
		} else {
			w := walk{layout: l, f: func(k []byte, _ string) bool {
				m++
				if string(k) < from || (to != "" && string(k) >= to) {
					err = fmt.Errorf("key %q is not from %q to %q", k, from, to)
				}
				return err == nil
			}}
			if w.page(b.pages[i], ""); err != nil {
				return 0, 0, err
			}
		}
		if m != int(b.counts[i]) {
			return 0, 0, fmt.Errorf("child has %d entries, but a count of %d", m, b.counts[i])
		}
		if i > 0 && h != height {
			return 0, 0, fmt.Errorf("heights differ")
		}
		n, height = n+m, h
	}
	return n, height, nil
}

func (t tree) collect(from string) []string {
	out := []string{}
	t.ascend(from, func(k []byte, v string) bool {
		out = append(out, string(k)+"="+v)
		return true
	})
	return out
}

func TestTreeIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := layout(rapid.Bool().Draw(t, "values"))
		tr, o := tree{layout: l}, new(owner)
		model := map[string]string{}
		// Few letters make for long common prefixes and for hits.
		keyGen := rapid.Custom(func(t *rapid.T) string {
			return strings.Repeat(rapid.SampledFrom([]string{"", "p", "q"}).Draw(t, "p"), rapid.SampledFrom([]int{0, 1, 100, 200}).Draw(t, "n")) +
				rapid.StringOfN(rapid.SampledFrom([]rune{'a', 'b', 0, 0x7f}), 0, 12, -1).Draw(t, "key")
		})
		valGen := rapid.Custom(func(t *rapid.T) string {
			n := rapid.SampledFrom([]int{0, 1, 100, 600, 5000}).Draw(t, "size")
			if l == keysOnly {
				n = 0
			}
			return strings.Repeat("v", n)
		})
		type old struct {
			tree
			content []string
		}
		var kept []old
		list := func() []string {
			out := []string{}
			for _, k := range slices.Sorted(maps.Keys(model)) {
				out = append(out, k+"="+model[k])
			}
			return out
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				k, v := keyGen.Draw(t, "k"), valGen.Draw(t, "v")
				tr, model[k] = tr.put(o, k, v), v
			},
			"put many": func(t *rapid.T) {
				base := keyGen.Draw(t, "base")
				for i := range 100 {
					k := fmt.Sprintf("%s%03d", base, i)
					v := valGen.Draw(t, "v")
					tr, model[k] = tr.put(o, k, v), v
				}
			},
			"delete": func(t *rapid.T) {
				k := keyGen.Draw(t, "k")
				tr = tr.delete(o, k)
				delete(model, k)
			},
			"delete many": func(t *rapid.T) {
				keys := slices.Sorted(maps.Keys(model))
				if len(keys) == 0 {
					return
				}
				from := rapid.IntRange(0, len(keys)-1).Draw(t, "from")
				step := rapid.IntRange(1, 4).Draw(t, "step")
				for i := from; i < len(keys); i += step {
					tr = tr.delete(o, keys[i])
					delete(model, keys[i])
				}
			},
			"keep": func(*rapid.T) {
				kept = append(kept, old{tr, list()})
				o = new(owner)
			},
			"rank and skip": func(t *rapid.T) {
				k := keyGen.Draw(t, "k")
				keys := slices.Sorted(maps.Keys(model))
				want := sort.SearchStrings(keys, k)
				if got := tr.rank(k); got != want {
					t.Fatalf("rank %q: %d, want %d", k, got, want)
				}
				if diff := cmp.Diff(list()[want:], tr.collect(k)); diff != "" {
					t.Fatalf("from %q (-want +got):\n%s", k, diff)
				}
				skipped := []string{}
				tr.skip(want, func(k []byte, v string) bool {
					skipped = append(skipped, string(k)+"="+v)
					return true
				})
				if diff := cmp.Diff(list()[want:], skipped); diff != "" {
					t.Fatalf("skip %d (-want +got):\n%s", want, diff)
				}
			},
			"": func(t *rapid.T) {
				if err := tr.check(); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(list(), tr.collect("")); diff != "" {
					t.Fatalf("content (-want +got):\n%s", diff)
				}
				for k, v := range model {
					if got, ok := tr.get(k); !ok || got != v {
						t.Fatalf("get %q: %q, %v", k, got, ok)
					}
				}
			},
		})
		for _, o := range kept {
			if diff := cmp.Diff(o.content, o.collect("")); diff != "" {
				t.Fatalf("an old tree has changed (-want +got):\n%s", diff)
			}
		}
	})
}
