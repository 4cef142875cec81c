// Package profile finds out which cloud is meant and who is asking: from the environment, from wisp's own file, or from
// CloudMonkey's, which has the same form.
package profile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gopkg.in/ini.v1"
)

// Profile is one cloud and one user of it.
type Profile struct {
	Name     string
	Endpoint string
	// Key and Secret sign calls. Without them User and Password log in.
	Key, Secret                string
	User, Password, UserDomain string
	// Output is the format that is printed without a flag; "" for the program's own.
	Output string
	// Wait says that a command waits for its job; Timeout for how long.
	Wait    bool
	Timeout time.Duration
	// Insecure accepts any certificate of the endpoint.
	Insecure bool
	// From is the file it stands in, or "the environment".
	From string
}

// Environment is where the profile is looked for.
type Environment struct {
	// Lookup reads an environment variable.
	Lookup func(string) (string, bool)
	// Home is the user's directory.
	Home string
}

func (e Environment) get(name string) string {
	v, _ := e.Lookup(name)
	return v
}

// File is wisp's own file: $WISP_CONFIG, else wisp/config below $XDG_CONFIG_HOME or ~/.config.
func (e Environment) File() string {
	if f := e.get("WISP_CONFIG"); f != "" {
		return f
	}
	if d := e.get("XDG_CONFIG_HOME"); d != "" {
		return filepath.Join(d, "wisp", "config")
	}
	return filepath.Join(e.Home, ".config", "wisp", "config")
}

// files are all files that profiles are read from, the first first.
func (e Environment) files() []string {
	return []string{e.File(), filepath.Join(e.Home, ".cmk", "config"), filepath.Join(e.Home, ".cloudmonkey", "config")}
}

const (
	defaultTimeout  = 30 * time.Minute
	defaultEndpoint = "http://localhost:8080/client/api"
)

// Load finds the profile of a name. With no name it is what the environment says (CLOUDSTACK_ENDPOINT, CLOUDSTACK_KEY,
// CLOUDSTACK_SECRET), else the one that the first file names as its profile.
func (e Environment) Load(name string) (Profile, error) {
	if name == "" {
		if p, ok := e.fromEnvironment(); ok {
			return p, nil
		}
	}
	var known, read []string
	for _, path := range e.files() {
		f, err := e.load(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Profile{}, err
		}
		read = append(read, path)
		want := name
		if want == "" {
			want = top(f, "profile")
		}
		names := profiles(f)
		if want == "" && len(names) == 1 {
			want = names[0]
		}
		if slices.Contains(names, want) {
			return of(f, want, path)
		}
		known = append(known, names...)
	}
	switch {
	case name != "" && len(known) > 0:
		return Profile{}, fmt.Errorf("there is no profile %q; there are: %s", name, strings.Join(known, ", "))
	case name != "":
		return Profile{}, fmt.Errorf("there is no profile %q: make it with: wisp profile set %s url=https://HOST:8443/client/api apikey=KEY secretkey=@FILE", name, name)
	case len(read) > 0:
		return Profile{}, fmt.Errorf("%s names no profile to use: say --profile (there are: %s), or: wisp profile use NAME", strings.Join(read, ", "), strings.Join(known, ", "))
	}
	return Profile{}, fmt.Errorf("no cloud is known: set CLOUDSTACK_ENDPOINT, CLOUDSTACK_KEY and CLOUDSTACK_SECRET, or make a profile with: " +
		"wisp profile set NAME url=https://HOST:8443/client/api apikey=KEY secretkey=@FILE")
}

func (e Environment) fromEnvironment() (Profile, bool) {
	p := Profile{
		Name: "environment", Endpoint: e.get("CLOUDSTACK_ENDPOINT"), Key: e.get("CLOUDSTACK_KEY"), Secret: e.get("CLOUDSTACK_SECRET"),
		Wait: true, Timeout: defaultTimeout, From: "the environment",
	}
	return p, p.Endpoint != ""
}

