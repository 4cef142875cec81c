package storage

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/replica"
	"github.com/wispcloud/wisp/coordinator/internal/replica/replicatest"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// site is a coordinator with secondary storage and a downloader.
type site struct {
	t      *testing.T
	r      *replica.Replica
	w      *Worker
	dir    string
	zone   cloud.ID
	owner  *cloud.Account
	mu     sync.Mutex
	counts map[cloud.ResourceType]int64
	limit  int64 // of secondary storage, GiB
	events []string
	stop   func()
}

func newSite(t *testing.T) *site {
	s := &site{
		t: t, r: replicatest.Single(t, tables.Schema()...), dir: filepath.Join(t.TempDir(), "secondary"), zone: cloud.ID{1},
		owner: &cloud.Account{ID: cloud.ID{2}, DomainID: cloud.ID{3}, Name: "a"}, counts: map[cloud.ResourceType]int64{}, limit: 1000,
	}
	s.w = &Worker{Replica: s.r, Count: s.count, Event: func(_ *store.Tx, e *cloud.Event) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.events = append(s.events, e.Type)
		return nil
	}, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Retry: 10 * time.Millisecond, Inspect: QEMUInfo}
	s.update(func(tx *store.Tx) error {
		if err := tables.Settings.Put(tx, &cloud.Setting{ID: allowedSites.ID(), Name: allowedSites.Name, Value: "127.0.0.1"}); err != nil {
			return err
		}
		_, err := AddImageStore(tx, s.zone, "", "file://"+s.dir, "", nil)
		return err
	})
	s.start()
	return s
}

func (s *site) start() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { s.w.Run(ctx); close(done) }()
	var once sync.Once
	s.stop = func() { once.Do(func() { cancel(); <-done }) }
	s.t.Cleanup(s.stop)
}

func (s *site) count(_ *store.Tx, _ cloud.ID, t cloud.ResourceType, delta int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t == cloud.ResourceSecondaryStorage && s.counts[t]+delta > s.limit {
		return cloud.Errorf(cloud.LimitExceeded, "no more secondary storage")
	}
	s.counts[t] += delta
	return nil
}

func (s *site) update(f func(tx *store.Tx) error) {
	s.t.Helper()
	if err := s.r.Update(context.Background(), f); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) register(url, format, checksum string) cloud.ID {
	s.t.Helper()
	var id cloud.ID
	s.update(func(tx *store.Tx) error {
		t, err := Register(tx, Registration{
			Owner: s.owner, ZoneID: s.zone, Name: "t", DisplayText: "t", URL: url, Checksum: checksum, Format: format, Hypervisor: "KVM",
		}, s.count)
		if err == nil {
			id = t.ID
		}
		return err
	})
	return id
}

func (s *site) template(id cloud.ID) *cloud.Template {
	t, ok := tables.Templates.Get(s.r.DB().Current(), id)
	if !ok {
		s.t.Fatalf("template %s is not there", id)
	}
	return t
}

// ended waits until a download has ended, one way or the other.
func (s *site) ended(id cloud.ID) *cloud.Template {
	s.t.Helper()
	var t *cloud.Template
	replicatest.Wait(s.t, 20*time.Second, "end of a download", func() error {
		if t = s.template(id); t.State != cloud.TemplateReady && t.State != cloud.TemplateFailed {
			return fmt.Errorf("state %d, %d percent", t.State, t.Progress)
		}
		return nil
	})
	return t
}

// image is a good image with content.
func image() []byte {
	b := goodQCOW2(1 << 30)
	return append(b, bytes.Repeat([]byte("wisp"), 1<<18)...)
}

func serve(t *testing.T, h http.HandlerFunc) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL + "/image.qcow2"
}

func TestDownload(t *testing.T) {
	s := newSite(t)
	b := image()
	sum256, sum512, sumMD5 := sha256.Sum256(b), sha512.Sum512(b), md5.Sum(b)
	sha := hex.EncodeToString(sum256[:])
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(b) })
	for name, checksum := range map[string]string{
		"none": "", "md5": hex.EncodeToString(sumMD5[:]), "sha256": "{SHA-256}" + sha, "upper case": "{sha-256}" + strings.ToUpper(sha),
		"sha512 by length": hex.EncodeToString(sum512[:]),
	} {
		got := s.ended(s.register(url, "qcow2", checksum))
		if got.State != cloud.TemplateReady || got.SHA256 != sha || got.SizeBytes != 1<<30 || got.FileBytes != uint64(len(b)) || got.Progress != 100 {
			t.Errorf("checksum %s: %+v", name, got)
		}
	}
	f, size, err := NewFiles(func() store.Reader { return s.r.DB().Current() }).Open(sha)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, _ := io.ReadAll(f)
	if size != int64(len(b)) || !bytes.Equal(got, b) {
		t.Errorf("the file has %d bytes, and they differ", size)
	}
	if left, _ := os.ReadDir(filepath.Join(s.dir, "incoming")); len(left) != 0 {
		t.Errorf("downloads left %v", left)
	}
	if s.counts[cloud.ResourceTemplate] != 5 || s.counts[cloud.ResourceSecondaryStorage] != 5 {
		t.Errorf("counts %v", s.counts)
	}
}

