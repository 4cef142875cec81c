package store_test

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-memdb"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

var benchRecords = flag.Int("records", 100_000, "VM records in the store benchmarks")

// benchID makes an ID like those of replica.NewIDSource: by time, then random.
func benchID(rng *rand.Rand, n int) cloud.ID {
	var id cloud.ID
	ms := uint64(1_760_000_000_000) + uint64(n)*37
	binary.BigEndian.PutUint64(id[:8], ms<<16|7<<12|rng.Uint64()&0xfff)
	binary.BigEndian.PutUint64(id[8:], rng.Uint64()&(1<<62-1)|1<<63)
	return id
}

// benchVMs makes a million-VM cloud's records one by one: 20,000 accounts, 5,000
// hosts, nine of ten VMs running.
type benchVMs struct {
	rng *rand.Rand
	ids map[string][]cloud.ID
}

func newBenchVMs() *benchVMs {
	g := &benchVMs{rng: rand.New(rand.NewPCG(1, 2)), ids: map[string][]cloud.ID{}}
	for kind, n := range map[string]int{
		"account": 20_000, "domain": 500, "zone": 4, "pod": 200, "host": 5_000, "template": 200, "offering": 50, "os": 30,
	} {
		rng := rand.New(rand.NewPCG(3, uint64(n)))
		for i := range n {
			g.ids[kind] = append(g.ids[kind], benchID(rng, i*1000))
		}
	}
	return g
}

func (g *benchVMs) some(kind string) cloud.ID { return g.ids[kind][g.rng.IntN(len(g.ids[kind]))] }

func (g *benchVMs) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.rng.Uint32())
	}
	return b
}

func (g *benchVMs) next(n int) *cloud.VM {
	created := time.UnixMicro(1_760_000_000_000_000 + int64(n)*37_123).UTC()
	name := fmt.Sprintf("%s-%06x", []string{"web", "db", "cache", "worker", "k8s-node"}[n%5], g.rng.IntN(1<<24))
	vm := &cloud.VM{
		ID: benchID(g.rng, n), Name: name, DisplayName: name, InstanceName: fmt.Sprintf("i-%d-%d-VM", g.rng.IntN(20_000), n),
		AccountID: g.some("account"), DomainID: g.some("domain"), ZoneID: g.some("zone"),
		PodID: g.some("pod"), HostID: g.some("host"), LastHostID: g.some("host"), State: cloud.VMRunning,
		TemplateID: g.some("template"), OfferingID: g.some("offering"), OSTypeID: g.some("os"),
		CPUs: 2, CPUMHz: 2000, MemoryMiB: 4096, HA: n%3 == 0,
		PasswordEpoch: 1, PasswordTaken: 1, StartEpoch: uint64(1 + n%4), BootEpoch: uint64(n % 3),
		Group: "default", Created: created, Number: uint64(n), Hypervisor: "KVM", DynamicScaling: n%2 == 0, PasswordEnabled: n%4 == 0,
		VNCPassword:   g.bytes(36),
		Details:       map[string]string{"rootDiskController": "virtio"},
		ObservedStart: 1, ObservedBoot: 1, VNCPort: uint32(5900 + n%100),
	}
	if n%2 == 0 {
		vm.KeyPair = "laptop"
	}
	if n%10 == 0 {
		vm.State, vm.HostID = cloud.VMStopped, cloud.ID{}
	}
	return vm
}

// cpu is the processor time this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// gcCPU is the processor time of one full collection, the least of five.
func gcCPU() time.Duration {
	least := time.Hour
	for range 5 {
		before := cpu()
		runtime.GC()
		least = min(least, cpu()-before)
	}
	return least
}

// figures are what P3 is about.
type figures struct {
	bytes, insert, gc, restore float64 // B, CPU ns, CPU ms, CPU ns
}

// fill commits n records in transactions of size rows, as a loaded leader does.
func fill(b testing.TB, db *store.DB, n, size int) {
	g := newBenchVMs()
	for i := 0; i < n; {
		batch := db.NewBatch(db.Current())
		_, err := batch.Run(func(tx *store.Tx) error {
			for range size {
				if err := tables.VMs.Put(tx, g.next(i)); err != nil {
					return err
				}
				i++
			}
			return nil
		}, time.Unix(0, 0), nil)
		if err != nil {
			b.Fatal(err)
		}
		ws, _ := batch.Seal()
		if err := db.Apply(ws); err != nil {
			b.Fatal(err)
		}
	}
}

func generate(n int) time.Duration {
	g := newBenchVMs()
	start := cpu()
	for i := range n {
		g.next(i)
	}
	return cpu() - start
}

func packedFigures(b *testing.B, n int) (f figures) {
	cost := generate(n)
	before := heap()
	db := store.NewDB(tables.VMs)
	start := cpu()
	fill(b, db, n, 100)
	f.insert = float64(cpu()-start-cost) / float64(n)
	f.bytes = float64(heap()-before) / float64(n)
	f.gc = gcCPU().Seconds() * 1e3

	var snapshot bytes.Buffer
	if _, err := db.Snapshot().WriteTo(&snapshot); err != nil {
		b.Fatal(err)
	}
	b.Logf("snapshot %d B a record", snapshot.Len()/n)
	restored := store.NewDB(tables.VMs)
	start = cpu()
	if err := restored.Restore(&snapshot); err != nil {
		b.Fatal(err)
	}
	f.restore = float64(cpu()-start) / float64(n)
	runtime.KeepAlive(db)
	return f
}

// keyIndexer gives memdb the same keys as the table has.
type keyIndexer struct {
	key func(*cloud.VM) store.Key
}

