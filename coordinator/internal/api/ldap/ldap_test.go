package ldap_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/api/ldap"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	directory "github.com/wispcloud/wisp/coordinator/internal/ldap"
	"github.com/wispcloud/wisp/coordinator/internal/replica/replicatest"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

const slapdConf = `include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile %[1]s/pid
database mdb
maxsize 10485760
suffix "dc=example,dc=org"
rootdn "cn=admin,dc=example,dc=org"
rootpw bindsecret
directory %[1]s/db
`

const people = `dn: dc=example,dc=org
objectClass: dcObject
objectClass: organization
o: example
dc: example

dn: uid=a-user,dc=example,dc=org
objectClass: inetOrgPerson
uid: a-user
cn: a
sn: user
userPassword: in the directory

dn: uid=root,dc=example,dc=org
objectClass: inetOrgPerson
uid: root
cn: r
sn: oot
userPassword: in the directory
`

// slapd starts a real directory on loopback and gives its port.
func slapd(t *testing.T) int {
	t.Helper()
	program, err := exec.LookPath("/usr/sbin/slapd")
	if err != nil {
		t.Skip("slapd is not installed: make test installs it")
	}
	dir := t.TempDir()
	conf := filepath.Join(dir, "slapd.conf")
	for name, text := range map[string]string{conf: fmt.Sprintf(slapdConf, dir), filepath.Join(dir, "people.ldif"): people} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), program, "-T", "add", "-f", conf, "-l", filepath.Join(dir, "people.ldif")).CombinedOutput(); err != nil {
		t.Fatalf("slapadd: %v: %s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	address := "127.0.0.1:" + strconv.Itoa(port)
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "-d", "0", "-h", "ldap://"+address, "-f", conf)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
	})
	replicatest.Wait(t, 20*time.Second, "slapd", func() error {
		c, err := net.Dial("tcp", address)
		if err == nil {
			err = c.Close()
		}
		return err
	})
	return port
}

func TestDirectory(t *testing.T) {
	port := slapd(t)
	number := strconv.Itoa(port)
	c := apitest.New(t, apitest.Config{
		Entities: ldap.Entities(),
		Settings: [][]*settings.Def{directory.Settings()},
		Make:     func(k *seal.Keeper) []api.Command { return ldap.Commands(ldap.Deps{Seal: k}) },
	})
	do := func(command string, params ...string) {
		t.Helper()
		a := c.Must("root", command, params...)
		if strings.Contains(string(a.Raw), "bindsecret") {
			t.Errorf("CVE-2026-59780: %s tells the bind password: %s", command, a.Raw)
		}
		a.Raw = []byte(strings.ReplaceAll(string(a.Raw), number, "389"))
		c.Golden(command, a)
		c.CheckSDK(command, a)
	}
	config := []string{
		"hostname", "127.0.0.1", "port", number, "searchbase", "dc=example,dc=org", "queryfilter", "(uid=%u)",
		"binddn", "cn=admin,dc=example,dc=org", "bindpass",
	}
	if a := c.Call("root", "ldapConfig", append(config, "wrong")...); a.Status != 431 {
		t.Errorf("a wrong bind password: %s", a.Raw)
	}
	do("ldapConfig", append(config, "bindsecret")...)
	do("listLdapConfigurations")
	for _, who := range []string{"a-user", "a-admin"} {
		if a := c.Must(who, "listLdapConfigurations"); strings.Contains(string(a.Raw), "127.0.0.1") {
			t.Errorf("CVE-2026-59780: %s sees %s", who, a.Raw)
		}
	}
	for _, x := range []struct {
		user, name string
		pass       cloud.Secret
		want       bool
	}{
		{"a-user", "a-user", "in the directory", true},
		{"a-user", "a-user", "wrong", false},
		{"a-user", "a-user", "", false}, // CVE-2014-7807
		{"a-user", "*", "in the directory", false},
		{"a-user", "nobody)(uid=a-user", "in the directory", false},
		{"a-other", "a-other", "in the directory", false},
		{"root", "root", "in the directory", false}, // the directory is no way to become root
	} {
		u := *c.Users[x.user].User
		u.Username = x.name
		got, err := directory.Authenticate(t.Context(), c.Read(), c.Seal, &u, c.Users[x.user].Account, x.pass)
		if got != x.want || err != nil {
			t.Errorf("%s with %q: %v, %v", x.name, string(x.pass), got, err)
		}
	}
	do("ldapRemove")
	c.Update(func(tx *store.Tx) error { return c.Settings.Set(tx, "ldap.basedn", "dc=example,dc=org") })
	do("addLdapConfiguration", "hostname", "localhost", "port", number, "domainid", c.Domains["ROOT/a"].ID.String())
	for name, want := range map[string]bool{"a-user": true, "b-user": false} {
		u := *c.Users[name].User
		u.Username = "a-user" // whose entry it is; the server knows users of ROOT/a only
		if got, err := directory.Authenticate(t.Context(), c.Read(), c.Seal, &u, c.Users[name].Account, "in the directory"); got != want || err != nil {
			t.Errorf("%s by the added server: %v, %v", name, got, err)
		}
	}
	do("deleteLdapConfiguration", "hostname", "localhost", "port", number, "domainid", c.Domains["ROOT/a"].ID.String())
}
