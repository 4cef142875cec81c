package sandbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/wispcloud/wisp/packaging/api"
)

func (s *Sandbox) dataDir() string { return filepath.Join(s.cfg.Dir, "coordinator") }

// writeCoordinatorConfig: one coordinator, its API on loopback without TLS, the
// host link on the machine's address in the management range.
func (s *Sandbox) writeCoordinatorConfig() error {
	text, err := yaml.Marshal(map[string]any{
		"data_dir": s.dataDir(), "node": "sandbox",
		"api": []string{}, "plain": []string{s.cfg.apiAddress()},
		"agents": s.cfg.address(nth(s.cfg.Mgmt, 1), 8250),
		"raft":   s.cfg.address("127.0.0.1", 8251), "peers": s.cfg.address("127.0.0.1", 8252),
	})
	if err != nil {
		return err
	}
	return os.WriteFile(s.cfg.CoordinatorArgs()[2], text, 0o600)
}

// makeKeys takes over the credentials that the coordinator chose for the first
// administrator, and shows that they work.
func (s *Sandbox) makeKeys(ctx context.Context) error {
	s.steps.lookAt(s.coordinatorLog(), func() string { return tail(s.coordinatorLog(), 5) })
	path := filepath.Join(s.dataDir(), "admin.env")
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	err := poll(ctx, path, func() error {
		_, err := os.Stat(path)
		return err
	})
	if err != nil {
		return err
	}
	admin, err := readEnv(path)
	if err != nil {
		return err
	}
	old, err := readEnv(s.envPath())
	if err != nil {
		return err
	}
	for _, name := range []string{envEndpoint, envKey, envSecret, envPassword} {
		if admin[name] == "" {
			return fmt.Errorf("read %s: it holds no %s", path, name)
		}
		s.env[name] = admin[name]
	}
	if old[envHello] != "" {
		s.env[envHello] = old[envHello]
	}
	s.api = &api.Client{Endpoint: s.env[envEndpoint], Key: s.env[envKey], Secret: s.env[envSecret]}
	var answer struct {
		Capability map[string]any `json:"capability"`
	}
	if err := s.api.Call(ctx, "listCapabilities", nil, &answer); err != nil {
		return err
	}
	s.steps.say("in %s, for root only", s.show(s.envPath()))
	if err := writeCMK(s.cmkPath(), s.env); err != nil {
		return err
	}
	return writeEnv(s.envPath(), s.env)
}

// joinToken makes a token for the hosts.
func (s *Sandbox) joinToken(ctx context.Context) (string, error) {
	var answer struct {
		Token struct {
			Token string `json:"token"`
		} `json:"hostjointoken"`
	}
	// The host link announces itself a moment after the API is there.
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	err := poll(ctx, "a join token", func() error {
		return s.api.Call(ctx, "createHostJoinToken", api.Params{
			"note": "make sandbox", "lifetime": "3600", "uses": fmt.Sprint(s.cfg.Hosts),
		}, &answer)
	})
	if err == nil && answer.Token.Token == "" {
		err = fmt.Errorf("make join token: the answer holds none")
	}
	return answer.Token.Token, err
}

// poll asks until it is true or the context ends; the error says what was last
// seen.
func poll(ctx context.Context, what string, ask func() error) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		last := ask()
		if last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w (last: %w)", what, ctx.Err(), last)
		case <-tick.C:
		}
	}
}
