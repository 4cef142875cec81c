package ldap_test

import (
	"bytes"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/api/ldap"
	"github.com/wispcloud/wisp/coordinator/internal/api/session"
	directory "github.com/wispcloud/wisp/coordinator/internal/ldap"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// tap is a wire to a server that keeps what is sent to it.
type tap struct {
	port int
	mu   sync.Mutex
	sent bytes.Buffer
}

func (w *tap) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sent.Write(b)
}

// text is what was sent since it was last asked.
func (w *tap) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.sent.Reset()
	return w.sent.String()
}

// newTap leads to a port of loopback until the test ends.
func newTap(t *testing.T, port int) *tap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &tap{port: l.Addr().(*net.TCPAddr).Port}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(port))
			if err != nil {
				_ = in.Close()
				continue
			}
			all.Go(func() {
				_, _ = io.Copy(out, io.TeeReader(in, w)) // until either side has enough
				_ = out.Close()
			})
			all.Go(func() {
				_, _ = io.Copy(in, out)
				_ = in.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		all.Wait()
	})
	return w
}

// With StartTLS no password, neither the searching entry's nor a user's, is on the wire; a server that has no TLS, or a
// certificate that nobody believes, is sent none.
func TestStartTLSHidesPasswords(t *testing.T) {
	d, bare := slapd(t, people), slapd(t, people, "TLS")
	wire, plain := newTap(t, d.port), newTap(t, bare.port)
	var log bytes.Buffer
	c := apitest.New(t, apitest.Config{
		Log:      &log,
		Entities: ldap.Entities(),
		Settings: [][]*settings.Def{directory.Settings()},
		Make: func(k *seal.Keeper) []api.Command {
			return slices.Concat(ldap.Commands(ldap.Deps{Seal: k}), session.Commands(asking(k)))
		},
	})
	set := func(name, value string) {
		t.Helper()
		c.Update(func(tx *store.Tx) error { return c.Settings.Set(tx, name, value) })
	}
	quiet := func(what string, w *tap) {
		t.Helper()
		sent := w.text()
		if sent == "" {
			t.Errorf("%s: nothing was sent", what)
		}
		for _, secret := range []string{"bindsecret", "in the directory"} {
			if strings.Contains(sent, secret) {
				t.Errorf("%s: %q is on the wire", what, secret)
			}
		}
	}
	config := func(port int, more ...string) []string {
		return append([]string{
			"hostname", "127.0.0.1", "port", strconv.Itoa(port), "searchbase", "dc=example,dc=org", "queryfilter", "(uid=%u)",
			"binddn", "cn=admin,dc=example,dc=org", "bindpass", "bindsecret",
		}, more...)
	}
	if a := c.Call("root", "ldapConfig", config(wire.port, "starttls", "true")...); a.Status != 431 || !strings.Contains(string(a.Raw), "certificate") {
		t.Errorf("a certificate that nobody believes: %s", a.Raw)
	}
	quiet("not believed", wire)
	if a := c.Call("root", "ldapConfig", config(plain.port, "starttls", "true", "truststore", d.authority)...); a.Status != 431 {
		t.Errorf("a server without TLS: %s", a.Raw)
	}
	quiet("no TLS", plain)
	if a := c.Call("root", "ldapConfig", config(wire.port, "starttls", "true", "ssl", "true", "truststore", d.authority)...); a.Status != 431 {
		t.Errorf("two ways of TLS: %s", a.Raw)
	}
	c.Must("root", "ldapConfig", config(wire.port, "starttls", "true", "truststore", d.authority)...)
	if code := login(c, "a-user", "in the directory"); code != 200 {
		t.Errorf("login: %d", code)
	}
	if code := login(c, "a-user", "in the directory\x00"); code != 431 {
		t.Errorf("login with a zero byte: %d", code)
	}
	quiet("ldapConfig", wire)
	c.Must("root", "ldapRemove")

	set("ldap.basedn", "dc=example,dc=org")
	set("ldap.starttls.enabled", "true")
	set("ldap.truststore", d.authority)
	if a := c.Call("root", "addLdapConfiguration", "hostname", "127.0.0.1", "port", strconv.Itoa(plain.port)); a.Status != 431 {
		t.Errorf("a server without TLS: %s", a.Raw)
	}
	c.Must("root", "addLdapConfiguration", "hostname", "127.0.0.1", "port", strconv.Itoa(wire.port))
	if code := login(c, "a-user", "in the directory"); code != 200 {
		t.Errorf("login: %d", code)
	}
	quiet("settings", wire)
	set("ldap.starttls.enabled", "false")
	if code := login(c, "a-user", "in the directory"); code != 200 || !strings.Contains(wire.text(), "in the directory") {
		t.Errorf("the wire shows no password where there is no TLS (login: %d): the test sees nothing", code)
	}
	for _, secret := range []string{"bindsecret", "in the directory"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log has %q", secret)
		}
	}
}

// What stands in filters and names as it is cannot end them.
func TestDirectorySettingsAreChecked(t *testing.T) {
	c := apitest.New(t, apitest.Config{Settings: [][]*settings.Def{directory.Settings()}})
	for _, x := range []struct {
		name, value string
		ok          bool
	}{
		{"ldap.user.object", "person)(uid=*", false},
		{"ldap.user.object", "", false},
		{"ldap.user.object", "user", true},
		{"ldap.username.attribute", "sAMAccountName", true},
		{"ldap.username.attribute", "uid=*)(cn", false},
		{"ldap.email.attribute", "mail\n", false},
		{"ldap.firstname.attribute", "2.5.4.42", true},
		{"ldap.lastname.attribute", "*", false},
		{"ldap.basedn", "example", false},
		{"ldap.basedn", "dc=example,dc=org", true},
		{"ldap.basedn", "", true},
		{"ldap.bind.principal", "admin", false},
		{"ldap.truststore", "/etc/ssl/certs", false},
		{"ldap.truststore", "", true},
	} {
		var err error
		c.Update(func(tx *store.Tx) error {
			err = c.Settings.Set(tx, x.name, x.value)
			return nil
		})
		if (err == nil) != x.ok {
			t.Errorf("%s = %q: %v", x.name, x.value, err)
		}
	}
}
