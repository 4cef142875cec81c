package agenttest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/wispcloud/wisp/agent/internal/desired"
	"github.com/wispcloud/wisp/agent/internal/disk"
	"github.com/wispcloud/wisp/agent/internal/image"
	"github.com/wispcloud/wisp/agent/internal/ledger"
	"github.com/wispcloud/wisp/proto/hostspec"
)

type simPools struct{ h *Host }

// Open implements reconcile.Pools.
func (s simPools) Open(_ context.Context, pool *hostspec.StoragePool) (disk.Capacity, error) {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	if err := s.h.broken(OpPool, pool.GetId()); err != nil {
		return disk.Capacity{}, err
	}
	return disk.Capacity{Bytes: s.h.options.PoolBytes, Used: uint64(len(s.h.volumes)) << 30, Direct: true}, nil
}

type simImages struct {
	h      *Host
	source image.Source
}

// Has implements reconcile.Images.
func (s simImages) Has(pool *hostspec.StoragePool, want *hostspec.Image) (bool, error) {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	return s.h.images[image.Path(pool, want.GetSha256(), want.GetFormat())], nil
}

// Fetch implements reconcile.Images.
func (s simImages) Fetch(ctx context.Context, pool *hostspec.StoragePool, want *hostspec.Image, progress func(uint64)) error {
	if err := s.h.work(ctx, s.h.options.Latency.Image); err != nil {
		return err
	}
	s.h.mu.Lock()
	err := s.h.broken(OpImage, want.GetSha256())
	s.h.mu.Unlock()
	if err != nil {
		return err
	}
	if s.h.options.FetchImages {
		sum := sha256.New()
		if _, err := s.source.Fetch(ctx, want.GetSha256(), 0, sum); err != nil {
			return err
		}
		if got := hex.EncodeToString(sum.Sum(nil)); got != want.GetSha256() {
			return fmt.Errorf("verify image: content has SHA-256 %s", got)
		}
	}
	progress(want.GetSizeBytes())
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	s.h.images[image.Path(pool, want.GetSha256(), want.GetFormat())] = true
	return nil
}

// Verify implements reconcile.Images. SpoilImage damages what is there.
func (s simImages) Verify(pool *hostspec.StoragePool, sum string) (image.Set, error) {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	path := image.Path(pool, sum, desired.FormatSystemVM)
	if s.h.spoilt[sum] {
		delete(s.h.spoilt, sum)
		delete(s.h.images, path)
		return image.Set{}, fmt.Errorf("image %s: %w; fetching it again", sum, image.ErrCorrupted)
	}
	if !s.h.images[path] {
		return image.Set{}, fmt.Errorf("image %s is not there", sum)
	}
	return image.Set{Version: s.h.options.SystemVersion, Cmdline: "quiet", Kernel: path, Initrd: path, Root: path}, nil
}

// SpoilImage damages a system VM's image on the host's disk.
func (h *Host) SpoilImage(sum string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.spoilt[sum] = true
}

// Sweep implements reconcile.Images: a simulated cache never fills up.
func (s simImages) Sweep(*hostspec.StoragePool, map[string]bool) error { return nil }

type simVolumes struct {
	h     *Host
	facts *ledger.Facts[ledger.VolumeFacts]
}

// Observe implements reconcile.Volumes.
func (s simVolumes) Observe(pool *hostspec.StoragePool, want *hostspec.Volume) (disk.State, error) {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	path := disk.Path(pool, want.GetId())
	if s.h.volumes[path] {
		return disk.State{Present: true, Allocated: 1 << 20}, nil
	}
	if made, ok := s.facts.Get(want.GetId()); ok && made.Done {
		return disk.State{}, desired.Permanent(fmt.Errorf("file %s is gone: it was made here and is not made anew", path))
	}
	return disk.State{}, nil
}

// Create implements reconcile.Volumes.
func (s simVolumes) Create(ctx context.Context, pool *hostspec.StoragePool, want *hostspec.Volume, backing string) error {
	if err := s.h.work(ctx, s.h.options.Latency.Volume); err != nil {
		return err
	}
	path := disk.Path(pool, want.GetId())
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	if err := s.h.broken(OpVolume, want.GetId()); err != nil {
		return err
	}
	if want.GetImageSha256() != "" && !s.h.images[backing] {
		return fmt.Errorf("image %s is not there", backing)
	}
	if s.h.volumes[path] {
		return errors.New("volume exists")
	}
	s.h.volumes[path] = true
	return s.facts.Put(want.GetId(), ledger.VolumeFacts{PoolID: pool.GetId(), Path: path, Done: true})
}

// Delete implements reconcile.Volumes.
func (s simVolumes) Delete(pool *hostspec.StoragePool, id string) error {
	s.h.mu.Lock()
	err := s.h.broken(OpVolume, id)
	if err == nil {
		delete(s.h.volumes, disk.Path(pool, id))
	}
	s.h.mu.Unlock()
	if err != nil {
		return err
	}
	return s.facts.Delete(id)
}
