package store_test

import (
	"flag"
	"os"
	"runtime"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// A VM with all its indexes takes no more memory than goal P3 says. It is a count, not a time: bytes of the heap that differ by
// less than one in a hundred from run to run, and rise a little with the number of rows.
func TestP3BytesOfVMs(t *testing.T) {
	if raced {
		t.Skip("the race detector takes memory, and most of the time")
	}
	const n, most = 50_000, 620
	before := heap()
	db := store.NewDB(tables.VMs)
	fill(t, db, n, 100)
	got := float64(heap()-before) / n
	runtime.KeepAlive(db)
	t.Logf("P3: %.0f bytes a VM of %d, goal %d", got, n, most)
	if got > most {
		t.Errorf("a VM takes %.0f bytes with its indexes, more than %d", got, most)
	}
}

// TestMain has fewer random cases under the race detector, which makes them ten times slower: they have one goroutine each, and
// run in full without it. What is left shows that no pointer is misused.
func TestMain(m *testing.M) {
	if raced {
		if err := flag.Set("rapid.checks", "20"); err != nil { // the command line may say otherwise
			panic(err)
		}
	}
	os.Exit(m.Run())
}
