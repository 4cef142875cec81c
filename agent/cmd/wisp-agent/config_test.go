package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestConfig(t *testing.T) {
	full := defaultConfig()
	full.Join, full.Listen, full.Accel, full.UnderlayAddress = "wisp1.x", "127.0.0.1:9100", "tcg", "10.0.0.1"
	full.Labels, full.SystemVMDebug = map[string]string{"rack": "4"}, true
	plain := defaultConfig()
	plain.Listen = "/run/wisp/agent.sock"
	tests := []struct {
		name, text string
		want       Config
		fails      string
	}{
		{"empty", "", plain, ""},
		{"full", "join: wisp1.x\nlisten: 127.0.0.1:9100\naccel: tcg\nunderlay_address: 10.0.0.1\nlabels: {rack: '4'}\nsystem_vm_debug: true\n", full, ""},
		{"unknown key", "jion: x\n", Config{}, "jion"},
		{"relative directory", "data_dir: var/lib\n", Config{}, "data_dir"},
		{"listens to the world", "listen: 0.0.0.0:80\n", Config{}, "not on loopback"},
		{"listens to a name", "listen: localhost:80\n", Config{}, "not on loopback"},
		{"acceleration", "accel: warp\n", Config{}, "accel"},
		{"underlay", "underlay_address: eth0\n", Config{}, "underlay_address"},
		{"no yaml", "{", Config{}, "read config"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "agent.yaml")
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := readConfig(path)
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Errorf("error %v, want one with %q", err, tt.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte("wisp1.secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for join, want := range map[string]string{"": "", "wisp1.x": "wisp1.x", "@" + path: "wisp1.secret", "@" + path + ".gone": ""} {
		c := Config{Join: join}
		got, err := c.token()
		if err != nil || got != want {
			t.Errorf("join %q gives %q, %v; want %q", join, got, err, want)
		}
	}
}

// Every key is told in docs/hosts.md, with its name.
func TestKeysAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../../docs/hosts.md")
	if err != nil {
		t.Fatal(err)
	}
	config := reflect.TypeFor[Config]()
	for i := range config.NumField() {
		if key := config.Field(i).Tag.Get("yaml"); !strings.Contains(string(text), "`"+key+"`") {
			t.Errorf("docs/hosts.md does not tell the key %q", key)
		}
	}
}
