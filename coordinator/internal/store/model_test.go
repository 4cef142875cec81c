package store

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// versioned is a row of the model.
type versioned struct {
	thing
	version uint64
}

type model map[cloud.ID]versioned

// conflict is the row that holds r's place in the unique index.
func (m model) conflict(r thing) (cloud.ID, bool) {
	for id, o := range m {
		if id != r.ID && o.Owner == r.Owner && o.Name == r.Name {
			return id, true
		}
	}
	return cloud.ID{}, false
}

// by is what By("size", K(size...)) must yield.
func (m model) bySize(sizes ...int) []thing {
	rows := []thing{}
	for _, r := range m {
		if r.Size != 0 && (len(sizes) == 0 || r.Size == sizes[0]) {
			rows = append(rows, r.thing)
		}
	}
	slices.SortFunc(rows, func(a, b thing) int {
		return cmp.Or(cmp.Compare(a.Size, b.Size), bytes.Compare(a.ID[:], b.ID[:]))
	})
	return rows
}

func (m model) byOwner(parts ...any) []thing {
	rows := []thing{}
	for _, r := range m {
		if (len(parts) == 0 || r.Owner == parts[0]) && (len(parts) < 2 || r.Name == parts[1]) {
			rows = append(rows, r.thing)
		}
	}
	slices.SortFunc(rows, func(a, b thing) int {
		return cmp.Or(bytes.Compare(a.Owner[:], b.Owner[:]), strings.Compare(a.Name, b.Name))
	})
	return rows
}

func all[R any](seq func(func(*R) bool)) []R {
	rows := []R{}
	for r := range seq {
		rows = append(rows, *r)
	}
	return rows
}

// failer is what verify needs of a test.
type failer interface {
	Helper()
	Fatalf(string, ...any)
}

// inClosure fails by a panic of its own, because a transaction catches panics.
type inClosure struct{}

type failure string

func (inClosure) Helper()                           {}
func (inClosure) Fatalf(format string, args ...any) { panic(failure(fmt.Sprintf(format, args...))) }

// verify compares everything a reader can see.
func verify(t failer, things *Table[thing], r Reader, m model) {
	t.Helper()
	same := func(what string, want, got any) {
		t.Helper()
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", what, diff)
		}
	}
	want := []thing{}
	for _, id := range slices.SortedFunc(maps.Keys(m), func(a, b cloud.ID) int { return bytes.Compare(a[:], b[:]) }) {
		want = append(want, m[id].thing)
		same("version", m[id].version, things.Version(r, id))
	}
	same("all", want, all(things.All(r)))
	same("len", len(m), things.Len(r))
	for n := range len(want) + 2 {
		same("page of all", ids(want, n, 3), append([]cloud.ID{}, things.PageOfAllIDs(r, n, 3)...))
	}
	same("by size", m.bySize(), all(things.By(r, "size", nil)))
	same("by owner", m.byOwner(), all(things.By(r, "owner-name", nil)))
	for size := -2; size <= 2; size++ {
		rows := m.bySize(size)
		if size == 0 {
			rows = []thing{}
		}
		same("by one size", rows, all(things.By(r, "size", K(size))))
		same("count", len(rows), things.Count(r, "size", K(size)))
	}
	for owner := range 3 {
		rows := m.byOwner(testID(owner))
		same("by one owner", rows, all(things.By(r, "owner-name", K(testID(owner)))))
		for n := range len(rows) + 2 {
			same("skip", rows[min(n, len(rows)):], all(things.Skip(r, "owner-name", K(testID(owner)), n)))
			same("page", ids(rows, n, 2), append([]cloud.ID{}, things.PageOfIDs(r, "owner-name", K(testID(owner)), n, 2)...))
		}
		same("count", len(rows), things.Count(r, "owner-name", K(testID(owner))))
		for _, name := range names {
			rows := m.byOwner(testID(owner), name)
			first, ok := things.First(r, "owner-name", K(testID(owner), name))
			same("first", len(rows) > 0, ok)
			if ok {
				same("first", rows[0], *first)
			}
		}
	}
}

// ids are those of at most so many rows after the first n.
func ids(rows []thing, n, most int) []cloud.ID {
	page := []cloud.ID{}
	for _, row := range rows[min(n, len(rows)):min(n+most, len(rows))] {
		page = append(page, row.ID)
	}
	return page
}

