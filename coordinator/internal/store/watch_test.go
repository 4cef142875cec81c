package store

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func woken(w *Watch) bool {
	select {
	case <-w.C():
		return true
	default:
		return false
	}
}

func TestWatch(t *testing.T) {
	things := newThings()
	type otherRow = thing
	others := Define(Def[otherRow]{Name: "others", ID: things.def.ID})
	db := NewDB(things, others)
	one, both := db.Watch(things), db.Watch()
	put := func(table *Table[thing], from, to int) {
		t.Helper()
		must(t, commit(t, db, func(tx *Tx) error {
			for n := from; n <= to; n++ {
				if err := table.Put(tx, &thing{ID: testID(n), Owner: testID(n)}); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	check := func(name string, w *Watch, wake bool, wantOK bool, want ...Touched) {
		t.Helper()
		if got := woken(w); got != wake {
			t.Errorf("%s: woken: %v", name, got)
		}
		rows, ok := w.Touched()
		slices.SortFunc(rows, func(a, b Touched) int { return bytes.Compare(a.ID[:], b.ID[:]) })
		if diff := cmp.Diff(append([]Touched{}, want...), append([]Touched{}, rows...)); diff != "" || ok != wantOK {
			t.Errorf("%s: ok %v (-want +got):\n%s", name, ok, diff)
		}
	}
	check("at first", one, false, true)
	put(things, 1, 2)
	put(things, 1, 1) // nothing changes
	put(others, 3, 3)
	check("one table", one, true, true, Touched{"things", testID(1)}, Touched{"things", testID(2)})
	check("all tables", both, true, true, Touched{"things", testID(1)}, Touched{"things", testID(2)}, Touched{"others", testID(3)})
	put(others, 4, 4)
	check("another table", one, false, true)
	put(things, 10, 10+maxTouched)
	check("too many", one, true, false)
	check("afterwards", one, false, true)
	both.Touched()
	woken(both)
	must(t, db.Restore(bytes.NewReader(snapshotOf(t, db))))
	check("restored", one, true, false)
	one.Close()
	put(things, 5, 5)
	check("closed", one, false, true)
	check("restored, then more", both, true, false)
}
