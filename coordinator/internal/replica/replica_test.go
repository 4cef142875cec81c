package replica_test

import (
	"context"
	"errors"
	"testing"

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