// names are prefixes of each other and hold the bytes that keys escape.
var names = []string{"", "a", "a\x00", "a\x00\xff", "ab", "\xff"}

const giveUp = "the closure gives up"

var errGiveUp = errors.New(giveUp)

// TestStoreIsAMap runs transactions against the store and against a map. A second
// replica applies the encoded write sets, in each of the ways there are.
func TestStoreIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		things := newThings()
		db, follower := NewDB(things), NewDB(newThings())
		committed := model{}
		genThing := rapid.Custom(func(t *rapid.T) thing {
			return thing{
				ID: testID(rapid.IntRange(1, 40).Draw(t, "id")), Owner: testID(rapid.IntRange(0, 2).Draw(t, "owner")),
				Name: rapid.SampledFrom(names).Draw(t, "name"), Size: rapid.IntRange(-2, 2).Draw(t, "size"),
			}
		})
		genOp := rapid.SampledFrom([]string{"put", "put", "edit", "delete", "walk", "verify"})
		// one step of a closure, in the store and in the model
		step := func(tx *Tx, m model, op string, r thing) {
			t := inClosure{}
			version := tx.Index() + 1
			switch op {
			case "put", "edit":
				var want error
				old, had := m[r.ID]
				put := func() error { return things.Put(tx, &r) }
				if op == "edit" {
					put = func() error {
						return things.Edit(tx, r.ID, func(have *thing) error {
							if diff := gocmp.Diff(old.thing, *have); diff != "" {
								return errors.New(diff)
							}
							*have = r
							return nil
						})
					}
				}
				switch id, taken := m.conflict(r); {
				case op == "edit" && !had:
					want = &NotFound{"things", r.ID}
				case taken:
					want = &Conflict{"things", "owner-name", id}
				case !had || gocmp.Diff(old.thing, r) != "":
					m[r.ID] = versioned{r, version}
				}
				if diff := gocmp.Diff(want, put()); diff != "" {
					t.Fatalf("%s %v (-want +got):\n%s", op, r, diff)
				}
			case "delete":
				delete(m, r.ID)
				if err := things.Delete(tx, r.ID); err != nil {
					t.Fatalf("delete: %v", err)
				}
			case "walk": // a loop that changes what it walks over sees what was there before
				want, got := m.bySize(), []thing{}
				for row := range things.By(tx, "size", nil) {
					got = append(got, *row)
					row.Size = 0
					if err := things.Put(tx, row); err != nil {
						t.Fatalf("put: %v", err)
					}
					m[row.ID] = versioned{*row, version}
				}
				if diff := gocmp.Diff(want, got); diff != "" {
					t.Fatalf("walk (-want +got):\n%s", diff)
				}
			case "verify":
				verify(t, things, tx, m)
			}
		}
		type kept struct {
			v *View
			m model
		}
		var views []kept
		for range rapid.IntRange(1, 6).Draw(t, "batches") {
			views = append(views, kept{db.Current(), maps.Clone(committed)})
			b := db.NewBatch(db.Current())
			m := maps.Clone(committed)
			for range rapid.IntRange(1, 4).Draw(t, "closures") {
				mine := maps.Clone(m)
				fails := rapid.SampledFrom([]string{"no", "no", "error", "panic"}).Draw(t, "fails")
				ops := rapid.SliceOfN(genOp, 0, 12).Draw(t, "ops")
				rows := rapid.SliceOfN(genThing, len(ops), len(ops)).Draw(t, "rows")
				_, err := b.Run(func(tx *Tx) error {
					for i := range ops {
						step(tx, mine, ops[i], rows[i])
					}
					switch fails {
					case "error":
						return errGiveUp
					case "panic":
						panic(giveUp)
					}
					return nil
				}, time.Now(), nil)
				var panicked *Panicked
				if errors.As(err, &panicked) && panicked.Value != any(giveUp) {
					t.Fatalf("%v\n%s", panicked.Value, panicked.Stack)
				}
				switch {
				case fails == "no" && err == nil:
					m = mine
				case fails == "error" && errors.Is(err, errGiveUp):
				case fails == "panic" && panicked != nil:
				default:
					t.Fatalf("closure that fails: %s returned: %v", fails, err)
				}
			}
			if b.Empty() {
				continue
			}
			ws, sealed := b.Seal()
			if rapid.Bool().Draw(t, "forget") { // what another leader's write set looks like
				db.Forget()
			}
			verify(t, things, db.Current(), committed)
			verify(t, things, sealed, m)
			for _, d := range []*DB{db, follower} {
				if err := d.Apply(ws); err != nil {
					t.Fatal(err)
				}
				if err := d.Apply(ws); !errors.Is(err, ErrRefused) {
					t.Fatalf("applied twice: %v", err)
				}
			}
			committed = m
			verify(t, things, db.Current(), committed)
		}
		for _, k := range views {
			verify(t, things, k.v, k.m)
		}
		for _, x := range append(db.Current().s.tables[0].indexes, db.Current().s.tables[0].rows) {
			if err := x.check(); err != nil {
				t.Fatal(err)
			}
		}
		restored := NewDB(things)
		if err := restored.Restore(bytes.NewReader(snapshotOf(t, db))); err != nil {
			t.Fatal(err)
		}
		verify(t, things, restored.Current(), committed)
		for _, d := range []*DB{follower, restored} {
			if !bytes.Equal(snapshotOf(t, d), snapshotOf(t, db)) {
				t.Fatal("replicas differ")
			}
		}
	})
}

