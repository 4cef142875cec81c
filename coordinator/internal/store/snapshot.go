package store

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// A snapshot is
//
//	magic    "wisp state\n", format byte
//	blocks   uint32 length (not 0), uint32 CRC-32C, that many bytes
//	end      uint32 0
//	digest   32 bytes SHA-256 of all before
//
// The bytes of the blocks together are records: a kind byte and its content, with
// numbers as uvarints and strings behind their length.
//
//	1 state  index, mark           first, once
//	2 table  name, number of rows  then that many rows
//	3 row    id, version, encoded row
//	4 end                          last, once
//
// Tables and rows come in order, so equal states have equal snapshots. Index
// entries are not part of it: they are made again, as this version defines them.
const (
	snapshotMagic  = "wisp state\n"
	snapshotFormat = 1

	recordState = 1
	recordTable = 2
	recordRow   = 3
	recordEnd   = 4

	blockSize    = 64 << 10
	maxBlockSize = 64 << 20 // a row is never split over blocks
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrSnapshot is wrapped by every error of Restore that is due to the content.
var ErrSnapshot = errors.New("damaged snapshot")

// Snapshot is a state that can be written out while the database moves on.
type Snapshot struct{ v *View }

// Snapshot takes the present state, in no time.
func (db *DB) Snapshot() *Snapshot { return &Snapshot{db.Current()} }

// Index is the number of commits in the snapshot.
func (s *Snapshot) Index() uint64 { return s.v.s.index }

// Digest is the SHA-256 of the snapshot: equal for replicas with equal states.
func (s *Snapshot) Digest() (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	if err := s.v.writeTo(h); err != nil {
		return sum, fmt.Errorf("digest state: %w", err)
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

// WriteTo implements io.WriterTo.
func (s *Snapshot) WriteTo(w io.Writer) (int64, error) {
	h := sha256.New()
	n := &countingWriter{w: io.MultiWriter(w, h)}
	if err := s.v.writeTo(n); err != nil {
		return n.n, fmt.Errorf("write snapshot: %w", err)
	}
	m, err := w.Write(h.Sum(nil))
	return n.n + int64(m), err
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// writeTo writes everything but the digest.
func (v *View) writeTo(w io.Writer) error {
	if _, err := io.WriteString(w, snapshotMagic+string(rune(snapshotFormat))); err != nil {
		return err
	}
	bw := &blockWriter{w: w}
	b := binary.AppendUvarint([]byte{recordState}, v.s.index)
	bw.record(append(b, v.s.mark[:]...))

	tables := map[string]tree{}
	maps.Copy(tables, v.s.raw)
	for i, c := range v.db.tables {
		tables[c.name] = v.s.tables[i].rows
	}
	for _, name := range slices.Sorted(maps.Keys(tables)) {
		rows := tables[name]
		if rows.len() == 0 {
			continue // whether a program knows a table without rows makes no difference
		}
		b = append(b[:0], recordTable)
		b = append(binary.AppendUvarint(b, uint64(len(name))), name...)
		bw.record(binary.AppendUvarint(b, uint64(rows.len())))
		rows.ascend("", func(k []byte, v string) bool {
			version, row := splitRow(v)
			b = append(append(b[:0], recordRow), k...)
			b = binary.AppendUvarint(b, version)
			b = binary.AppendUvarint(b, uint64(len(row)))
			bw.record(append(b, row...))
			return bw.err == nil
		})
	}
	bw.record([]byte{recordEnd})
	return bw.close()
}

// blockWriter gathers records into checked blocks.
type blockWriter struct {
	w   io.Writer
	buf []byte
	err error
}

func (w *blockWriter) record(b []byte) {
	if len(w.buf) > 0 && len(w.buf)+len(b) > blockSize {
		w.flush()
	}
	w.buf = append(w.buf, b...)
}

func (w *blockWriter) flush() {
	if w.err != nil || len(w.buf) == 0 {
		return
	}
	var head [8]byte
	binary.LittleEndian.PutUint32(head[:4], uint32(len(w.buf)))
	binary.LittleEndian.PutUint32(head[4:], crc32.Checksum(w.buf, castagnoli))
	if _, w.err = w.w.Write(head[:]); w.err == nil {
		_, w.err = w.w.Write(w.buf)
	}
	w.buf = w.buf[:0]
}

func (w *blockWriter) close() error {
	w.flush()
	if w.err == nil {
		_, w.err = w.w.Write(make([]byte, 4))
	}
	return w.err
}

// Restore replaces the state by that of a snapshot. After an error the state is
// what it was: a snapshot is used whole or not at all.
func (db *DB) Restore(r io.Reader) error {
	s, err := db.read(r)
	if err != nil {
		return fmt.Errorf("restore snapshot: %w", err)
	}
	db.Forget()
	s.epoch = db.current.Load().epoch + 1
	db.current.Store(s)
	db.mu.Lock()
	watches := slices.Collect(maps.Keys(db.watches))
	db.mu.Unlock()
	for _, w := range watches {
		w.lost()
	}
	return nil
}

// VerifySnapshot reads a snapshot to its end without using it.
func VerifySnapshot(r io.Reader) error {
	if _, err := NewDB().read(r); err != nil {
		return fmt.Errorf("verify snapshot: %w", err)
	}
	return nil
}

func (db *DB) read(r io.Reader) (*state, error) {
	h := sha256.New()
	br := bufio.NewReaderSize(r, 256<<10)
	in := io.TeeReader(br, h)
	head := make([]byte, len(snapshotMagic)+1)
	if _, err := io.ReadFull(in, head); err != nil {
		return nil, fmt.Errorf("%w: header: %w", ErrSnapshot, err)
	}
	if string(head[:len(snapshotMagic)]) != snapshotMagic {
		return nil, fmt.Errorf("%w: it does not begin as one", ErrSnapshot)
	}
	if f := head[len(snapshotMagic)]; f != snapshotFormat {
		return nil, fmt.Errorf("%w: format %d, this version knows %d", ErrSnapshot, f, snapshotFormat)
	}
	l := &loader{db: db, s: db.empty(), tables: map[string]bool{}}
	var buf bytes.Buffer
	for {
		block, err := readBlock(in, &buf)
		if err != nil {
			return nil, err
		}
		if block == nil {
			break
		}
		if err := l.block(block); err != nil {
			return nil, err
		}
	}
	if !l.ended {
		return nil, fmt.Errorf("%w: it ends early", ErrSnapshot)
	}
	sum := h.Sum(nil)
	var want [sha256.Size]byte
	if _, err := io.ReadFull(br, want[:]); err != nil {
		return nil, fmt.Errorf("%w: digest: %w", ErrSnapshot, err)
	}
	if !bytes.Equal(sum, want[:]) {
		return nil, fmt.Errorf("%w: digest does not match", ErrSnapshot)
	}
	if _, err := br.ReadByte(); err != io.EOF {
		return nil, fmt.Errorf("%w: data behind its end", ErrSnapshot)
	}
	return l.s, nil
}

// readBlock returns nil at the end of the blocks. The block is in buf, until the next one.
func readBlock(r io.Reader, buf *bytes.Buffer) ([]byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:4]); err != nil {
		return nil, fmt.Errorf("%w: block: %w", ErrSnapshot, err)
	}
	n := binary.LittleEndian.Uint32(head[:4])
	if n == 0 {
		return nil, nil
	}
	if n > maxBlockSize {
		return nil, fmt.Errorf("%w: block of %d bytes", ErrSnapshot, n)
	}
	if _, err := io.ReadFull(r, head[4:]); err != nil {
		return nil, fmt.Errorf("%w: block: %w", ErrSnapshot, err)
	}
	// Grown as data arrives, so that a false length costs no memory.
	buf.Reset()
	if _, err := io.CopyN(buf, r, int64(n)); err != nil {
		return nil, fmt.Errorf("%w: block: %w", ErrSnapshot, err)
	}
	if crc32.Checksum(buf.Bytes(), castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
		return nil, fmt.Errorf("%w: block checksum does not match", ErrSnapshot)
	}
	return buf.Bytes(), nil
}

// loader builds a state from records.
type loader struct {
	db     *DB
	s      *state
	tables map[string]bool // seen

	started, ended bool
	name           string
	slot           int // -1: a table this program does not know
	left           uint64
	last           cloud.ID // of the last row
	rows           builder
	indexes        []sorter
	val            []byte // scratch
}

func (l *loader) block(b []byte) error {
	for len(b) > 0 {
		n, err := l.record(b)
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func (l *loader) record(b []byte) (int, error) {
	c := cursor{b: b[1:]}
	kind := b[0]
	switch {
	case l.ended, l.started == (kind == recordState), (kind == recordRow) != (l.left > 0):
		return 0, fmt.Errorf("%w: record of kind %d out of place", ErrSnapshot, kind)
	case kind == recordState:
		l.started = true
		l.s.index = c.uvarint()
		copy(l.s.mark[:], c.take(uint64(len(l.s.mark))))
	case kind == recordTable:
		if err := l.table(string(c.take(c.uvarint())), c.uvarint()); err != nil {
			return 0, err
		}
	case kind == recordRow:
		id := c.take(uint64(len(cloud.ID{})))
		version := c.uvarint()
		row := c.take(c.uvarint())
		if !c.bad {
			if err := l.row(cloud.ID(id), version, row); err != nil {
				return 0, err
			}
		}
	case kind == recordEnd:
		l.ended = true
	default:
		return 0, fmt.Errorf("%w: record of unknown kind %d", ErrSnapshot, kind)
	}
	if c.bad {
		return 0, fmt.Errorf("%w: record of kind %d is cut short", ErrSnapshot, kind)
	}
	return len(b) - len(c.b), nil
}

func (l *loader) table(name string, rows uint64) error {
	if name == "" || rows == 0 || l.tables[name] {
		return fmt.Errorf("%w: table %q is empty or comes twice", ErrSnapshot, name)
	}
	l.tables[name] = true
	l.name, l.left, l.last = name, rows, cloud.ID{}
	l.rows = builder{layout: withValues}
	l.slot, l.indexes = -1, nil
	if slot, known := l.db.byName[name]; known {
		l.slot = slot
		l.indexes = make([]sorter, len(l.db.tables[slot].indexes))
	}
	return nil
}

func (l *loader) row(id cloud.ID, version uint64, row []byte) error {
	if bytes.Compare(id[:], l.last[:]) <= 0 || version > l.s.index {
		return fmt.Errorf("%w: row %s of %s is out of order", ErrSnapshot, id, l.name)
	}
	l.last = id
	l.val = joinRow(l.val[:0], version, row)
	l.rows.add(id[:], l.val)
	if l.slot >= 0 {
		keys, err := l.db.tables[l.slot].keys(id, row)
		if err != nil {
			return fmt.Errorf("%w: row %s of %s: %w", ErrSnapshot, id, l.name, err)
		}
		for i, k := range keys {
			if k != nil {
				l.indexes[i].add(k, id[:])
			}
		}
	}
	if l.left--; l.left == 0 {
		l.finish()
	}
	return nil
}

// finish builds the table whose last row has come.
func (l *loader) finish() {
	if l.slot < 0 {
		l.s.raw[l.name] = l.rows.tree()
		return
	}
	ts := newTableState(len(l.indexes))
	ts.rows = l.rows.tree()
	var sorting sync.WaitGroup
	for i := range l.indexes {
		sorting.Go(func() { ts.indexes[i] = l.indexes[i].tree() })
	}
	sorting.Wait()
	l.indexes = nil
	l.s.tables[l.slot] = ts
}

// cursor reads a record's content; bad is set when there was too little.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.b, c.bad = nil, true
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursor) take(n uint64) []byte {
	if n > uint64(len(c.b)) {
		c.b, c.bad = nil, true
		return nil
	}
	v := c.b[:n:n]
	c.b = c.b[n:]
	return v
}