func TestRefusedDownloads(t *testing.T) {
	s := newSite(t)
	b := image()
	backing := image()
	copy(backing[1024:], "/etc/passwd")
	put32(16, 11)(put64(8, 1024)(backing))
	of := func(content []byte) string {
		return serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content) })
	}
	inner := of(b)
	for name, c := range map[string]struct{ url, format, checksum, want string }{
		"checksum":         {of(b), "QCOW2", strings.Repeat("0", 64), "checksum is"},
		"backing file":     {of(backing), "QCOW2", "", "backing file"},
		"a text":           {of([]byte("hello")), "QCOW2", "", "no qcow2 file"},
		"half a sector":    {of([]byte("hello")), "RAW", "", "whole sectors"},
		"not there":        {serve(t, http.NotFound), "QCOW2", "", "404"},
		"forbidden":        {"http://127.0.0.2:9/a.qcow2", "QCOW2", "", "not public"},
		"sent to metadata": {serve(t, http.RedirectHandler("http://169.254.169.254/", http.StatusFound).ServeHTTP), "QCOW2", "", "not public"},
		"sent to a file":   {serve(t, http.RedirectHandler("file:///etc/passwd", http.StatusFound).ServeHTTP), "QCOW2", "", "http and https"},
		"too big": {serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(int64(51)<<30))
			w.WriteHeader(http.StatusOK)
		}), "QCOW2", "", "larger than the 50 GiB"},
		"always broken": {serve(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusBadGateway) }), "QCOW2", "", "502"},
	} {
		got := s.ended(s.register(c.url, c.format, c.checksum))
		if got.State != cloud.TemplateFailed || !strings.Contains(got.Error, c.want) || got.SHA256 != "" {
			t.Errorf("%s: state %d, error %q, want %q", name, got.State, got.Error, c.want)
		}
	}
	s.mu.Lock()
	s.limit = 0
	s.mu.Unlock()
	if got := s.ended(s.register(inner, "QCOW2", "")); got.State != cloud.TemplateFailed || got.Error != "no more secondary storage" {
		t.Errorf("over the limit: state %d, error %q", got.State, got.Error)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.events) != 11 || s.events[0] != "TEMPLATE.DOWNLOAD.FAILED" {
		t.Errorf("events %v", s.events)
	}
}

// TestResume cuts a download, stops the downloader as a lost leader does, and checks that the next one goes on behind
// what is there.
func TestResume(t *testing.T) {
	s := newSite(t)
	b := image()
	half := len(b) / 2
	first := make(chan struct{})
	var once sync.Once
	var mu sync.Mutex
	var ranges []string
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		ranges = append(ranges, r.Header.Get("Range"))
		n := len(ranges)
		mu.Unlock()
		w.Header().Set("ETag", `"v1"`)
		if n == 1 {
			w.Header().Set("Content-Length", fmt.Sprint(len(b)))
			_, _ = w.Write(b[:half])
			_ = http.NewResponseController(w).Flush()
			once.Do(func() { close(first) })
			<-r.Context().Done()
			return
		}
		http.ServeContent(w, r, "image.qcow2", time.Time{}, bytes.NewReader(b))
	})
	id := s.register(url, "QCOW2", "")
	<-first
	part := filepath.Join(s.dir, "incoming", id.String()+".part")
	replicatest.Wait(t, 10*time.Second, "half of the file", func() error {
		st, err := os.Stat(part)
		if err == nil && st.Size() != int64(half) {
			err = fmt.Errorf("%d of %d bytes", st.Size(), half)
		}
		return err
	})
	s.stop()
	s.start()
	if got := s.ended(id); got.State != cloud.TemplateReady || got.FileBytes != uint64(len(b)) {
		t.Errorf("%+v", got)
	}
	mu.Lock()
	defer mu.Unlock()
	if want := fmt.Sprintf("bytes=%d-", half); len(ranges) != 2 || ranges[1] != want {
		t.Errorf("ranges %q, want the second to be %q", ranges, want)
	}
}