// TestBigTablesSurviveChurn does the same with enough rows for trees of several
// levels, checking the trees' structure.
func TestBigTablesSurviveChurn(t *testing.T) {
	things := newThings()
	db := NewDB(things)
	rng := uint32(1)
	next := func(n int) int { // xorshift: the same on every run
		rng ^= rng << 13
		rng ^= rng >> 17
		rng ^= rng << 5
		return int(rng) % n
	}
	m := map[cloud.ID]string{}
	for round := range 40 {
		must(t, commit(t, db, func(tx *Tx) error {
			for range 1500 {
				id := testID(1 + next(20000))
				// Grow for 20 rounds, then shrink.
				if next(20) >= round-10 {
					name := fmt.Sprintf("%d-%s", id[2], strings.Repeat("n", next(90)))
					if err := things.Put(tx, &thing{ID: id, Owner: id, Name: name, Size: next(50)}); err != nil {
						return err
					}
					m[id] = name
					continue
				}
				if err := things.Delete(tx, id); err != nil {
					return err
				}
				delete(m, id)
			}
			return nil
		}))
		ts := db.Current().s.tables[0]
		for _, x := range append(slices.Clone(ts.indexes), ts.rows) {
			must(t, x.check())
		}
	}
	got := map[cloud.ID]string{}
	for r := range things.All(db.Current()) {
		got[r.ID] = r.Name
	}
	if diff := gocmp.Diff(m, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// What is left restores into trees with the same content and a sound structure.
	restored := NewDB(things)
	must(t, restored.Restore(bytes.NewReader(snapshotOf(t, db))))
	was, is := db.Current().s.tables[0], restored.Current().s.tables[0]
	for i, x := range append(slices.Clone(is.indexes), is.rows) {
		must(t, x.check())
		if diff := gocmp.Diff(append(slices.Clone(was.indexes), was.rows)[i].collect(""), x.collect("")); diff != "" {
			t.Errorf("tree %d (-was +restored):\n%s", i, diff)
		}
	}
}

func snapshotOf(t interface{ Fatal(...any) }, db *DB) []byte {
	var buf bytes.Buffer
	if _, err := db.Snapshot().WriteTo(&buf); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// TestApplyRefuses walks through what a change of leaders can do to the log.
func TestApplyRefuses(t *testing.T) {
	put := func(db *DB, on *View, n int) (WriteSet, *View) {
		b := db.NewBatch(on)
		things := db.tables[0]
		if _, err := b.Run(func(tx *Tx) error {
			return tx.put(things, testID(n), []byte{0x10, byte(n)}, []Key{K(n), nil})
		}, time.Now(), nil); err != nil {
			t.Fatal(err)
		}
		return b.Seal()
	}
	one, two := NewDB(newThings()), NewDB(newThings())
	a, afterA := put(one, one.Current(), 1)
	b, _ := put(one, afterA, 2)
	c, _ := put(two, two.Current(), 3) // by another leader, who knows of neither

	for _, tc := range []struct {
		name string
		log  []WriteSet
		want []error
	}{
		{"in order", []WriteSet{a, b}, []error{nil, nil}},
		{"the first was lost", []WriteSet{b}, []error{ErrRefused}},
		{"lost, and another leader", []WriteSet{b, c}, []error{ErrRefused, nil}},
		{"another leader was faster", []WriteSet{c, a, b}, []error{nil, ErrRefused, ErrRefused}},
		{"twice", []WriteSet{a, a, b, b}, []error{nil, ErrRefused, nil, ErrRefused}},
	} {
		var digests [][32]byte
		for _, db := range []*DB{NewDB(newThings()), one, two} { // with and without prepared outcomes
			db.current.Store(db.empty())
			var got []error
			for _, ws := range tc.log {
				got = append(got, db.Apply(ws))
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
			}
			sum, err := db.Snapshot().Digest()
			must(t, err)
			digests = append(digests, sum)
		}
		if digests[0] != digests[1] || digests[0] != digests[2] {
			t.Errorf("%s: replicas differ", tc.name)
		}
	}
}

// goldenWriteSet puts two rows and deletes one, on the empty state.
func goldenWriteSet(t testing.TB, things *Table[thing]) WriteSet {
	t.Helper()
	db := NewDB(things)
	b := db.NewBatch(db.Current())
	_, err := b.Run(func(tx *Tx) error {
		return errors.Join(
			things.Put(tx, &thing{ID: testID(1), Name: "a"}), things.Put(tx, &thing{ID: testID(2), Name: "b", Size: 4}),
			things.Put(tx, &thing{ID: testID(3), Name: "c"}), things.Delete(tx, testID(3)))
	}, time.Now(), nil)
	must(t, err)
	ws, _ := b.Seal()
	return ws
}

// TestGoldenWriteSet pins the bytes: they are in the logs of running clouds.
func TestGoldenWriteSet(t *testing.T) {
	name := filepath.Join("testdata", "v2.writeset")
	things := newThings()
	ws := goldenWriteSet(t, things)
	if *update {
		must(t, os.WriteFile(name, ws, 0o644))
	}
	want, err := os.ReadFile(name)
	must(t, err)
	if !bytes.Equal(want, ws) {
		t.Errorf("got  %x\nwant %x", []byte(ws), want)
	}
	db := NewDB(things)
	must(t, db.Apply(want))
	rows := []thing{{ID: testID(1), Name: "a"}, {ID: testID(2), Name: "b", Size: 4}}
	if diff := gocmp.Diff(rows, all(things.All(db.Current()))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestApplyRejectsDamage changes and cuts a write set at each byte. None of it may
// pass for a refusal, which the log's reader goes on after.
func TestApplyRejectsDamage(t *testing.T) {
	things := newThings()
	ws := goldenWriteSet(t, things)
	db := NewDB(things)
	reject := func(what string, ws WriteSet) {
		t.Helper()
		if err := db.Apply(ws); err == nil || errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i := range ws {
		for _, flip := range []byte{1, 0x80, 0xff} {
			bad := slices.Clone(ws)
			bad[i] ^= flip
			reject(fmt.Sprintf("byte %d changed", i), bad)
		}
		reject(fmt.Sprintf("cut at %d", i), ws[:i])
	}
	future := append(WriteSet{writeSetFormat + 1}, ws[1:len(ws)-writeSetTrailer]...)
	reject("another format", sealWriteSet(future))
	if db.Current().Index() != 0 {
		t.Error("damage was applied")
	}
}

// sealWriteSet adds the checksum.
func sealWriteSet(body []byte) WriteSet {
	return binary.LittleEndian.AppendUint32(body, crc32.Checksum(body, castagnoli))
}

// FuzzApply feeds the log's reader what has the right checksum.
func FuzzApply(f *testing.F) {
	things := newThings()
	ws := goldenWriteSet(f, things)
	f.Add([]byte(ws[:len(ws)-writeSetTrailer]))
	f.Fuzz(func(t *testing.T, body []byte) {
		db := NewDB(things)
		err := db.Apply(sealWriteSet(body))
		if err != nil && db.Current().Index() != 0 {
			t.Fatalf("refused with %v, but something changed", err)
		}
		ts := db.Current().s.tables[0]
		for _, x := range append(slices.Clone(ts.indexes), ts.rows) {
			if err := x.check(); err != nil {
				t.Fatal(err)
			}
		}
		n := 0
		for range things.By(db.Current(), "owner-name", nil) {
			n++
		}
		if n != things.Len(db.Current()) {
			t.Fatalf("%d rows in the index, %d in the table", n, things.Len(db.Current()))
		}
	})
}
