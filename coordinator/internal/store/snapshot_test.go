package store

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

var update = flag.Bool("update", false, "rewrite golden files")

// golden is the content of testdata/v1.snapshot.
func golden(t testing.TB, tables ...AnyTable) *DB {
	t.Helper()
	things := tables[0].(*Table[thing])
	db := NewDB(tables...)
	for n := range 3 {
		must(t, commit(t, db, func(tx *Tx) error {
			return things.Put(tx, &thing{
				ID: testID(n + 1), Name: fmt.Sprintf("thing %d", n), Owner: testID(9), Size: n, Unknown: cloud.Unknown{0xa2, 0x06, 1, byte('a' + n)},
			})
		}))
	}
	must(t, commit(t, db, func(tx *Tx) error { return things.Delete(tx, testID(2)) }))
	return db
}

// TestGoldenSnapshot restores a snapshot as an earlier version wrote it. Never
// rewrite the file of a released format: add another one beside it.
func TestGoldenSnapshot(t *testing.T) {
	name := filepath.Join("testdata", "v1.snapshot")
	want := golden(t, newThings())
	if *update {
		must(t, os.MkdirAll("testdata", 0o755))
		must(t, os.WriteFile(name, snapshotOf(t, want), 0o644))
	}
	f, err := os.Open(name)
	must(t, err)
	defer f.Close()
	things := newThings()
	db := NewDB(things)
	must(t, db.Restore(f))
	wantThings := want.tables[0]
	for n := 1; n <= 3; n++ {
		got, ok := things.Get(db.Current(), testID(n))
		if ok != (n != 2) {
			t.Fatalf("row %d: %v", n, ok)
		}
		if !ok {
			continue
		}
		row := thing{
			ID: testID(n), Name: fmt.Sprintf("thing %d", n-1), Owner: testID(9), Size: n - 1, Unknown: cloud.Unknown{0xa2, 0x06, 1, byte('a' + n - 1)},
		}
		if diff := cmp.Diff(&row, got); diff != "" {
			t.Errorf("row %d (-want +got):\n%s", n, diff)
		}
		if v := things.Version(db.Current(), testID(n)); v != uint64(n) {
			t.Errorf("row %d has version %d", n, v)
		}
	}
	if db.Current().Index() != 4 || wantThings.name != "things" {
		t.Errorf("index %d", db.Current().Index())
	}
}

// TestUnknownTablesSurvive passes the state of a newer version through an older
// one: by snapshot, by write sets, and by snapshot again.
func TestUnknownTablesSurvive(t *testing.T) {
	things := newThings()
	future := Define(Def[thing]{Name: "future", ID: things.def.ID})
	newer := golden(t, things, future)
	older := NewDB(newThings())
	apply := func(f func(*Tx) error) {
		t.Helper()
		b := newer.NewBatch(newer.Current())
		_, err := b.Run(f, testTime, nil)
		must(t, err)
		ws, _ := b.Seal()
		must(t, newer.Apply(ws))
		must(t, older.Apply(ws))
	}
	must(t, older.Restore(bytes.NewReader(snapshotOf(t, newer))))
	apply(func(tx *Tx) error {
		return errors.Join(future.Put(tx, &thing{ID: testID(1), Name: "f"}), future.Put(tx, &thing{ID: testID(2), Name: "g"}))
	})
	apply(func(tx *Tx) error {
		return errors.Join(future.Delete(tx, testID(1)), things.Delete(tx, testID(1)), future.Put(tx, &thing{ID: testID(3), Name: "h"}))
	})
	want := snapshotOf(t, newer)
	if !bytes.Equal(want, snapshotOf(t, older)) {
		t.Error("the older version has another state")
	}
	third := NewDB(newThings())
	must(t, third.Restore(bytes.NewReader(snapshotOf(t, older))))
	if !bytes.Equal(want, snapshotOf(t, third)) {
		t.Error("restored by the older version, it is another state")
	}
	must(t, VerifySnapshot(bytes.NewReader(want)))
}

