package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// permanent marks errors that another try will not change.
type permanent struct{ err error }

func (p *permanent) Error() string { return p.err.Error() }
func (p *permanent) Unwrap() error { return p.err }

func final(err error) error { return &permanent{err} }

// idle is how long a server may send nothing.
const idle = 60 * time.Second

// fetch downloads a URL into a file, going on behind what an earlier try has left there when the server says that it is
// still the same content. progress is told bytes and total (0: unknown).
type fetch struct {
	client   *http.Client
	url      string
	path     string
	max      int64
	progress func(done, total int64) error
}

// version is what a server calls the content it sends, kept beside a partial file.
type version struct {
	URL  string `json:"url"`
	ETag string `json:"etag"`
	Date string `json:"last_modified"`
}

// validator is what If-Range takes: a strong ETag or a date; "" allows no resuming.
func (v version) validator() string {
	if v.ETag != "" && !strings.HasPrefix(v.ETag, "W/") {
		return v.ETag
	}
	return v.Date
}

func (f *fetch) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	file, err := os.OpenFile(f.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open incoming file: %w", err)
	}
	err = f.into(ctx, cancel, file)
	return errors.Join(err, file.Close())
}

func (f *fetch) into(ctx context.Context, cancel context.CancelCauseFunc, file *os.File) error {
	have, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("read incoming file: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url, nil)
	if err != nil {
		return final(fmt.Errorf("make request: %w", err))
	}
	req.Header.Set("User-Agent", "wisp-coordinator")
	if v := f.former(); have > 0 && v.validator() != "" {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(have, 10)+"-")
		req.Header.Set("If-Range", v.validator())
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return classify(err)
	}
	defer resp.Body.Close()
	total, err := f.begin(resp, file, &have)
	if err != nil {
		return err
	}
	return f.copy(ctx, cancel, resp.Body, file, have, total)
}

// begin looks at the answer's head and positions the file.
func (f *fetch) begin(resp *http.Response, file *os.File, have *int64) (total int64, err error) {
	switch {
	case resp.StatusCode == http.StatusPartialContent && rangeStart(resp) == *have:
	case resp.StatusCode == http.StatusOK:
		*have = 0
		if err := file.Truncate(0); err != nil {
			return 0, fmt.Errorf("write incoming file: %w", err)
		}
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable, resp.StatusCode == http.StatusPartialContent:
		// The content changed, or is whole already and nothing can tell: begin anew.
		return 0, errors.Join(fmt.Errorf("server answered %s", resp.Status), file.Truncate(0))
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusRequestTimeout:
		return 0, fmt.Errorf("server answered %s", resp.Status)
	default:
		return 0, final(fmt.Errorf("server answered %s", resp.Status))
	}
	if resp.ContentLength >= 0 {
		total = *have + resp.ContentLength
	}
	if total > f.max {
		return 0, final(tooBig(f.max))
	}
	if *have == 0 {
		f.remember(version{URL: f.url, ETag: resp.Header.Get("ETag"), Date: resp.Header.Get("Last-Modified")})
	}
	if _, err := file.Seek(*have, io.SeekStart); err != nil {
		return 0, fmt.Errorf("write incoming file: %w", err)
	}
	return total, nil
}

func tooBig(limit int64) error {
	return fmt.Errorf("%w: it is larger than the %d GiB of the setting max.template.iso.size", ErrHostileImage, limit>>30)
}

func rangeStart(resp *http.Response) int64 {
	rest, ok := strings.CutPrefix(resp.Header.Get("Content-Range"), "bytes ")
	if !ok {
		return -1
	}
	first, _, _ := strings.Cut(rest, "-")
	n, err := strconv.ParseInt(first, 10, 64)
	if err != nil {
		return -1
	}
	return n
}

var errIdle = errors.New("the server sent nothing for a minute")

func (f *fetch) copy(ctx context.Context, cancel context.CancelCauseFunc, body io.Reader, file *os.File, have, total int64) error {
	timer := time.AfterFunc(idle, func() { cancel(errIdle) })
	defer timer.Stop()
	buf := make([]byte, 1<<20)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			timer.Reset(idle)
			if have += int64(n); have > f.max {
				return final(tooBig(f.max))
			}
			if _, err := file.Write(buf[:n]); err != nil {
				return fmt.Errorf("write incoming file: %w", err)
			}
			if err := f.progress(have, total); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			if total > 0 && have != total {
				return fmt.Errorf("download ended after %d of %d bytes", have, total)
			}
			return nil
		case err != nil && ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return fmt.Errorf("download: %w", err)
		}
	}
}

// classify tells whether a failed request is worth another try.
func classify(err error) error {
	var refused *cloud.Error
	if errors.Is(err, ErrForbiddenAddress) || errors.As(err, &refused) {
		return final(err)
	}
	return fmt.Errorf("download: %w", err)
}

func (f *fetch) former() version {
	var v version
	b, err := os.ReadFile(f.path + ".json")
	if err != nil || json.Unmarshal(b, &v) != nil || v.URL != f.url {
		return version{}
	}
	return v
}

// remember keeps the version of what is being downloaded. Should that fail, the next try begins anew.
func (f *fetch) remember(v version) {
	b, err := json.Marshal(v)
	if err != nil || os.WriteFile(f.path+".json", b, 0o600) != nil {
		_ = os.Remove(f.path + ".json")
	}
}

// discard removes what a download has left.
func discard(path string) error {
	var errs []error
	for _, p := range []string{path, path + ".json"} {
		if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// partOf tells which template a file in incoming belongs to.
func partOf(name string) (cloud.ID, bool) {
	base := filepath.Base(name)
	base = strings.TrimSuffix(strings.TrimSuffix(base, ".json"), ".part")
	id, err := cloud.ParseID(base)
	return id, err == nil
}