func (x keyIndexer) FromObject(o any) (bool, []byte, error) {
	k := x.key(o.(*cloud.VM))
	return k != nil, k, nil
}

func (keyIndexer) FromArgs(args ...any) ([]byte, error) { return args[0].(store.Key), nil }

func memdbSchema() *memdb.DBSchema {
	indexes := map[string]*memdb.IndexSchema{
		"id": {Name: "id", Unique: true, Indexer: keyIndexer{key: func(r *cloud.VM) store.Key { return r.ID[:] }}},
	}
	for _, x := range tables.VMs.Indexes() {
		indexes[x.Name] = &memdb.IndexSchema{Name: x.Name, Unique: x.Unique, AllowMissing: true, Indexer: keyIndexer{key: x.Key}}
	}
	return &memdb.DBSchema{Tables: map[string]*memdb.TableSchema{"vm": {Name: "vm", Indexes: indexes}}}
}

func memdbFigures(b *testing.B, n int) (f figures) {
	cost := generate(n)
	before := heap()
	db, err := memdb.NewMemDB(memdbSchema())
	if err != nil {
		b.Fatal(err)
	}
	g := newBenchVMs()
	start := cpu()
	for i := 0; i < n; {
		tx := db.Txn(true)
		for range 100 {
			if err := tx.Insert("vm", g.next(i)); err != nil {
				b.Fatal(err)
			}
			i++
		}
		tx.Commit()
	}
	f.insert = float64(cpu()-start-cost) / float64(n)
	f.bytes = float64(heap()-before) / float64(n)
	f.gc = gcCPU().Seconds() * 1e3
	f.restore = f.insert // memdb has no snapshot: restoring is inserting
	runtime.KeepAlive(db)
	return f
}

// BenchmarkP3 measures what the state costs, beside go-memdb with the same rows
// and indexes. Run with -benchtime 1x -records 1000000.
func BenchmarkP3(b *testing.B) {
	n := *benchRecords / 100 * 100
	for b.Loop() {
		p := packedFigures(b, n)
		m := memdbFigures(b, n)
		b.ReportMetric(p.bytes, "B/record")
		b.ReportMetric(p.insert, "ns/insert")
		b.ReportMetric(p.gc, "gc-ms")
		b.ReportMetric(p.restore, "ns/restored")
		b.Logf("P3 %d records: %.0f B a record (memdb %.0f, 1/%.1f), insert %.2f us (%.1f, 1/%.1f), GC %.1f ms CPU (%.0f, 1/%.1f), restore %.2f us a record",
			n, p.bytes, m.bytes, m.bytes/p.bytes, p.insert/1e3, m.insert/1e3, m.insert/p.insert, p.gc, m.gc, m.gc/p.gc, p.restore/1e3)
	}
}

// BenchmarkPut inserts VMs, 100 to a commit.
func BenchmarkPut(b *testing.B) {
	n := *benchRecords / 100 * 100
	cost := generate(n)
	var spent time.Duration
	for b.Loop() {
		start := cpu()
		fill(b, store.NewDB(tables.VMs), n, 100)
		spent += cpu() - start - cost
	}
	b.ReportMetric(float64(spent)/float64(b.N)/float64(n), "cpu-ns/put")
}

// BenchmarkRestore restores a snapshot of VMs.
func BenchmarkRestore(b *testing.B) {
	n := *benchRecords / 100 * 100
	db := store.NewDB(tables.VMs)
	fill(b, db, n, 100)
	var snapshot bytes.Buffer
	if _, err := db.Snapshot().WriteTo(&snapshot); err != nil {
		b.Fatal(err)
	}
	var spent time.Duration
	for b.Loop() {
		runtime.GC()
		start := cpu()
		if err := store.NewDB(tables.VMs).Restore(bytes.NewReader(snapshot.Bytes())); err != nil {
			b.Fatal(err)
		}
		spent += cpu() - start
	}
	b.ReportMetric(float64(spent)/float64(b.N)/float64(n), "cpu-ns/record")
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(n), "ns/record")
}

// BenchmarkGet decodes rows in random order.
func BenchmarkGet(b *testing.B) {
	n := *benchRecords / 100 * 100
	db := store.NewDB(tables.VMs)
	fill(b, db, n, 100)
	var ids []cloud.ID
	for id := range tables.VMs.IDs(db.Current(), "zone", nil) {
		ids = append(ids, id)
	}
	rng := rand.New(rand.NewPCG(5, 6))
	v := db.Current()
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := tables.VMs.Get(v, ids[rng.IntN(len(ids))]); !ok {
			b.Fatal("a row is gone")
		}
	}
}

// BenchmarkEdit changes a VM's state, one to a commit: what a job step does.
func BenchmarkEdit(b *testing.B) {
	n := *benchRecords / 100 * 100
	db := store.NewDB(tables.VMs)
	fill(b, db, n, 100)
	var ids []cloud.ID
	for id := range tables.VMs.IDs(db.Current(), "zone", nil) {
		ids = append(ids, id)
	}
	rng := rand.New(rand.NewPCG(5, 6))
	b.ReportAllocs()
	for b.Loop() {
		batch := db.NewBatch(db.Current())
		if _, err := batch.Run(func(tx *store.Tx) error {
			return tables.VMs.Edit(tx, ids[rng.IntN(len(ids))], func(vm *cloud.VM) error {
				vm.State = (vm.State + 1) % cloud.VMError
				vm.BootEpoch++
				return nil
			})
		}, time.Unix(0, 0), nil); err != nil {
			b.Fatal(err)
		}
		ws, _ := batch.Seal()
		if err := db.Apply(ws); err != nil {
			b.Fatal(err)
		}
	}
}
