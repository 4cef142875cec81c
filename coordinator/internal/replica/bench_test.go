package replica_test

import (
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

	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// fdatasync is the median time to append 512 bytes durably to a file where the
// benchmark's logs are.
func fdatasync(b *testing.B) time.Duration {
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

// BenchmarkP5 measures durable commits of one row of about 512 bytes each, from
// some clients at a time, on replicas in one process with boltdb, fsync and TCP.
func BenchmarkP5(b *testing.B) {
	for _, nodeCount := range []int{1, 3} {
		for _, clients := range []int{1, 16, 128, 512} {
			b.Run(fmt.Sprintf("nodes=%d/clients=%d", nodeCount, clients), func(b *testing.B) {
				nodes := diskNodes(b, nodeCount)
				for _, n := range nodes {
					n.start(b)
				}
				r := nodes[leaderOf(b, nodes)].r
				floor := fdatasync(b)
				payload := strings.Repeat("x", 460)
				var next atomic.Int64
				latencies := make([][]time.Duration, clients)
				b.ResetTimer()
				var workers sync.WaitGroup
				for w := range clients {
					workers.Go(func() {
						for {
							i := next.Add(1)
							if i > int64(b.N) {
								return
							}
							start := time.Now()
							err := r.Update(b.Context(), func(tx *store.Tx) error {
								return items.Put(tx, &item{ID: tx.NewID(), Name: fmt.Sprintf("%d", i), Note: payload})
							})
							if err != nil {
								b.Error(err)
								return
							}
							latencies[w] = append(latencies[w], time.Since(start))
						}
					})
				}
				workers.Wait()
				b.StopTimer()
				took := slices.Concat(latencies...)
				slices.Sort(took)
				p50, p99 := took[len(took)/2], took[len(took)*99/100]
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
				b.ReportMetric(float64(p50.Microseconds()), "p50-us")
				b.ReportMetric(float64(p99.Microseconds()), "p99-us")
				b.ReportMetric(float64(p50)/float64(floor), "p50/fdatasync")
			})
		}
	}
}
