package store

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestSorterSorts has keys that are prefixes of each other and keys that end in
// zeros, many of each.
func TestSorterSorts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stems := rapid.SliceOfN(rapid.StringOfN(rapid.SampledFrom([]rune{0, 'a'}), 0, 10, -1), 1, 3).Draw(t, "stems")
		keys := map[string]bool{}
		for _, stem := range stems {
			tails := rapid.SliceOfN(rapid.StringOfN(rapid.SampledFrom([]rune{0, 'a', 0x7f}), 0, 20, -1), 0, 60).Draw(t, "tails")
			for _, tail := range tails {
				keys[stem+tail] = true
			}
			for n := range rapid.IntRange(0, 40).Draw(t, "zeros") {
				keys[stem+strings.Repeat("\x00", n)] = true
			}
		}
		var s sorter
		var want []string
		for k := range keys {
			s.add([]byte(k[:len(k)/2]), []byte(k[len(k)/2:]))
			want = append(want, k+"=")
		}
		slices.SortFunc(want, func(a, b string) int { return strings.Compare(a[:len(a)-1], b[:len(b)-1]) })
		got := s.tree()
		if err := got.check(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(append([]string{}, want...), got.collect("")); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

// TestBuilderBuildsLikePut compares trees of all heights, which then go on as such.
func TestBuilderBuildsLikePut(t *testing.T) {
	for _, n := range []int{0, 1, 2, 10, 50, 500, 5000, 50_000} {
		for _, l := range []layout{keysOnly, withValues} {
			b, o := builder{layout: l}, new(owner)
			put := tree{layout: l}
			for i := range n {
				id := testID(i)
				var val []byte
				if l == withValues {
					val = bytes.Repeat([]byte{byte(i)}, i%50)
				}
				b.add(id[:], val)
				put = put.put(o, string(id[:]), string(val))
			}
			built := b.tree()
			if err := built.check(); err != nil {
				t.Fatalf("%d entries: %v", n, err)
			}
			for i := range n { // change every second one
				id := testID(i)
				if i%2 == 0 {
					built, put = built.delete(o, string(id[:])), put.delete(o, string(id[:]))
				}
			}
			if err := built.check(); err != nil {
				t.Fatalf("%d entries, changed: %v", n, err)
			}
			if diff := cmp.Diff(put.collect(""), built.collect("")); diff != "" {
				t.Fatalf("%d entries (-put +built):\n%s", n, diff)
			}
		}
	}
}