// TestRestoreRefusesDamage changes and cuts a snapshot at each byte.
func TestRestoreRefusesDamage(t *testing.T) {
	good := snapshotOf(t, golden(t, newThings()))
	db := golden(t, newThings())
	before := db.Current()
	refuse := func(what string, b []byte) {
		t.Helper()
		if err := db.Restore(bytes.NewReader(b)); !errors.Is(err, ErrSnapshot) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i := range good {
		for _, flip := range []byte{1, 0x80, 0xff} {
			bad := bytes.Clone(good)
			bad[i] ^= flip
			refuse(fmt.Sprintf("byte %d changed", i), bad)
		}
		refuse(fmt.Sprintf("cut at %d", i), good[:i])
	}
	refuse("more behind", append(bytes.Clone(good), 0))
	refuse("twice", append(bytes.Clone(good), good...))
	if db.Current().s != before.s {
		t.Error("a refused snapshot has changed the state")
	}
	must(t, db.Restore(bytes.NewReader(good)))
}

func TestRestoreReportsReadErrors(t *testing.T) {
	good := snapshotOf(t, golden(t, newThings()))
	broken := errors.New("the disk is gone")
	err := NewDB(newThings()).Restore(io.MultiReader(bytes.NewReader(good[:50]), failing{broken}))
	if !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestSnapshotOfManyBlocks has rows larger than a block, and a snapshot that is
// written while the state moves on.
func TestSnapshotOfManyBlocks(t *testing.T) {
	things := newThings()
	db := NewDB(things)
	must(t, commit(t, db, func(tx *Tx) error {
		for n := range 2000 {
			size := 100
			if n%500 == 7 {
				size = 3 * blockSize
			}
			if err := things.Put(tx, &thing{ID: testID(n + 1), Owner: testID(n), Name: strings.Repeat("x", size), Size: n}); err != nil {
				return err
			}
		}
		return nil
	}))
	snap := db.Snapshot()
	want, err := snap.Digest()
	must(t, err)
	must(t, commit(t, db, func(tx *Tx) error { return things.Delete(tx, testID(5)) }))
	var buf bytes.Buffer
	n, err := snap.WriteTo(&buf)
	must(t, err)
	if int(n) != buf.Len() {
		t.Errorf("WriteTo says %d bytes, wrote %d", n, buf.Len())
	}
	other := NewDB(newThings())
	must(t, other.Restore(&buf))
	got, err := other.Snapshot().Digest()
	must(t, err)
	if got != want || other.Current().Index() != 1 {
		t.Error("restored to another state")
	}
	if now, _ := db.Snapshot().Digest(); now == want {
		t.Error("a change did not change the digest")
	}
}

// contentOf are the records of a snapshot, out of their blocks.
func contentOf(t testing.TB, snapshot []byte) (content []byte) {
	t.Helper()
	r := bytes.NewReader(snapshot[len(snapshotMagic)+1:])
	for {
		b, err := readBlock(r, new(bytes.Buffer))
		must(t, err)
		if b == nil {
			return content
		}
		content = append(content, b...)
	}
}

// sealBlocks writes records as a snapshot.
func sealBlocks(t testing.TB, content []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	buf.WriteString(snapshotMagic + string(rune(snapshotFormat)))
	w := &blockWriter{w: &buf}
	w.record(content)
	must(t, w.close())
	sum := sha256.Sum256(buf.Bytes())
	return append(buf.Bytes(), sum[:]...)
}

// FuzzRestore feeds the reader snapshots whose checksums are right.
func FuzzRestore(f *testing.F) {
	f.Add(contentOf(f, snapshotOf(f, golden(f, newThings()))))
	f.Fuzz(func(t *testing.T, content []byte) {
		db := NewDB(newThings())
		if err := db.Restore(bytes.NewReader(sealBlocks(t, content))); err != nil {
			return
		}
		ts := db.Current().s.tables[0]
		for _, x := range append(ts.indexes, ts.rows) {
			if err := x.check(); err != nil {
				t.Fatal(err)
			}
		}
		// Uvarints have several encodings, so the bytes may differ once.
		once := snapshotOf(t, db)
		if err := db.Restore(bytes.NewReader(once)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(once, snapshotOf(t, db)) {
			t.Fatal("written and read again, it is another state")
		}
	})
}
