package store

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

type thing struct {
	ID      cloud.ID `row:"1"`
	Name    string   `row:"2"`
	Owner   cloud.ID `row:"3"`
	Size    int      `row:"4"`
	Unknown cloud.Unknown
}

func newThings() *Table[thing] {
	return Define(Def[thing]{
		Name: "things",
		ID:   func(r *thing) cloud.ID { return r.ID },
		Indexes: []Index[thing]{
			{Name: "owner-name", Unique: true, Key: func(r *thing) Key { return K(r.Owner, r.Name) }},
			{Name: "size", Key: func(r *thing) Key {
				if r.Size == 0 {
					return nil
				}
				return K(r.Size)
			}},
		},
	})
}

func testID(n int) cloud.ID { return cloud.ID{0: byte(n >> 16), 1: byte(n >> 8), 2: byte(n), 15: 1} }

var testTime = time.Unix(1700000000, 0)

// commit runs f as one committed transaction.
func commit(t testing.TB, db *DB, f func(*Tx) error) error {
	t.Helper()
	b := db.NewBatch(db.Current())
	n := 0
	done, err := b.Run(f, testTime, func() cloud.ID { n++; return testID(1000 + n) })
	if err != nil {
		return err
	}
	ws, _ := b.Seal()
	if err := db.Apply(ws); err != nil {
		t.Fatalf("apply: %v", err)
	}
	for _, f := range done {
		f()
	}
	return nil
}

func TestStoreBasics(t *testing.T) {
	things := newThings()
	db := NewDB(things)
	a := thing{ID: testID(1), Name: "a", Owner: testID(9), Size: 3}
	b := thing{ID: testID(2), Name: "b", Owner: testID(9), Size: 1}
	must(t, commit(t, db, func(tx *Tx) error { return errors.Join(things.Put(tx, &a), things.Put(tx, &b)) }))

	err := commit(t, db, func(tx *Tx) error {
		return things.Put(tx, &thing{ID: testID(3), Name: "b", Owner: testID(9)})
	})
	if diff := cmp.Diff(&Conflict{"things", "owner-name", testID(2)}, err); diff != "" {
		t.Errorf("conflict (-want +got):\n%s", diff)
	}
	var got []thing
	for r := range things.By(db.Current(), "size", nil) {
		got = append(got, *r)
	}
	if diff := cmp.Diff([]thing{b, a}, got); diff != "" {
		t.Errorf("by size (-want +got):\n%s", diff)
	}
	var buf bytes.Buffer
	if _, err := db.Snapshot().WriteTo(&buf); err != nil {
		t.Fatal(err)
	}
	other := NewDB(newThings())
	must(t, other.Restore(bytes.NewReader(buf.Bytes())))
	x, _ := db.Snapshot().Digest()
	y, _ := other.Snapshot().Digest()
	if x != y {
		t.Error("restored state differs")
	}
}

// TestRowsAreCopies changes everything of a row that can be changed in place.
func TestRowsAreCopies(t *testing.T) {
	rows := Define(Def[everything]{Name: "rows", ID: func(r *everything) cloud.ID { return r.ID }})
	db := NewDB(rows)
	row := func() everything {
		return everything{
			ID: testID(1), Bytes: []byte("abc"), Sealed: []byte("abc"), Blobs: [][]byte{[]byte("abc")}, Strings: []string{"a"},
			IDs: []cloud.ID{{1}}, Details: map[string]string{"a": "b"}, Ports: []port{{Notes: []string{"n"}}}, Unknown: cloud.Unknown{0xc0, 0x3e, 1},
		}
	}
	want, put := row(), row()
	must(t, commit(t, db, func(tx *Tx) error { return rows.Put(tx, &put) }))
	spoil := func(r *everything) {
		r.Bytes[0], r.Sealed[0], r.Blobs[0][0], r.Unknown[2] = 'X', 'X', 'X', 9
		r.Strings[0], r.IDs[0], r.Details["a"], r.Ports[0].Notes[0] = "X", cloud.ID{9}, "X", "X"
	}
	spoil(&put)
	for range 2 {
		got, _ := rows.Get(db.Current(), testID(1))
		if diff := cmp.Diff(&want, got, sameRows); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		spoil(got)
	}
}

func TestTransactionTools(t *testing.T) {
	things := newThings()
	db := NewDB(things)
	var id cloud.ID
	var escaped *Tx
	committed := 0
	must(t, commit(t, db, func(tx *Tx) error {
		escaped = tx
		id = tx.NewID()
		tx.OnCommit(func() { committed++ })
		if want := testTime.UTC(); tx.Now() != want || tx.Now().Location() != time.UTC {
			t.Errorf("now is %v, want %v", tx.Now(), want)
		}
		for n := range 5 {
			if err := things.Put(tx, &thing{ID: testID(n + 1), Owner: testID(1), Name: string(rune('a' + n)), Size: n * 10}); err != nil {
				return err
			}
		}
		return things.Put(tx, &thing{ID: id, Owner: testID(2)})
	}))
	if committed != 1 {
		t.Errorf("OnCommit was called %d times", committed)
	}
	must(t, db.View(func(r Reader) error {
		if !things.Has(r, id) || things.Has(r, testID(99)) || r.Index() != 1 {
			t.Errorf("has %v, %v, index %d", things.Has(r, id), things.Has(r, testID(99)), r.Index())
		}
		var ids []cloud.ID
		for id := range things.IDs(r, "owner-name", K(testID(1))) {
			if ids = append(ids, id); len(ids) == 3 {
				break
			}
		}
		if diff := cmp.Diff([]cloud.ID{testID(1), testID(2), testID(3)}, ids); diff != "" {
			t.Errorf("ids (-want +got):\n%s", diff)
		}
		for _, tc := range []struct{ from, to, want int }{{10, 41, 4}, {10, 40, 3}, {11, 20, 0}, {40, 10, 0}} {
			if n := things.CountBetween(r, "size", K(tc.from), K(tc.to)); n != tc.want {
				t.Errorf("between %d and %d: %d, want %d", tc.from, tc.to, n, tc.want)
			}
		}
		return nil
	}))
	for name, misuse := range map[string]func(){
		"transaction is used after its end": func() { things.Len(escaped) },
		"has no index":                      func() { things.Count(db.Current(), "nonsense", nil) },
		"not part of this database":         func() { newThings().Len(db.Current()) },
		"two tables are named things":       func() { NewDB(things, newThings()) },
		"must be the row's ID":              func() { Define(Def[thing]{Name: "x", ID: func(r *thing) cloud.ID { return r.Owner }}) },
		"needs a name and an ID":            func() { Define(Def[thing]{Name: "x"}) },
		"incomplete or named twice": func() {
			Define(Def[thing]{Name: "x", ID: func(r *thing) cloud.ID { return r.ID }, Indexes: []Index[thing]{{Name: "a"}}})
		},
	} {
		func() {
			defer func() {
				if s, _ := recover().(string); !strings.Contains(s, name) {
					t.Errorf("panic %q, want %q", s, name)
				}
			}()
			misuse()
		}()
	}
	if err := commit(t, db, func(tx *Tx) error { return things.Put(tx, &thing{}) }); err == nil {
		t.Error("a row without an id is put")
	}
	if err := commit(t, db, func(tx *Tx) error {
		return things.Edit(tx, id, func(r *thing) error { r.ID = testID(50); return nil })
	}); err == nil {
		t.Error("an edit may change the id")
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
