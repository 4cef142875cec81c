package store

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// WriteSet is the encoded form of what a batch wrote: rows put and rows deleted,
// and the state it was computed from. It is what the log records.
//
// It is a format byte, a protobuf message, and a CRC-32C (little-endian) of both:
//
//	1 base   bytes    mark of the state it builds on
//	2 table  message, repeated: 1 name; 2 row, repeated: 1 id, 2 encoded row or 3 true for deleted
//
// The checksum is there because the log store has none. Without it, a replica with a
// damaged entry would come to another mark than the others, refuse all that follows,
// and never say why.
type WriteSet []byte

// mark identifies a state: a digest of the mark before and of the write set that
// led from there. Two states with the same mark were made by the same write
// sets in the same order. It needs no secrecy, only that accidents do not collide.
type mark [16]byte

const (
	writeSetFormat  = 2
	writeSetTrailer = 4
)

func (ws WriteSet) mark() (m mark) {
	sum := sha256.Sum256(ws) // covers the base
	copy(m[:], sum[:])
	return m
}

// encode writes operations that are in order of table and ID.
func encode(base mark, tables []*core, ops []op) WriteSet {
	size := 64 + writeSetTrailer
	for _, o := range ops {
		size += len(o.row) + 32
	}
	out := append(make([]byte, 0, size), writeSetFormat)
	out = protowire.AppendBytes(protowire.AppendTag(out, 1, protowire.BytesType), base[:])
	for len(ops) > 0 {
		n := 1
		for n < len(ops) && ops[n].slot == ops[0].slot {
			n++
		}
		out = protowire.AppendTag(out, 2, protowire.BytesType)
		out = appendSized(out, func(out []byte) []byte {
			out = protowire.AppendString(protowire.AppendTag(out, 1, protowire.BytesType), tables[ops[0].slot].name)
			for _, o := range ops[:n] {
				out = protowire.AppendTag(out, 2, protowire.BytesType)
				out = appendSized(out, func(out []byte) []byte { return appendOp(out, o.id, o.row) })
			}
			return out
		})
		ops = ops[n:]
	}
	return binary.LittleEndian.AppendUint32(out, crc32.Checksum(out, castagnoli))
}

func appendOp(b []byte, id cloud.ID, row []byte) []byte {
	b = protowire.AppendBytes(protowire.AppendTag(b, 1, protowire.BytesType), id[:])
	if row == nil {
		return protowire.AppendVarint(protowire.AppendTag(b, 3, protowire.VarintType), 1)
	}
	return protowire.AppendBytes(protowire.AppendTag(b, 2, protowire.BytesType), row)
}

// rowOp is one operation of a write set.
type rowOp struct {
	table string
	id    cloud.ID
	row   []byte // nil: deleted
}

var errWriteSet = errors.New("malformed write set")

// decode checks the whole write set before anything of it is used.
func (ws WriteSet) decode() (base mark, ops []rowOp, err error) {
	if len(ws) < 1+writeSetTrailer {
		return base, nil, errWriteSet
	}
	if ws[0] != writeSetFormat {
		return base, nil, fmt.Errorf("write set has format %d, this version knows %d", ws[0], writeSetFormat)
	}
	body := ws[:len(ws)-writeSetTrailer]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(ws[len(body):]) {
		return base, nil, fmt.Errorf("%w: checksum does not match", errWriteSet)
	}
	err = eachField(body[1:], func(num protowire.Number, v []byte, _ uint64) error {
		switch {
		case num == 1 && len(v) == len(base):
			base = mark(v)
			return nil
		case num == 2:
			ops, err = appendTableOps(ops, v)
			return err
		}
		return errWriteSet
	})
	return base, ops, err
}

func appendTableOps(ops []rowOp, b []byte) ([]rowOp, error) {
	var table string
	err := eachField(b, func(num protowire.Number, v []byte, _ uint64) error {
		switch {
		case num == 1 && len(v) > 0:
			table = string(v)
			return nil
		case num == 2 && table != "":
			o, err := decodeOp(v)
			o.table = table
			ops = append(ops, o)
			return err
		}
		return errWriteSet
	})
	return ops, err
}

func decodeOp(b []byte) (o rowOp, err error) {
	var deleted bool
	err = eachField(b, func(num protowire.Number, v []byte, u uint64) error {
		switch {
		case num == 1 && len(v) == len(o.id):
			o.id = cloud.ID(v)
		case num == 2:
			o.row = v[:len(v):len(v)]
			if o.row == nil {
				o.row = emptyRow
			}
		case num == 3 && u == 1:
			deleted = true
		default:
			return errWriteSet
		}
		return nil
	})
	if err == nil && (o.id.IsZero() || deleted == (o.row != nil)) {
		err = errWriteSet
	}
	return o, err
}

// eachField walks a message of sized fields and varints.
func eachField(b []byte, f func(num protowire.Number, v []byte, u uint64) error) error {
	for len(b) > 0 {
		num, wt, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errWriteSet
		}
		b = b[n:]
		var v []byte
		var u uint64
		switch wt {
		case protowire.BytesType:
			v, n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			u, n = protowire.ConsumeVarint(b)
		default:
			return errWriteSet
		}
		if n < 0 {
			return errWriteSet
		}
		b = b[n:]
		if err := f(num, v, u); err != nil {
			return err
		}
	}
	return nil
}
