package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Variables of .sandbox/env.
const (
	envEndpoint = "CLOUDSTACK_ENDPOINT"
	envKey      = "CLOUDSTACK_KEY"
	envSecret   = "CLOUDSTACK_SECRET"
	envPassword = "WISP_ADMIN_PASSWORD"
	envHello    = "WISP_HELLO_URL"
)

func (s *Sandbox) envPath() string { return filepath.Join(s.cfg.Dir, "env") }

// readEnv reads what writeEnv wrote; nothing when there is none.
func readEnv(path string) (map[string]string, error) {
	env := map[string]string{}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return env, nil
	}
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "export ")), "=")
		if ok && !strings.HasPrefix(line, "#") {
			env[name] = strings.Trim(value, "'")
		}
	}
	return env, nil
}

// writeEnv writes variables for a shell to source: whole or not at all, for the
// owner only.
func writeEnv(path string, env map[string]string) error {
	var text bytes.Buffer
	text.WriteString("# Of the sandbox of this machine: source it, keep it to yourself.\n")
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if strings.ContainsAny(env[name], "'\n") {
			return fmt.Errorf("write %s: the value of %s cannot be quoted", path, name)
		}
		fmt.Fprintf(&text, "export %s='%s'\n", name, env[name])
	}
	return writePrivate(path, text.Bytes())
}

// cmkPath is a configuration of CloudMonkey for this cloud: its flags would show the secret to every user of the machine.
func (s *Sandbox) cmkPath() string { return filepath.Join(s.cfg.Dir, "cmk") }

// writeCMK writes what CloudMonkey 6 reads with -c, and wisp from ~/.cmk/config.
func writeCMK(path string, env map[string]string) error {
	text := fmt.Sprintf("asyncblock = true\ntimeout = 1800\noutput = json\nprofile = sandbox\n\n[sandbox]\nurl = %s\nusername = \n"+
		"password = \ndomain = /\napikey = %s\nsecretkey = %s\n", env[envEndpoint], env[envKey], env[envSecret])
	return writePrivate(path, []byte(text))
}

// writePrivate writes a file whole or not at all, for the owner only.
func writePrivate(path string, text []byte) error {
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(tmp, text, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
