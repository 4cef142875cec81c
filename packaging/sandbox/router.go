package sandbox

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/wispcloud/wisp/images/systemvm"
	"github.com/wispcloud/wisp/packaging/api"
)

// Places of the router of a guest network.
const (
	RouterOnHost = "host"
	RouterInVM   = "vm"
)

// systemVMDeclaration is applied after the cloud's own: a system VM's template
// needs a zone, and no router is placed before the first VM starts.
//
//go:embed systemvm.yaml
var systemVMDeclaration []byte

// routerPath holds where the routers of a sandbox are.
func (c Config) routerPath() string { return filepath.Join(c.Dir, "router") }

func (c Config) keepRouter() error { return writePrivate(c.routerPath(), []byte(c.Router+"\n")) }

// checkRouter refuses to take up a sandbox whose routers are elsewhere.
func (c Config) checkRouter() error {
	text, err := os.ReadFile(c.routerPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if is := strings.TrimSpace(string(text)); is != c.Router {
		return fmt.Errorf("the sandbox was made with ROUTER=%s, not %s: keep it with ROUTER=%s, or run make sandbox-down first", is, c.Router, is)
	}
	return nil
}

// buildSystemVM builds the system VM's image. As with programs, a sandbox goes
// on with the one it has, whatever became of the checkout.
func (s *Sandbox) buildSystemVM(ctx context.Context) error {
	out := filepath.Join(s.cfg.Dir, "systemvm")
	m, err := keptSystemVM(out)
	if err != nil {
		return err
	}
	if m == nil {
		version, commit, err := systemvm.Describe(ctx, s.cfg.Source)
		if err != nil {
			version, commit = "unknown", "" // An unpacked archive of the sources: no checkout, but it builds.
		}
		if err := os.MkdirAll(out, 0o700); err != nil {
			return fmt.Errorf("make directory of the system VM's image: %w", err)
		}
		built, err := systemvm.Build(ctx, out, s.cfg.Images,
			systemvm.Options{Source: s.cfg.Source, Version: version, Commit: commit})
		if err != nil {
			return err
		}
		m = &built
	}
	s.systemVM = image{path: filepath.Join(out, m.Bundle.Name), sha256: m.Bundle.SHA256, version: m.Version}
	s.steps.say("%s, %.1f MB, %s", m.Bundle.Name, float64(m.Bundle.Size)/1e6, m.Kernel)
	return nil
}

// keptSystemVM is the whole image in dir, nil if there is none.
func keptSystemVM(dir string) (*systemvm.Manifest, error) {
	found, err := filepath.Glob(filepath.Join(dir, systemvm.ManifestFile("*")))
	if err != nil {
		return nil, err
	}
	before, after, _ := strings.Cut(systemvm.ManifestFile("*"), "*")
	for _, path := range found {
		version := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), before), after)
		if m, err := systemvm.Check(dir, version); err == nil {
			return &m, nil
		}
	}
	return nil, nil
}

// applyRouter registers the image and has routers placed in system VMs.
func (s *Sandbox) applyRouter(ctx context.Context) error {
	url, stop, err := serve(s.systemVM.path)
	if err != nil {
		return err
	}
	defer stop()
	declaration := filepath.Join(s.cfg.Dir, "systemvm.yaml")
	if err := writePrivate(declaration, systemVMDeclaration); err != nil {
		return fmt.Errorf("write declaration: %w", err)
	}
	return s.apply(ctx, declaration, map[string]string{
		"SANDBOX_SYSTEMVM_URL": url, "SANDBOX_SYSTEMVM_SHA256": s.systemVM.sha256, "SANDBOX_SYSTEMVM_VERSION": s.systemVM.version,
	})
}

// checkHelloRouter shows that the router of the VM hello is a system VM that
// runs the image.
func (s *Sandbox) checkHelloRouter(ctx context.Context) error {
	network, err := s.named(ctx, "listNetworks", "network", helloNetwork, nil)
	if err != nil {
		return err
	}
	routers, err := api.List[row](ctx, s.api, "listRouters", "router", api.Params{"networkid": network.text("id"), "listall": "true"})
	if err != nil {
		return err
	}
	if len(routers) != 1 {
		return fmt.Errorf("network %s has %d routers, want 1", helloNetwork, len(routers))
	}
	r := routers[0]
	if state, version := r.text("state"), r.text("version"); state != "Running" || version != s.systemVM.version {
		return fmt.Errorf("router %s is %s with version %q, want it Running as system VM %q", r.text("name"), state, version, s.systemVM.version)
	}
	s.steps.say("%s, image %s, on %s", r.text("name"), r.text("version"), r.text("hostname"))
	return nil
}
