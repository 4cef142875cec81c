package replica

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/hashicorp/raft"
)

// boltdb writes its pages atomically but does not notice when they rot. checkedLogs
// and checkedVotes add a checksum to what they pass on and verify it on the way
// back: a damaged entry or vote is an error, after which raft stops, and never another
// entry or vote.

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checkedLogs keeps the checksum of an entry in its Extensions, which raft leaves to
// layers like this one.
type checkedLogs struct{ raft.LogStore }

func (c checkedLogs) StoreLog(l *raft.Log) error { return c.StoreLogs([]*raft.Log{l}) }

func (c checkedLogs) StoreLogs(logs []*raft.Log) error {
	signed := make([]*raft.Log, len(logs))
	for i, l := range logs {
		s := *l
		s.Extensions = binary.LittleEndian.AppendUint32(nil, logSum(l))
		signed[i] = &s
	}
	return c.LogStore.StoreLogs(signed)
}

func (c checkedLogs) GetLog(index uint64, l *raft.Log) error {
	if err := c.LogStore.GetLog(index, l); err != nil {
		return err // raft tells its own errors apart
	}
	if l.Index != index || len(l.Extensions) != 4 || binary.LittleEndian.Uint32(l.Extensions) != logSum(l) {
		return fmt.Errorf("raft log entry %d is damaged", index)
	}
	l.Extensions = nil
	return nil
}

// logSum covers what makes an entry mean something.
func logSum(l *raft.Log) uint32 {
	var head [17]byte
	binary.LittleEndian.PutUint64(head[0:], l.Index)
	binary.LittleEndian.PutUint64(head[8:], l.Term)
	head[16] = byte(l.Type)
	return crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, l.Data)
}

// checkedVotes keeps the checksum of key and value behind the value.
type checkedVotes struct{ raft.StableStore }

func (c checkedVotes) Set(key, val []byte) error {
	signed := append(make([]byte, 0, len(val)+4), val...)
	return c.StableStore.Set(key, binary.LittleEndian.AppendUint32(signed, voteSum(key, val)))
}

func (c checkedVotes) Get(key []byte) ([]byte, error) {
	signed, err := c.StableStore.Get(key)
	if err != nil || len(signed) == 0 { // an absent key is either, depending on the store
		return signed, err
	}
	n := len(signed) - 4
	if n < 0 || binary.LittleEndian.Uint32(signed[n:]) != voteSum(key, signed[:n]) {
		return nil, fmt.Errorf("raft's %s is damaged", key)
	}
	return signed[:n], nil
}

func (c checkedVotes) SetUint64(key []byte, val uint64) error {
	return c.Set(key, binary.LittleEndian.AppendUint64(nil, val))
}

func (c checkedVotes) GetUint64(key []byte) (uint64, error) {
	val, err := c.Get(key)
	switch {
	case err != nil || len(val) == 0:
		return 0, err
	case len(val) != 8:
		return 0, fmt.Errorf("raft's %s is damaged", key)
	}
	return binary.LittleEndian.Uint64(val), nil
}

func voteSum(key, val []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, val)
}
