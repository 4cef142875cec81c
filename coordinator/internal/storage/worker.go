package storage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Replica is what the downloader needs of the replicated state.
type Replica interface {
	DB() *store.DB
	Update(ctx context.Context, f func(tx *store.Tx) error) error
	RunOnLeader(ctx context.Context, name string, f func(context.Context) error)
}

// Worker downloads templates while its coordinator leads, and keeps its directories tidy always.
type Worker struct {
	Replica Replica
	Count   Counter
	Event   EventWriter
	Log     *slog.Logger
	// Retry is the pause before the second try; it doubles. 0 means 5 s.
	Retry time.Duration
	// Inspect, optional, looks at an admitted qcow2 file a second time: QEMUInfo.
	Inspect func(ctx context.Context, path string) error
}

const (
	// atOnce is how many templates are downloaded at the same time.
	atOnce = 3
	// tries is how often a download is begun before its template fails.
	tries = 5
)

// Run does its work until ctx ends.
func (w *Worker) Run(ctx context.Context) {
	var runs sync.WaitGroup
	runs.Go(func() { w.Replica.RunOnLeader(ctx, "template downloads", w.download) })
	runs.Go(func() { w.keepTidy(ctx) })
	runs.Wait()
}

// download starts a download for each template that waits, while this coordinator leads.
func (w *Worker) download(ctx context.Context) error {
	db := w.Replica.DB()
	watch := db.Watch(tables.Templates, tables.ImageStores)
	defer watch.Close()
	var runs sync.WaitGroup
	defer runs.Wait()
	running := map[cloud.ID]bool{}
	ended := make(chan cloud.ID, atOnce)
	for {
		for _, t := range waiting(db.Current()) {
			if running[t.ID] || len(running) == atOnce {
				continue
			}
			running[t.ID] = true
			runs.Go(func() {
				w.one(ctx, t)
				ended <- t.ID
			})
		}
		select {
		case <-ctx.Done():
			return nil
		case id := <-ended:
			delete(running, id)
		case <-watch.C():
			watch.Touched()
		}
	}
}

// waiting lists the templates whose content is to be downloaded and that have a place to go.
func waiting(r store.Reader) []*cloud.Template {
	var out []*cloud.Template
	for _, s := range []cloud.TemplateState{cloud.TemplateWaiting, cloud.TemplateDownloading} {
		for t := range tables.Templates.By(r, "state", store.K(s)) {
			if _, ok := storeFor(r, t.ZoneID); ok {
				out = append(out, t)
			}
		}
	}
	return out
}

// one brings the content of a template, or says why it cannot be had.
func (w *Worker) one(ctx context.Context, t *cloud.Template) {
	log := w.Log.With("template", t.ID, "name", t.Name)
	pause := w.Retry
	if pause == 0 {
		pause = 5 * time.Second
	}
	for try := 1; ; try++ {
		err := w.attempt(ctx, t)
		switch {
		case err == nil:
			log.Info("template is ready")
			return
		case ctx.Err() != nil:
			return // the next leader goes on
		case errors.Is(err, errGone):
			log.Info("download ended: the template was removed")
			return
		}
		var p *permanent
		if errors.As(err, &p) || try == tries {
			log.Warn("template cannot be had", "error", err)
			w.failed(ctx, t, err)
			return
		}
		log.Info("download will be tried again", "try", try, "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause *= 2
	}
}

// errGone says that the template was removed meanwhile.
var errGone = errors.New("the template was removed")

func (w *Worker) attempt(ctx context.Context, t *cloud.Template) error {
	r := w.Replica.DB().Current()
	s, ok := storeFor(r, t.ZoneID)
	if !ok {
		return errors.New("there is no secondary storage")
	}
	if err := prepare(s); err != nil {
		return err
	}
	sites, err := ParseSites(allowedSites.Text(r))
	if err != nil {
		w.Log.Warn("setting is not usable; no internal site is allowed", "setting", allowedSites.Name, "error", err)
	}
	if err := w.edit(ctx, t.ID, func(row *cloud.Template) {
		row.State, row.ImageStoreID, row.Error = cloud.TemplateDownloading, s.ID, ""
	}); err != nil {
		return err
	}
	path := incomingPath(s, t.ID)
	f := fetch{
		client: Guard{sites}.Client(), url: t.URL, path: path, max: maxImageSize.Int(r) << 30,
		progress: w.progress(ctx, t.ID),
	}
	if err := f.run(ctx); err != nil {
		return err
	}
	return w.admit(ctx, t, s, path)
}

// progress writes how far a download is, seldom, and ends it when the template is removed.
func (w *Worker) progress(ctx context.Context, id cloud.ID) func(done, total int64) error {
	last, written := time.Time{}, uint8(0)
	return func(done, total int64) error {
		now := time.Now()
		if now.Sub(last) < time.Second {
			return nil
		}
		last = now
		t, ok := tables.Templates.Get(w.Replica.DB().Current(), id)
		if !ok || t.State == cloud.TemplateRemoved {
			return errGone
		}
		if total <= 0 {
			return nil
		}
		percent := uint8(done * 99 / total) // 100 is told when it is admitted
		if percent < written+2 {
			return nil
		}
		written = percent
		return w.edit(ctx, id, func(row *cloud.Template) { row.Progress = percent })
	}
}

// edit changes a template's row, unless it was removed.
func (w *Worker) edit(ctx context.Context, id cloud.ID, f func(*cloud.Template)) error {
	return w.Replica.Update(ctx, func(tx *store.Tx) error {
		t, ok := tables.Templates.Get(tx, id)
		if !ok || t.State == cloud.TemplateRemoved {
			return errGone
		}
		f(t)
		return tables.Templates.Put(tx, t)
	})
}

// admit checks a downloaded file and makes it the template's content.
func (w *Worker) admit(ctx context.Context, t *cloud.Template, s *cloud.ImageStore, path string) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open incoming file: %w", err)
	}
	defer file.Close()
	sum, size, err := verify(ctx, file, t.Checksum)
	if err != nil {
		return w.drop(path, err)
	}
	virtual, err := w.check(ctx, t, file, size)
	if err != nil {
		return w.drop(path, err)
	}
	if err := admit(file, imagePath(s, sum)); err != nil {
		return err
	}
	if err := discard(path); err != nil {
		w.Log.Warn("could not remove what a download left", "path", path, "error", err)
	}
	err = w.Replica.Update(ctx, func(tx *store.Tx) error {
		row, ok := tables.Templates.Get(tx, t.ID)
		if !ok || row.State == cloud.TemplateRemoved {
			return errGone
		}
		if err := w.Count(tx, row.AccountID, cloud.ResourceSecondaryStorage, gib(uint64(size))); err != nil {
			return err
		}
		row.State, row.Progress, row.SHA256, row.FileBytes, row.SizeBytes = cloud.TemplateReady, 100, sum, uint64(size), virtual
		row.Version = t.Version
		if err := tables.Templates.Put(tx, row); err != nil {
			return err
		}
		return w.Event(tx, &cloud.Event{
			Type: "TEMPLATE.DOWNLOAD.SUCCESS", State: cloud.EventCompleted, AccountID: row.AccountID, DomainID: row.DomainID,
			ResourceID: row.ID, Description: "Template " + row.Name + " was downloaded",
		})
	})
	if cloud.CodeOf(err) == cloud.LimitExceeded {
		return final(err)
	}
	return err
}

