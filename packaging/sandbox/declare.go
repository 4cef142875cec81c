package sandbox

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// applyCloud makes the cloud as the declaration says, with the product's own
// command line. The variables are those the declaration uses.
func (s *Sandbox) applyCloud(ctx context.Context) error {
	url, stop, err := serve(s.image.path)
	if err != nil {
		return err
	}
	defer stop()
	secondary := filepath.Join(s.cfg.Dir, "secondary")
	if err := os.MkdirAll(secondary, 0o700); err != nil {
		return fmt.Errorf("make secondary storage: %w", err)
	}
	return s.apply(ctx, s.cfg.Declaration, map[string]string{
		"SANDBOX_IMAGE_SITES":    "127.0.0.1/32",
		"SANDBOX_DNS":            nth(s.cfg.Mgmt, 1),
		"SANDBOX_PUBLIC_GATEWAY": nth(s.cfg.Public, 1), "SANDBOX_PUBLIC_NETMASK": netmask(s.cfg.Public),
		"SANDBOX_PUBLIC_START": nth(s.cfg.Public, 10), "SANDBOX_PUBLIC_END": nth(s.cfg.Public, 99),
		"SANDBOX_POD_GATEWAY": nth(s.cfg.Mgmt, 1), "SANDBOX_POD_NETMASK": netmask(s.cfg.Mgmt),
		"SANDBOX_POD_START": nth(s.cfg.Mgmt, 100), "SANDBOX_POD_END": nth(s.cfg.Mgmt, 199),
		"SANDBOX_HOSTS":        s.hostNames(),
		"SANDBOX_SECONDARY":    secondary,
		"SANDBOX_TEMPLATE_URL": url, "SANDBOX_TEMPLATE_SHA256": s.image.sha256,
	})
}

// apply makes a declaration true; variables are those it uses.
func (s *Sandbox) apply(ctx context.Context, declaration string, variables map[string]string) error {
	variables[envEndpoint], variables[envKey], variables[envSecret] = s.api.Endpoint, s.api.Key, s.api.Secret
	log := filepath.Join(s.cfg.Dir, "apply.log")
	s.steps.lookAt(s.coordinatorLog()+" and "+log, func() string { return tail(log, 5) })
	cmd := exec.CommandContext(ctx, s.cfg.program("wisp"), "apply", "-f", declaration)
	cmd.Env = os.Environ()
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		cmd.Env = append(cmd.Env, name+"="+variables[name])
	}
	text, err := cmd.CombinedOutput()
	if err := os.WriteFile(log, text, 0o600); err != nil {
		return fmt.Errorf("keep the output of wisp apply: %w", err)
	}
	if err != nil {
		return fmt.Errorf("run wisp apply -f %s: %w", declaration, err)
	}
	last := string(bytes.TrimSpace(text))
	s.steps.say("%s", last[strings.LastIndexByte(last, '\n')+1:])
	return nil
}

// tail is the end of a log.
func tail(path string, lines int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
