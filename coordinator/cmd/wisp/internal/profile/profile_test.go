package profile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func environment(t *testing.T, vars map[string]string) Environment {
	t.Helper()
	return Environment{Lookup: func(k string) (string, bool) { v, ok := vars[k]; return v, ok }, Home: t.TempDir()}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestLoad(t *testing.T) {
	vars := map[string]string{}
	e := environment(t, vars)
	if _, err := e.Load(""); err == nil || !strings.Contains(err.Error(), "no cloud is known") {
		t.Errorf("nothing: %v", err)
	}
	// A secret may hold what other files take for a remark.
	write(t, filepath.Join(e.Home, ".cmk", "config"), "prompt = x\nasyncblock = false\ntimeout = 60\noutput = text\nprofile = one\n"+
		"[one]\nurl = http://one/client/api\napikey = k\nsecretkey = s;#x=y\ndomain = /\n[two]\nurl = http://two/client/api\nusername = u\npassword = p\n")
	p, err := e.Load("")
	if err != nil || p.Name != "one" || p.Secret != "s;#x=y" || p.Wait || p.Timeout != time.Minute || p.Output != "text" {
		t.Errorf("CloudMonkey's own: %+v %v", p, err)
	}
	if p, err := e.Load("two"); err != nil || p.User != "u" || p.Password != "p" || p.Key != "" {
		t.Errorf("by name: %+v %v", p, err)
	}
	if err := e.Set("three", map[string]string{"url": "http://three/client/api", "apikey": "a", "secretkey": "b"}); err != nil {
		t.Fatal(err)
	}
	if p, err := e.Load(""); err != nil || p.Name != "three" || !p.Wait {
		t.Errorf("wisp's own goes first: %+v %v", p, err)
	}
	if err := e.Set("three", map[string]string{"secret": "b"}); err == nil || !strings.Contains(err.Error(), `no "secret"`) {
		t.Errorf("an unknown field: %v", err)
	}
	if err := e.Set("four", map[string]string{"apikey": "4"}); err != nil {
		t.Fatal(err)
	}
	if err := e.Use("four"); err != nil {
		t.Fatal(err)
	}
	if p, _ := e.Load(""); p.Name != "four" {
		t.Errorf("after use: %+v", p)
	}
	if p, _ := e.Load("three"); p.Secret != "b" {
		t.Errorf("a change of one profile lost another: %+v", p)
	}
	vars["CLOUDSTACK_ENDPOINT"] = "http://env/client/api"
	if p, _ := e.Load(""); p.Endpoint != "http://env/client/api" {
		t.Errorf("the environment goes first: %+v", p)
	}
	if p, _ := e.Load("two"); p.Name != "two" {
		t.Errorf("but not before a name: %+v", p)
	}
	write(t, e.File(), "profile = x\n[x]\nurl = http://x\ntimeout = soon\n")
	if _, err := e.Load("x"); err == nil || !strings.Contains(err.Error(), `timeout "soon"`) {
		t.Errorf("a bad timeout: %v", err)
	}
}

// Whatever a password is, it is read as it was written.
func TestOddPasswords(t *testing.T) {
	home := t.TempDir()
	e := Environment{Home: home, Lookup: func(string) (string, bool) { return "", false }}
	for _, secret := range []string{`ends in \`, `"quoted"`, "a`b", "a;b #c", "=x", "ü"} {
		if err := e.Set("p", map[string]string{"password": secret, "username": "u"}); err != nil {
			t.Fatal(err)
		}
		if p, err := e.Load("p"); err != nil || p.Password != secret || p.User != "u" {
			t.Errorf("%q is read as %q, user %q: %v", secret, p.Password, p.User, err)
		}
	}
}
