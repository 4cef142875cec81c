package replica_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/wispcloud/wisp/coordinator/internal/replica"
	"github.com/wispcloud/wisp/coordinator/internal/replica/replicatest"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// fdatasync is the median time to append 512 bytes durably to a file where the
// benchmark's logs are.
func fdatasync(b *testing.B) time.Duration {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "append"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 512)
	var took []time.Duration
	for range 200 {
		start := time.Now()
		if _, err := f.Write(block); err != nil {
			b.Fatal(err)
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// rate runs commit from some clients at a time for a while.
func rate(b *testing.B, clients int, d time.Duration, commit func(i int64) error) (perSecond float64, p50 time.Duration) {
	b.Helper()
	var next atomic.Int64
	latencies := make([][]time.Duration, clients)
	begin := time.Now()
	var workers sync.WaitGroup
	for w := range clients {
		workers.Go(func() {
			for time.Since(begin) < d {
				start := time.Now()
				if err := commit(next.Add(1)); err != nil {
					b.Error(err)
					return
				}
				latencies[w] = append(latencies[w], time.Since(start))
			}
		})
	}
	workers.Wait()
	took := slices.Concat(latencies...)
	if len(took) == 0 {
		b.Fatal("nothing was committed")
	}
	slices.Sort(took)
	return float64(len(took)) / time.Since(begin).Seconds(), took[len(took)/2]
}

// plainLeader is the leader of n plain raft nodes.
func plainLeader(b *testing.B, n int) *raft.Raft {
	b.Helper()
	var all []*raft.Raft
	for _, n := range diskNodes(b, n) {
		r, stop, err := replica.PlainRaft(n.cfg)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(stop)
		all = append(all, r)
	}
	var leader *raft.Raft
	replicatest.Wait(b, 20*time.Second, "a plain leader", func() error {
		for _, r := range all {
			if r.State() == raft.Leader {
				leader = r
				return nil
			}
		}
		return errors.New("none")
	})
	return leader
}

// BenchmarkP5 measures durable commits of one row of 512 bytes each, on replicas in
// one process with boltdb, fsync and TCP, in turns with plain raft on the same log.
// The ratio is what a noisy machine leaves steady.
func BenchmarkP5(b *testing.B) {
	const turns, turn = 3, 500 * time.Millisecond
	for _, n := range []int{1, 3} {
		for _, clients := range []int{1, 16, 128, 512} {
			b.Run(fmt.Sprintf("nodes=%d/clients=%d", n, clients), func(b *testing.B) {
				nodes := diskNodes(b, n)
				for _, n := range nodes {
					n.start(b)
				}
				r, plain := nodes[leaderOf(b, nodes)].r, plainLeader(b, n)
				payload := strings.Repeat("x", 460)
				entry := []byte(payload + payload[:52])
				run := 0
				grouped := func(i int64) error {
					return r.Update(b.Context(), func(tx *store.Tx) error {
						return items.Put(tx, &item{ID: tx.NewID(), Name: fmt.Sprintf("%d-%d", run, i), Note: payload})
					})
				}
				single := func(int64) error { return plain.Apply(entry, 0).Error() }
				var ours, theirs, latency, floor []float64
				for b.Loop() {
					for range turns {
						run++
						perSecond, p50 := rate(b, clients, turn, grouped)
						ours, latency = append(ours, perSecond), append(latency, float64(p50.Microseconds()))
						perSecond, _ = rate(b, clients, turn, single)
						theirs = append(theirs, perSecond)
						floor = append(floor, float64(fdatasync(b).Microseconds()))
					}
				}
				b.ReportMetric(median(ours), "commits/s")
				b.ReportMetric(median(latency), "p50-us")
				b.Logf("P5 %d nodes, %d clients: %.0f commits/s, p50 %.0f us = %.1f fdatasyncs; plain raft %.0f/s, ratio %.2f",
					n, clients, median(ours), median(latency), median(latency)/median(floor), median(theirs), median(ours)/median(theirs))
			})
		}
	}
}

func median(s []float64) float64 {
	s = slices.Sorted(slices.Values(s))
	return s[len(s)/2]
}
