package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

const (
	tidyEvery = 10 * time.Minute
	// young is how old a file must be before it is taken for rubbish: its row may be on its way.
	young = time.Hour
)

// keepTidy removes files that nothing names, and on the leader rows that nothing needs, now and then.
func (w *Worker) keepTidy(ctx context.Context) {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for {
		if err := w.TidyFiles(time.Now()); err != nil {
			w.Log.Warn("secondary storage could not be tidied", "error", err)
		}
		if err := w.measure(ctx); err != nil {
			w.Log.Debug("secondary storage not measured", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// TidyFiles removes the files of this coordinator's image stores that no template or volume names.
func (w *Worker) TidyFiles(now time.Time) error {
	r := w.Replica.DB().Current()
	var errs []error
	for s := range tables.ImageStores.All(r) {
		errs = append(errs, tidyDir(filepath.Join(dir(s), "images"), now, func(name string) bool {
			return !validSHA(name) || tables.Templates.Count(r, "sha256", store.K(name)) > 0 || tables.Volumes.Count(r, "sha256", store.K(name)) > 0
		}))
		errs = append(errs, tidyDir(filepath.Join(dir(s), "incoming"), now, func(name string) bool {
			id, ok := partOf(name)
			if !ok {
				return false
			}
			t, ok := tables.Templates.Get(r, id)
			return ok && (t.State == cloud.TemplateWaiting || t.State == cloud.TemplateDownloading)
		}))
	}
	return errors.Join(errs...)
}

// tidyDir removes the old files of a directory that are not to be kept.
func tidyDir(path string, now time.Time, keep func(name string) bool) error {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("tidy image store: %w", err)
	}
	var errs []error
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || now.Sub(info.ModTime()) < young || keep(e.Name()) {
			continue
		}
		if err := os.Remove(filepath.Join(path, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("tidy image store: %w", err))
		}
	}
	return errors.Join(errs...)
}

// measure writes how full the image stores are and removes rows nobody needs; only the leader's Update succeeds.
func (w *Worker) measure(ctx context.Context) error {
	type figures struct{ capacity, used uint64 }
	seen := map[cloud.ID]figures{}
	for s := range tables.ImageStores.All(w.Replica.DB().Current()) {
		var st syscall.Statfs_t
		if err := syscall.Statfs(dir(s), &st); err != nil {
			continue // not made yet
		}
		size := uint64(st.Bsize)
		seen[s.ID] = figures{st.Blocks * size, (st.Blocks - st.Bfree) * size}
	}
	return w.Replica.Update(ctx, func(tx *store.Tx) error {
		for id, f := range seen {
			s, ok := tables.ImageStores.Get(tx, id)
			if !ok {
				continue
			}
			s.Capacity, s.Used = f.capacity, f.used
			if err := tables.ImageStores.Put(tx, s); err != nil {
				return err
			}
		}
		return Tidy(tx)
	})
}
