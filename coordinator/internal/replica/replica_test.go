package replica_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/replica"
	"github.com/wispcloud/wisp/coordinator/internal/replica/replicatest"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

type item struct {
	ID      cloud.ID `row:"1"`
	Name    string   `row:"2"`
	Place   int      `row:"3"`
	Note    string   `row:"4"`
	Unknown cloud.Unknown
}

var items = store.Define(store.Def[item]{
	Name: "items",
	ID:   func(r *item) cloud.ID { return r.ID },
	Indexes: []store.Index[item]{
		{Name: "name", Unique: true, Key: func(r *item) store.Key { return store.K(r.Name) }},
	},
})

func put(ctx context.Context, r *replica.Replica, name string) error {
	return r.Update(ctx, func(tx *store.Tx) error {
		return items.Put(tx, &item{ID: tx.NewID(), Name: name})
	})
}

func TestUpdate(t *testing.T) {
	ctx := t.Context()
	r := replicatest.Single(t, items)
	if err := put(ctx, r, "a"); err != nil {
		t.Fatal(err)
	}
	if _, ok := items.First(r.DB().Current(), "name", store.K("a")); !ok {
		t.Error("the row is not there when Update returns")
	}
	var conflict *store.Conflict
	if err := put(ctx, r, "a"); !errors.As(err, &conflict) {
		t.Errorf("second put: %v, want a conflict", err)
	}
	var panicked *store.Panicked
	err := r.Update(ctx, func(tx *store.Tx) error {
		if err := items.Put(tx, &item{ID: tx.NewID(), Name: "b"}); err != nil {
			return err
		}
		panic("boo")
	})
	if !errors.As(err, &panicked) {
		t.Errorf("panicking closure: %v", err)
	}
	if n := items.Len(r.DB().Current()); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
}

func TestThreeReplicas(t *testing.T) {
	ctx := t.Context()
	c := replicatest.New(t, 3, items)
	l := c.LeaderIndex()
	if err := put(ctx, c.Nodes[l], "a"); err != nil {
		t.Fatal(err)
	}
	var not *replica.NotLeader
	if err := put(ctx, c.Nodes[(l+1)%3], "b"); !errors.As(err, &not) {
		t.Fatalf("update on a follower: %v", err)
	}
	c.Settle()
}

// TestIsolatedLeaderTellsNothingOld asks a leader that is cut off again and again,
// while the state moves on elsewhere: no answer to a question asked after the move
// may come from before it.
func TestIsolatedLeaderTellsNothingOld(t *testing.T) {
	c := replicatest.New(t, 3, items)
	i := c.LeaderIndex()
	old := c.Nodes[i]
	if err := put(t.Context(), old, "a"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var moved atomic.Bool
	var asked atomic.Int64
	errNoB := errors.New("there is no b")
	hasB := func(r store.Reader) error {
		if items.Count(r, "name", store.K("b")) == 0 {
			return errNoB
		}
		return nil
	}
	questions := map[string]func() error{
		"an update that writes nothing": func() error {
			return old.Update(ctx, func(tx *store.Tx) error { return hasB(tx) })
		},
		"a read after a barrier": func() error {
			if err := old.Barrier(ctx); err != nil {
				return err
			}
			return hasB(old.DB().Current())
		},
	}
	var askers sync.WaitGroup
	for name, ask := range questions {
		for range 4 {
			askers.Go(func() {
				for ctx.Err() == nil {
					before := moved.Load()
					if err := ask(); before && errors.Is(err, errNoB) {
						t.Errorf("%s was answered from the past", name)
					}
					asked.Add(1)
				}
			})
		}
	}
	c.Isolate(i)
	replicatest.Wait(t, 20*time.Second, "b on another leader", func() error {
		for j, r := range c.Nodes {
			if _, _, leads := r.Leader(); leads && j != i {
				return put(ctx, r, "b")
			}
		}
		return errors.New("no other leader")
	})
	moved.Store(true)
	n := asked.Load()
	replicatest.Wait(t, 20*time.Second, "more questions", func() error {
		if asked.Load() < n+100 {
			return errors.New("too few")
		}
		return nil
	})
	cancel()
	askers.Wait()
}

func TestOnCommit(t *testing.T) {
	r := replicatest.Single(t, items)
	var calls []string
	run := func(name string, err error) {
		t.Helper()
		got := r.Update(t.Context(), func(tx *store.Tx) error {
			tx.OnCommit(func() {
				// It comes after the state is there, and before Update returns.
				calls = append(calls, fmt.Sprint(name, items.Len(r.DB().Current())))
			})
			return errors.Join(items.Put(tx, &item{ID: tx.NewID(), Name: name}), err)
		})
		if (got == nil) != (err == nil) {
			t.Errorf("%s: %v", name, got)
		}
	}
	run("a", nil)
	run("b", errors.New("no"))
	run("c", nil)
	if diff := cmp.Diff([]string{"a1", "c2"}, calls); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestUpdatesTogether has many clients change one row: none may build on a state
// without the others' changes.
func TestUpdatesTogether(t *testing.T) {
	c := replicatest.New(t, 3, items)
	r := c.Leader()
	id := cloud.ID{1}
	if err := r.Update(t.Context(), func(tx *store.Tx) error { return items.Put(tx, &item{ID: id}) }); err != nil {
		t.Fatal(err)
	}
	before := r.DB().Current().Index()
	var clients sync.WaitGroup
	const n, each = 64, 20
	for range n {
		clients.Go(func() {
			for range each {
				if err := r.Update(t.Context(), func(tx *store.Tx) error {
					return items.Edit(tx, id, func(i *item) error { i.Place++; return nil })
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	clients.Wait()
	row, _ := items.Get(r.DB().Current(), id)
	entries := r.DB().Current().Index() - before
	if row.Place != n*each {
		t.Errorf("%d changes are left of %d", row.Place, n*each)
	}
	if entries > n*each/2 {
		t.Errorf("%d closures took %d log entries: they are not committed together", n*each, entries)
	}
	c.Settle()
}

// TestUpdateGivenUp ends the contexts of updates that wait, that run, and that are
// being committed.
func TestUpdateGivenUp(t *testing.T) {
	r := replicatest.Single(t, items)
	running, goOn := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error)
	go func() {
		first <- r.Update(ctx, func(tx *store.Tx) error {
			close(running)
			<-goOn
			return items.Put(tx, &item{ID: tx.NewID(), Name: "first"})
		})
	}()
	<-running
	// The second one waits behind the first. Given up, it is never run.
	waiting, giveUp := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer giveUp()
	err := r.Update(waiting, func(tx *store.Tx) error {
		t.Error("a closure that was given up is run")
		return nil
	})
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, replica.ErrOutcomeUnknown) {
		t.Errorf("given up while it waited: %v", err)
	}
	// The first one runs. Update returns only after it has ended.
	cancel()
	select {
	case err := <-first:
		t.Fatalf("returned while its closure runs: %v", err)
	case <-time.After(10 * time.Millisecond):
	}
	close(goOn)
	if err := <-first; err != nil && !(errors.Is(err, replica.ErrOutcomeUnknown) && errors.Is(err, context.Canceled)) {
		t.Errorf("given up while it ran: %v", err)
	}
	if err := put(t.Context(), r, "last"); err != nil {
		t.Fatal(err)
	}
	if err := r.Update(ctx, func(*store.Tx) error { return nil }); !errors.Is(err, context.Canceled) || errors.Is(err, replica.ErrOutcomeUnknown) {
		t.Errorf("with a context that has ended: %v", err)
	}
}
