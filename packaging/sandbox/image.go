package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/wispcloud/wisp/images/tinyguest"
	"github.com/wispcloud/wisp/packaging/lab"
)

// image is a built image; version is that of a system VM.
type image struct {
	path    string
	sha256  string
	version string
}

// guestBanner is what the guest shows on its serial console when it is up.
const guestBanner = "Wisp tiny guest"

// kvmAnswer is the outcome of a probe.
type kvmAnswer struct {
	works bool
	why   string
}

// buildImage builds the guest, and begins to find out whether it runs under KVM
// while other steps go on.
func (s *Sandbox) buildImage(ctx context.Context) error {
	out := filepath.Join(s.cfg.Bin, "image")
	m, err := tinyguest.Build(ctx, out, s.cfg.Images)
	if err != nil {
		return err
	}
	s.image = image{path: filepath.Join(out, m.File), sha256: m.SHA256}
	s.steps.say("%s, %.1f MB, %s", m.File, float64(m.Size)/1e6, m.Kernel)
	s.kvm = make(chan kvmAnswer, 1)
	go func() {
		works, why := lab.ProbeKVM(ctx, s.image.path, guestBanner)
		s.kvm <- kvmAnswer{works, why}
	}()
	return nil
}

// awaitProbe says in one line how guests run.
func (s *Sandbox) awaitProbe(ctx context.Context) error {
	select {
	case s.accel = <-s.kvm:
		if s.accel.works {
			s.steps.say("KVM")
		} else {
			s.steps.say("software emulation, which is slower: %s", s.accel.why)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// serve offers the image on loopback until the returned function is
// called; the coordinator fetches it into secondary storage.
func serve(path string) (url string, stop func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("serve image: %w", err)
	}
	name := filepath.Base(path)
	mux := http.NewServeMux()
	mux.HandleFunc("/"+name, func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, path) })
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			fmt.Fprintln(os.Stderr, "serve image:", err)
		}
	}()
	stop = func() {
		_ = server.Close()
		<-done
	}
	return fmt.Sprintf("http://%s/%s", listener.Addr(), name), stop, nil
}
