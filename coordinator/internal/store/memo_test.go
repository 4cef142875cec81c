package store

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// describe reads in all the ways that are noted.
func describe(r Reader, things *Table[thing], id cloud.ID) string {
	t, ok := things.Get(r, id)
	if !ok {
		return "gone"
	}
	out := fmt.Sprintf("%s %d", t.Name, t.Size)
	for o := range things.By(r, "owner-name", K(t.Owner)) {
		out += fmt.Sprintf(" %s:%s", o.ID, o.Name)
	}
	if f, ok := things.First(r, "owner-name", K(t.Owner, "b")); ok {
		out += fmt.Sprint(" first ", f.Size)
	}
	for next := range things.IDs(r, "size", nil) {
		out += fmt.Sprint(" ", things.Version(r, next), things.Has(r, testID(2)))
		break
	}
	return out
}

// Whatever is written, and whichever of the last states is read, a Memo gives what making the value anew gives.
func TestMemoAgreesWithTheState(t *testing.T) {
	hits := 0
	rapid.Check(t, func(t *rapid.T) {
		things := newThings()
		db := NewDB(things)
		memo := NewMemo[cloud.ID](rapid.SampledFrom([]int{300, 1 << 20}).Draw(t, "most"), func(s string) int { return len(s) })
		views := []*View{db.Current()}
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				b := db.NewBatch(db.Current())
				for range rapid.IntRange(1, 3).Draw(t, "transactions") {
					x := &thing{
						ID: testID(rapid.IntRange(1, 12).Draw(t, "id")), Owner: testID(rapid.IntRange(0, 2).Draw(t, "owner")),
						Name: rapid.SampledFrom([]string{"a", "b", "bb", "c"}).Draw(t, "name"), Size: rapid.IntRange(0, 2).Draw(t, "size"),
					}
					gone := rapid.IntRange(0, 3).Draw(t, "gone") == 0
					_, _ = b.Run(func(tx *Tx) error {
						if gone {
							return things.Delete(tx, x.ID)
						}
						return things.Put(tx, x)
					}, testTime, nil)
				}
				ws, _ := b.Seal()
				if rapid.Bool().Draw(t, "elsewhere") {
					db.Forget()
				}
				if err := db.Apply(ws); err != nil {
					t.Fatal(err)
				}
				if views = append(views, db.Current()); len(views) > 6 {
					views = views[1:]
				}
			},
			"restore": func(t *rapid.T) {
				if rapid.IntRange(0, 9).Draw(t, "really") > 0 {
					return
				}
				i := rapid.IntRange(0, len(views)-1).Draw(t, "which")
				if err := restoreFrom(db, views[i]); err != nil {
					t.Fatal(err)
				}
				views = append(views, db.Current())
			},
			"read": func(t *rapid.T) {
				v := views[rapid.IntRange(0, len(views)-1).Draw(t, "view")]
				var keys []cloud.ID
				for i := range 12 {
					keys = append(keys, testID(i+1))
				}
				known := map[int]bool{}
				memo.Look(v, keys, func(i int, got string) {
					hits++
					known[i] = true
					if want := describe(v, things, keys[i]); got != want {
						t.Fatalf("%s at %d:\nkept %s\nnew  %s", keys[i], v.Index(), got, want)
					}
				})
				var made []Made[cloud.ID, string]
				for i, k := range keys {
					if !known[i] {
						rec := Record(Remember(v))
						made = append(made, Made[cloud.ID, string]{k, describe(rec, things, k), rec})
					}
				}
				memo.Keep(v, slices.Clip(made))
			},
			"": func(t *rapid.T) {
				if memo.held > memo.most {
					t.Fatalf("holds %d of %d bytes", memo.held, memo.most)
				}
				held, uses := 0, 0
				for _, e := range memo.kept {
					held += e.size
				}
				for _, n := range memo.nodes {
					gone := 0
					for _, e := range n.users {
						if e.gone {
							gone++
						}
					}
					if gone != n.gone || gone == len(n.users) {
						t.Fatalf("a node of %d users has %d gone, %d counted", len(n.users), gone, n.gone)
					}
					uses += len(n.users) - gone
				}
				want := 0
				for _, e := range memo.kept {
					want += len(e.nodes)
				}
				if held != memo.held || uses != want {
					t.Fatalf("%d bytes counted, %d held; %d uses, %d dependencies", memo.held, held, uses, want)
				}
			},
		})
	})
	if hits == 0 {
		t.Error("nothing was ever found")
	}
}

// What depends on a whole table is not kept.
func TestMemoKeepsNothingBroad(t *testing.T) {
	things := newThings()
	db := NewDB(things)
	for name, read := range map[string]func(r Reader){
		"Len": func(r Reader) { things.Len(r) }, "All": func(r Reader) { things.All(r) }, "SkipAll": func(r Reader) { things.SkipAll(r, 0) },
		"SkipAllIDs": func(r Reader) { things.SkipAllIDs(r, 0) }, "Skip": func(r Reader) { things.Skip(r, "size", nil, 0) },
		"PageOfIDs": func(r Reader) { things.PageOfIDs(r, "size", nil, 0, 1) }, "PageOfAllIDs": func(r Reader) { things.PageOfAllIDs(r, 0, 1) }, "Count": func(r Reader) { things.Count(r, "size", nil) },
		"Rank":         func(r Reader) { things.Rank(r, testID(1)) },
		"CountBetween": func(r Reader) { things.CountBetween(r, "size", nil, nil) },
	} {
		memo := NewMemo[int](1000, func(string) int { return 1 })
		rec := Record(db.Current())
		read(rec)
		memo.Keep(db.Current(), []Made[int, string]{{1, "x", rec}})
		if len(memo.kept) != 0 {
			t.Errorf("%s is kept", name)
		}
	}
}

func restoreFrom(db *DB, v *View) error {
	var b bytes.Buffer
	if _, err := (&Snapshot{v}).WriteTo(&b); err != nil {
		return err
	}
	return db.Restore(&b)
}

// A row that came into a range and left it again leaves no trace in the last state, but is part of the one between.
func TestMemoLooksAtNoStateBetween(t *testing.T) {
	things := newThings()
	db := NewDB(things)
	memo := NewMemo[int](1000, func(string) int { return 1 })
	rec := Record(db.Current())
	made := describe(rec, things, testID(1))
	for range things.By(rec, "owner-name", K(testID(7))) {
		t.Fatal("the range is not empty")
	}
	memo.Keep(db.Current(), []Made[int, string]{{1, made, rec}})
	if err := commit(t, db, func(tx *Tx) error { return things.Put(tx, &thing{ID: testID(2), Owner: testID(7)}) }); err != nil {
		t.Fatal(err)
	}
	between := db.Current()
	if err := commit(t, db, func(tx *Tx) error { return things.Delete(tx, testID(2)) }); err != nil {
		t.Fatal(err)
	}
	found := 0
	memo.Look(db.Current(), []int{1}, func(int, string) { found++ })
	memo.Look(between, []int{1}, func(int, string) { t.Error("a value is found for a state that it was not compared with") })
	if found != 1 {
		t.Error("the value is lost")
	}
}
