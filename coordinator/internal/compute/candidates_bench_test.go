package compute_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/compute"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// BenchmarkCandidates is what goal P6 does not count: gathering 10,000 hosts from their rows, as each placement does.
func BenchmarkCandidates(b *testing.B) {
	wide := func(kind byte, n int) (id cloud.ID) {
		id[0] = kind
		binary.BigEndian.PutUint32(id[12:], uint32(n)+1)
		return id
	}
	db := store.NewDB(tables.Schema()...)
	batch := db.NewBatch(db.Current())
	_, err := batch.Run(func(tx *store.Tx) error {
		err := errors.Join(
			tables.Zones.Put(tx, &cloud.Zone{ID: wide(3, 0), Name: "z"}),
			tables.Pods.Put(tx, &cloud.Pod{ID: wide(4, 0), ZoneID: wide(3, 0), Name: "p"}),
		)
		for i := range 10_000 {
			if i%20 == 0 {
				err = errors.Join(err, tables.Clusters.Put(tx, &cloud.Cluster{ID: wide(2, i/20), ZoneID: wide(3, 0), PodID: wide(4, 0), Name: fmt.Sprint("c", i)}))
			}
			err = errors.Join(
				err,
				tables.Hosts.Put(tx, &cloud.Host{
					ID: wide(1, i), Name: fmt.Sprint("host-", i), Number: uint64(i + 1), ZoneID: wide(3, 0), PodID: wide(4, 0), ClusterID: wide(2, i/20), Status: cloud.HostUp,
					CPUs: 64, CPUMHz: 3000, MemoryMiB: 512 << 10, Tags: []string{"fast"}, Features: []string{"kvm", "vxlan"},
				}),
				tables.HostCapacities.Put(tx, &cloud.HostCapacity{ID: wide(1, i), CPUMHz: 1000, MemoryMiB: 4096, VMs: 3}),
				tables.StoragePools.Put(tx, &cloud.StoragePool{ID: wide(5, i), Name: fmt.Sprint("pool-", i), ZoneID: wide(3, 0), HostID: wide(1, i), CapacityBytes: 1 << 40}),
			)
		}
		return err
	}, time.Unix(0, 0), nil)
	if err != nil {
		b.Fatal(err)
	}
	ws, _ := batch.Seal()
	if err := db.Apply(ws); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if f := compute.Candidates(db.Current(), wide(3, 0), cloud.ID{}); len(f.Hosts) != 10_000 {
			b.Fatal(len(f.Hosts))
		}
	}
}
