package sandbox

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSteps(t *testing.T) {
	cause := errors.New("no such bridge")
	tests := []struct {
		name string
		do   func(*steps) error
		out  string
		err  string
	}{
		{
			name: "done",
			do:   func(s *steps) error { s.say("%d hosts", 2); return nil },
			out:  "network           1.5 s  2 hosts\n",
		},
		{
			name: "failed without a log",
			do:   func(*steps) error { return cause },
			out:  "network           1.5 s  FAILED\n",
			err:  `step "network" failed: no such bridge`,
		},
		{
			name: "failed with a log",
			do: func(s *steps) error {
				s.lookAt("/x/agent.log", func() string { return "one\ntwo" })
				return cause
			},
			out: "network           1.5 s  FAILED\n",
			err: "step \"network\" failed: no such bridge\nlog: /x/agent.log\n  one\n  two",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			s := newSteps(&out)
			clock := time.Unix(0, 0)
			s.now = func() time.Time { clock = clock.Add(1500 * time.Millisecond); return clock }
			err := s.run(t.Context(), "network", func(context.Context) error { return tt.do(s) })
			if diff := cmp.Diff(tt.out, out.String()); diff != "" {
				t.Errorf("output (-want +got):\n%s", diff)
			}
			text := ""
			if err != nil {
				text = err.Error()
			}
			if diff := cmp.Diff(tt.err, text); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if tt.err != "" && !errors.Is(err, cause) {
				t.Error("the cause is not in the chain")
			}
		})
	}
}

func TestEnv(t *testing.T) {
	path := filepath.Join(t.TempDir(), "env")
	want := map[string]string{envKey: "k", envSecret: "a=b-c_d", envHello: "http://198.18.1.10/"}
	for range 2 { // The second write replaces the first.
		if err := writeEnv(path, want); err != nil {
			t.Fatal(err)
		}
	}
	got, err := readEnv(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := writeEnv(path, map[string]string{"X": "it's"}); err == nil {
		t.Error("a value that cannot be quoted was written")
	}
	if got, err := readEnv(path + ".absent"); err != nil || len(got) != 0 {
		t.Errorf("absent file: %v, %v", got, err)
	}
}

func TestConfig(t *testing.T) {
	for _, hosts := range []int{-1, 4} {
		if _, err := (Config{Hosts: hosts}).withDefaults(); err == nil || !strings.Contains(err.Error(), "want 1 to 3") {
			t.Errorf("%d hosts: %v", hosts, err)
		}
	}
}

func TestOneAtATime(t *testing.T) {
	dir := t.TempDir()
	unlock, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockDir(dir); err == nil || !strings.Contains(err.Error(), "another") {
		t.Errorf("second lock: %v", err)
	}
	unlock()
	again, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	again()
}

func TestRanges(t *testing.T) {
	c, err := Config{PortOffset: 1000}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	got := []string{nth(c.Mgmt, 1), nth(c.Public, 99), netmask(c.Mgmt), c.apiAddress()}
	if diff := cmp.Diff([]string{"198.18.0.1", "198.18.1.99", "255.255.255.0", "127.0.0.1:9080"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