// drop removes a file that was refused; another download would give the same.
func (w *Worker) drop(path string, why error) error {
	if errors.Is(why, context.Canceled) {
		return why
	}
	return final(errors.Join(why, discard(path)))
}

// verify reads the whole file: its SHA-256, and whether it is what the template's checksum says.
func verify(ctx context.Context, f *os.File, want string) (sum string, size int64, err error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", 0, fmt.Errorf("read incoming file: %w", err)
	}
	own := sha256.New()
	to := io.Writer(own)
	c, err := parseChecksum(want)
	if err != nil {
		return "", 0, err
	}
	var theirs hash.Hash
	if c != nil {
		theirs = c.new()
		to = io.MultiWriter(own, theirs)
	}
	if size, err = io.Copy(to, &ctxReader{ctx, f}); err != nil {
		return "", 0, fmt.Errorf("read incoming file: %w", err)
	}
	if c != nil {
		if got := hex.EncodeToString(theirs.Sum(nil)); got != c.want {
			return "", 0, fmt.Errorf("the file's %s checksum is %s, not %s", c.name, got, c.want)
		}
	}
	return hex.EncodeToString(own.Sum(nil)), size, nil
}

func (w *Worker) check(ctx context.Context, t *cloud.Template, f *os.File, size int64) (virtual uint64, err error) {
	switch t.Format {
	case "RAW":
		return CheckRaw(size)
	case cloud.FormatSystemVM:
		return checkSystem(ctx, t, f)
	}
	if virtual, err = CheckQCOW2(f, size); err != nil {
		return 0, err
	}
	if w.Inspect != nil {
		err = w.Inspect(ctx, f.Name())
	}
	return virtual, err
}

// failed writes why a template cannot be had.
func (w *Worker) failed(ctx context.Context, t *cloud.Template, why error) {
	text := why.Error()
	var refused *cloud.Error
	if errors.As(why, &refused) {
		text = refused.Text
	}
	err := w.Replica.Update(ctx, func(tx *store.Tx) error {
		row, ok := tables.Templates.Get(tx, t.ID)
		if !ok || row.State == cloud.TemplateRemoved {
			return nil
		}
		row.State, row.Error, row.Progress = cloud.TemplateFailed, text, 0
		if err := tables.Templates.Put(tx, row); err != nil {
			return err
		}
		return w.Event(tx, &cloud.Event{
			Type: "TEMPLATE.DOWNLOAD.FAILED", Level: cloud.EventError, State: cloud.EventCompleted, AccountID: row.AccountID,
			DomainID: row.DomainID, ResourceID: row.ID, Description: "Template " + row.Name + " failed to download: " + text,
		})
	})
	if err != nil {
		w.Log.Error("could not write that a template failed", "template", t.ID, "error", err)
	}
}

// QEMUInfo asks qemu-img, where it is installed, whether it sees anything in a qcow2 file that CheckQCOW2 did not. The
// file was checked before, so qemu-img opens nothing but it.
func QEMUInfo(ctx context.Context, path string) error {
	bin, err := exec.LookPath("qemu-img")
	if err != nil {
		return nil // a second opinion only
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, "info", "-f", "qcow2", "--output=json", "--", path)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return refuse("qemu-img cannot read it: %.300s", bytes.TrimSpace(stderr.Bytes()))
	}
	var info struct {
		Backing  string `json:"backing-filename"`
		Snapshot []any  `json:"snapshots"`
		Specific struct {
			Data struct {
				DataFile string `json:"data-file"`
				Corrupt  bool   `json:"corrupt"`
			} `json:"data"`
		} `json:"format-specific"`
	}
	if err := json.Unmarshal(out, &info); err != nil {
		return fmt.Errorf("read answer of qemu-img: %w", err)
	}
	if info.Backing != "" || info.Specific.Data.DataFile != "" || info.Specific.Data.Corrupt || len(info.Snapshot) > 0 {
		return refuse("qemu-img sees that it does not stand alone")
	}
	return nil
}