// load reads a file. In wisp's own, quotes around a value are part of it: it was set so.
func (e Environment) load(path string) (*ini.File, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	f, err := ini.LoadSources(ini.LoadOptions{
		IgnoreInlineComment: true, SpaceBeforeInlineComment: true, IgnoreContinuation: true, // a password may end in a backslash
		PreserveSurroundedQuote: path == e.File(),
	}, path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return f, nil
}

// top is what a file says for all profiles: above the first section, or as CloudMonkey 5 wrote it in [core].
func top(f *ini.File, key string) string {
	if f.Section("").HasKey(key) {
		return f.Section("").Key(key).String()
	}
	if f.HasSection("core") {
		return f.Section("core").Key(key).String()
	}
	return ""
}

// profiles are the sections that name a cloud; CloudMonkey 5 had others, too.
func profiles(f *ini.File) []string {
	var out []string
	for _, s := range f.Sections() {
		if s.Name() != ini.DefaultSection && (s.HasKey("url") || s.HasKey("apikey")) {
			out = append(out, s.Name())
		}
	}
	return out
}

func of(f *ini.File, name, path string) (Profile, error) {
	s := f.Section(name)
	either := func(key string) string {
		if s.HasKey(key) {
			return s.Key(key).String()
		}
		return top(f, key)
	}
	p := Profile{
		Name: name, Endpoint: s.Key("url").MustString(defaultEndpoint), Key: s.Key("apikey").String(), Secret: s.Key("secretkey").String(),
		User: s.Key("username").String(), Password: s.Key("password").String(), UserDomain: s.Key("domain").String(),
		Output: either("output"), Wait: either("asyncblock") != "false", Timeout: defaultTimeout, Insecure: either("verifycert") == "false",
		From: path,
	}
	if v := either("timeout"); v != "" {
		d, err := time.ParseDuration(v + "s")
		if err != nil || d <= 0 {
			return Profile{}, fmt.Errorf("%s: timeout %q is not a number of seconds", path, v)
		}
		p.Timeout = d
	}
	return p, nil
}

// Line is one profile as it is listed.
type Line struct {
	Name, Endpoint, From string
	Used                 bool
}

// List gives all profiles of all files.
func (e Environment) List() ([]Line, error) {
	var out []Line
	used := false
	for _, path := range e.files() {
		f, err := e.load(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, n := range profiles(f) {
			l := Line{Name: n, Endpoint: f.Section(n).Key("url").MustString(defaultEndpoint), From: path}
			l.Used = !used && n == top(f, "profile")
			used = used || l.Used
			out = append(out, l)
		}
	}
	return out, nil
}

// fields are what a profile may be given.
var fields = []string{"url", "apikey", "secretkey", "username", "password", "domain", "output", "timeout", "asyncblock", "verifycert"}

// Set writes values of a profile into wisp's own file, and makes the first profile the one that is used.
func (e Environment) Set(name string, values map[string]string) error {
	for k := range values {
		if !slices.Contains(fields, k) {
			return fmt.Errorf("a profile has no %q; it has: %s", k, strings.Join(fields, ", "))
		}
	}
	return e.edit(func(f *ini.File) error {
		s := f.Section(name)
		for k, v := range values {
			s.Key(k).SetValue(v)
		}
		if !s.HasKey("url") {
			s.Key("url").SetValue(defaultEndpoint)
		}
		if f.Section("").Key("profile").String() == "" {
			f.Section("").Key("profile").SetValue(name)
		}
		return nil
	})
}

// Use makes a profile the one that is used without a flag.
func (e Environment) Use(name string) error {
	p, err := e.Load(name)
	if err != nil {
		return err
	}
	if p.From != e.File() {
		return fmt.Errorf("profile %s stands in %s, which is not wisp's to change; say --profile %s, or copy it with: wisp profile set", name, p.From, name)
	}
	return e.edit(func(f *ini.File) error {
		f.Section("").Key("profile").SetValue(name)
		return nil
	})
}

// edit changes wisp's own file in one step; it holds secrets, so only the user can read it.
func (e Environment) edit(change func(*ini.File) error) error {
	path := e.File()
	f, err := e.load(path)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = ini.Empty(), nil
	}
	if err != nil {
		return err
	}
	if err := change(f); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write profile: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".config-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write profile: %w", err)
	}
	_, err = f.WriteTo(tmp)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return fmt.Errorf("write profile: %w", err)
	}
	return nil
}
