package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wispcloud/wisp/agent/internal/desired"
	"github.com/wispcloud/wisp/agent/internal/disk"
	"github.com/wispcloud/wisp/agent/internal/image"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// How often unreferenced images are looked for.
const sweepEvery = time.Minute

// poolDeadline bounds one look at a pool; a dead NFS server answers never.
const poolDeadline = 2 * time.Minute

func (l *Loop) passStorage(ctx context.Context) time.Duration {
	s := l.Desired()
	if s == nil {
		return 0
	}
	l.tasks.storage.forget(s.Known)
	l.board.dropUnknown(s, desired.Pool, desired.Image, desired.Volume)
	for _, pool := range s.Pools {
		l.passPool(ctx, pool)
	}
	for _, want := range s.Images {
		l.passImage(ctx, s.Pools[want.GetPoolId()], want)
	}
	for _, want := range s.Volumes {
		l.passVolume(ctx, s, want)
	}
	if time.Since(l.lastSweep) > sweepEvery {
		l.lastSweep = time.Now()
		l.sweepImages(s)
	}
	return l.tasks.storage.next()
}

// passPool looks at a pool once per slow tick, as a task, because the look may hang.
func (l *Loop) passPool(ctx context.Context, pool *hostspec.StoragePool) {
	key := desired.Key{Kind: desired.Pool, ID: pool.GetId()}
	l.tasks.storage.do(ctx, key, "open", pool, func(ctx context.Context) (time.Duration, error) {
		ctx, cancel := context.WithTimeout(ctx, poolDeadline)
		defer cancel()
		capacity, err := l.config.Pools.Open(ctx, pool)
		if err != nil {
			l.board.put(key, Status{Err: err, Final: true})
			return 0, err
		}
		l.board.put(key, Status{Ready: true, Capacity: capacity})
		return l.config.Slow, nil
	})
}

func (l *Loop) poolReady(id string) (Status, error) {
	st := l.board.object(desired.Key{Kind: desired.Pool, ID: id})
	switch {
	case st.Err != nil:
		return st, fmt.Errorf("pool %s: %w", id, st.Err)
	case !st.Ready:
		return st, fmt.Errorf("pool %s: %w", id, disk.ErrNoPool)
	}
	return st, nil
}

func (l *Loop) passImage(ctx context.Context, pool *hostspec.StoragePool, want *hostspec.Image) {
	key := desired.Key{Kind: desired.Image, ID: want.GetSha256()}
	if st, err := l.poolReady(pool.GetId()); err != nil {
		l.put(key, Status{Err: waitingErr(err), Final: st.Final})
		return
	}
	has, err := l.config.Images.Has(pool, want)
	if err != nil || has {
		l.tasks.storage.settle(key)
		l.put(key, Status{Ready: has, Err: err, Final: desired.IsPermanent(err), Bytes: want.GetSizeBytes()})
		return
	}
	st := l.board.object(key)
	st.Ready = false
	st.Err, st.Final = l.tasks.storage.failed(key)
	l.put(key, st)
	l.tasks.storage.do(ctx, key, "fetch", want, func(ctx context.Context) (time.Duration, error) {
		lastTold := time.Now()
		return 0, l.config.Images.Fetch(ctx, pool, want, func(n uint64) {
			if time.Since(lastTold) > time.Second {
				lastTold = time.Now()
				l.board.put(key, Status{Bytes: n})
			}
		})
	})
}

// waitingErr hides that something merely has not been looked at yet.
func waitingErr(err error) error {
	if errors.Is(err, disk.ErrNoPool) {
		return nil
	}
	return err
}

func (l *Loop) passVolume(ctx context.Context, s *desired.State, want *hostspec.Volume) {
	key := desired.Key{Kind: desired.Volume, ID: want.GetId()}
	if st, err := l.poolReady(want.GetPoolId()); err != nil {
		l.put(key, Status{Err: waitingErr(err), Final: st.Final})
		return
	}
	pool := s.Pools[want.GetPoolId()]
	if want.GetRemoved() {
		l.removeVolume(s, pool, want)
		return
	}
	state, err := l.config.Volumes.Observe(pool, want)
	if err != nil || state.Present {
		l.tasks.storage.settle(key)
		l.put(key, Status{Ready: state.Present, Err: err, Final: desired.IsPermanent(err), Bytes: state.Allocated})
		return
	}
	backing := ""
	if sum := want.GetImageSha256(); sum != "" {
		st := l.board.object(desired.Key{Kind: desired.Image, ID: sum})
		if !st.Ready {
			if st.Err != nil {
				st.Err = fmt.Errorf("image %s: %w", sum, st.Err)
			}
			l.put(key, Status{Err: st.Err, Final: st.Final})
			return
		}
		img := s.Images[sum]
		backing = image.Path(s.Pools[img.GetPoolId()], sum, img.GetFormat())
	}
	st := Status{}
	st.Err, st.Final = l.tasks.storage.failed(key)
	l.put(key, st)
	l.tasks.storage.do(ctx, key, "create", want, func(ctx context.Context) (time.Duration, error) {
		return 0, l.config.Volumes.Create(ctx, pool, want, backing)
	})
}

// put writes to the board; when an object got ready, or stopped being so, its dependants are woken.
func (l *Loop) put(key desired.Key, s Status) {
	if l.board.put(key, s) {
		if key.Kind == desired.Image {
			l.storage.poke()
		}
		l.compute.poke()
	}
}

// removeVolume deletes a volume that the spec wants gone, once the compute lane has seen that no domain has it open.
func (l *Loop) removeVolume(s *desired.State, pool *hostspec.StoragePool, want *hostspec.Volume) {
	key := desired.Key{Kind: desired.Volume, ID: want.GetId()}
	inUse, ok := l.filesInUse(s.Generation)
	if !ok || inUse[disk.Path(pool, want.GetId())] || l.tasks.storage.busy(key) {
		l.put(key, Status{})
		return
	}
	err := l.config.Volumes.Delete(pool, want.GetId())
	l.put(key, Status{Gone: err == nil, Err: err})
}

// filesInUse are the files any domain of ours names; ok is false until domains were looked at under this generation.
func (l *Loop) filesInUse(generation uint64) (files map[string]bool, ok bool) {
	b := l.board
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.looked || b.computeAt < generation {
		return nil, false
	}
	files = map[string]bool{}
	for _, d := range b.seen {
		for _, f := range d.Files {
			files[f] = true
		}
	}
	return files, true
}

func (l *Loop) sweepImages(s *desired.State) {
	keep := map[string]bool{}
	for sum := range s.Images {
		keep[sum] = true
	}
	for key := range s.Problems {
		if key.Kind == desired.Image {
			keep[key.ID] = true
		}
	}
	for _, v := range s.Volumes {
		keep[v.GetImageSha256()] = true
	}
	for id, pool := range s.Pools {
		// Other hosts may need what lies in a shared pool.
		if pool.GetType() != hostspec.PoolType_POOL_TYPE_LOCAL {
			continue
		}
		if _, err := l.poolReady(id); err != nil {
			continue
		}
		if err := l.config.Images.Sweep(pool, keep); err != nil {
			l.log.Error("cannot sweep images", "pool", id, "error", err)
		}
	}
}