// TestChangedContent checks that parts of two versions are not put together.
func TestChangedContent(t *testing.T) {
	s := newSite(t)
	old, b := bytes.Repeat([]byte("x"), 1<<20), image()
	var mu sync.Mutex
	n := 0
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		n++
		now := n
		mu.Unlock()
		if now == 1 {
			w.Header().Set("ETag", `"v1"`)
			w.Header().Set("Content-Length", fmt.Sprint(2*len(old)))
			_, _ = w.Write(old) // and the connection breaks
			return
		}
		w.Header().Set("ETag", `"v2"`)
		http.ServeContent(w, r, "image.qcow2", time.Time{}, bytes.NewReader(b))
	})
	if got := s.ended(s.register(url, "QCOW2", "")); got.State != cloud.TemplateReady || got.FileBytes != uint64(len(b)) {
		t.Errorf("state %d, %d bytes, error %q", got.State, got.FileBytes, got.Error)
	}
}

// TestRemoved checks that a template can be removed at any time, and what stays of it.
func TestRemoved(t *testing.T) {
	s := newSite(t)
	b := image()
	begun := make(chan struct{})
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 4096)); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	id := s.register(url, "RAW", "")
	<-begun
	s.update(func(tx *store.Tx) error { return Remove(tx, id, s.count) })
	s.update(Tidy)
	if _, ok := tables.Templates.Get(s.r.DB().Current(), id); ok {
		t.Error("the row of a removed template without volumes was kept")
	}
	if s.counts[cloud.ResourceTemplate] != 0 {
		t.Errorf("counts %v", s.counts)
	}

	used := s.ended(s.register(serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(b) }), "QCOW2", ""))
	volume := &cloud.Volume{ID: cloud.ID{9}, SHA256: used.SHA256, TemplateID: used.ID}
	s.update(func(tx *store.Tx) error { return tables.Volumes.Put(tx, volume) })
	s.update(func(tx *store.Tx) error { return Remove(tx, used.ID, s.count) })
	s.update(Tidy)
	s.stop()
	later := time.Now().Add(2 * young)
	file := filepath.Join(s.dir, "images", used.SHA256)
	tidy := func() error {
		if err := s.w.TidyFiles(later); err != nil {
			t.Fatal(err)
		}
		_, err := os.Stat(file)
		return err
	}
	if err := tidy(); err != nil || s.template(used.ID).State != cloud.TemplateRemoved {
		t.Errorf("the file of a removed template that a volume is made of: %v", err)
	}
	s.update(func(tx *store.Tx) error { return tables.Volumes.Delete(tx, volume.ID) })
	s.update(Tidy)
	if err := s.w.TidyFiles(time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("a young file was removed: %v", err)
	}
	if err := tidy(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file of nothing: %v", err)
	}
}

func TestImport(t *testing.T) {
	s := newSite(t)
	files := NewFiles(func() store.Reader { return s.r.DB().Current() })
	b := image()
	sum := sha256.Sum256(b)
	sha := hex.EncodeToString(sum[:])
	if err := files.Import(context.Background(), sha, bytes.NewReader(b[:100])); err == nil {
		t.Error("a cut file was imported")
	}
	if err := files.Import(context.Background(), "../../etc/passwd", bytes.NewReader(b)); err == nil {
		t.Error("a path was imported")
	}
	for _, name := range []string{"../../../../etc/passwd", "", sha[:63], strings.ToUpper(sha), sha} {
		if _, _, err := files.Open(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("open %q: %v", name, err)
		}
	}
	if err := files.Import(context.Background(), sha, bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	f, _, err := files.Open(sha)
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	if left, _ := os.ReadDir(filepath.Join(s.dir, "incoming")); len(left) != 0 {
		t.Errorf("imports left %v", left)
	}
}

func TestRegistrations(t *testing.T) {
	s := newSite(t)
	s.update(func(tx *store.Tx) error {
		return tables.Settings.Put(tx, &cloud.Setting{ID: PublicTemplates.ID(), Name: PublicTemplates.Name, Value: "false"})
	})
	good := Registration{Owner: s.owner, ZoneID: s.zone, Name: "t", URL: "http://example.org/a", Format: "qcow2", Hypervisor: "kvm"}
	for name, change := range map[string]func(*Registration){
		"url": func(r *Registration) { r.URL = "ftp://example.org/a" }, "format": func(r *Registration) { r.Format = "VHD" },
		"hypervisor": func(r *Registration) { r.Hypervisor = "XenServer" }, "checksum": func(r *Registration) { r.Checksum = "{SHA-256}00" },
		"all zones by a user": func(r *Registration) { r.ZoneID = cloud.ID{} }, "public by a user": func(r *Registration) { r.Public = true },
	} {
		reg := good
		change(&reg)
		err := s.r.Update(context.Background(), func(tx *store.Tx) error {
			_, err := Register(tx, reg, s.count)
			return err
		})
		if cloud.CodeOf(err) != cloud.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s.counts[cloud.ResourceTemplate] != 0 {
		t.Errorf("refused registrations were counted: %v", s.counts)
	}
	good.Featured = true
	s.update(func(tx *store.Tx) error {
		row, err := Register(tx, good, s.count)
		if err == nil && row.Featured {
			err = errors.New("a user's template is featured")
		}
		return err
	})
}
