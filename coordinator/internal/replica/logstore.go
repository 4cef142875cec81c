package replica

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// stores is where raft keeps its log, its votes and its snapshots.
type stores struct {
	logs      raft.LogStore
	stable    raft.StableStore
	snapshots raft.SnapshotStore
	closer    io.Closer
}

// cachedEntries bounds the entries kept in memory for followers.
const cachedEntries = 128

// openStores is the one place that knows which log store is used.
func openStores(c Config) (stores, error) {
	if c.DataDir == "" {
		mem := raft.NewInmemStore()
		return stores{logs: mem, stable: mem, snapshots: raft.NewInmemSnapshotStore(), closer: nopCloser{}}, nil
	}
	dir := filepath.Join(c.DataDir, "raft")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return stores{}, fmt.Errorf("open raft log: %w", err)
	}
	bolt, err := raftboltdb.New(raftboltdb.Options{
		Path: filepath.Join(dir, "log.db"),
		BoltOptions: &bbolt.Options{
			// Another process that has the log open is a mistake to report, not to wait for.
			Timeout: 2 * time.Second,
			// The list of free pages is found again at the start instead of being written with
			// every commit.
			NoFreelistSync: true,
			FreelistType:   bbolt.FreelistMapType,
		},
		MsgpackUseNewTimeFormat: true,
	})
	if err != nil {
		return stores{}, fmt.Errorf("open raft log in %s: %w", dir, err)
	}
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(dir, 2, raftLogger(c.Logger))
	if err != nil {
		return stores{}, errors.Join(fmt.Errorf("open raft snapshots in %s: %w", dir, err), bolt.Close())
	}
	// What is sent to the followers was written a moment ago: it need not be read again.
	logs, err := raft.NewLogCache(cachedEntries, checkedLogs{bolt})
	if err != nil {
		return stores{}, errors.Join(err, bolt.Close())
	}
	return stores{logs: logs, stable: checkedVotes{bolt}, snapshots: snapshots, closer: bolt}, nil
}

type nopCloser struct{}

func (nopCloser) Close() error { return nil }
