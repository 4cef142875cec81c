package ldap_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/api/ldap"
	"github.com/wispcloud/wisp/coordinator/internal/api/session"
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
TLSCACertificateFile %[1]s/cert.pem
TLSCertificateFile %[1]s/cert.pem
TLSCertificateKeyFile %[1]s/key.pem
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
givenName: Ada
sn: User
mail: ada@example.org
userPassword: in the directory

dn: uid=new,dc=example,dc=org
objectClass: inetOrgPerson
uid: new
cn: n
givenName: Nell
sn: Newman
mail: nell@example.org
userPassword: in the directory

dn: uid=root,dc=example,dc=org
objectClass: inetOrgPerson
uid: root
cn: r
sn: oot
userPassword: in the directory
`

// certificate writes a certificate that has signed itself, and its key, for a server on loopback.
func certificate(t *testing.T, dir string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	row := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
	}
	der, err := x509.CreateCertificate(rand.Reader, row, row, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	for name, b := range map[string][]byte{
		"cert.pem": []byte(text), "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return text
}

// served is a directory on loopback.
type served struct {
	port, tls int
	authority string // its certificate
}

// slapd starts a real directory of these entries on loopback, without the lines of its configuration that begin as said.
func slapd(t *testing.T, entries string, without ...string) served {
	t.Helper()
	program, err := exec.LookPath("/usr/sbin/slapd")
	if err != nil {
		if os.Geteuid() == 0 {
			t.Fatal("slapd is not installed (make deps)")
		}
		t.Skip("slapd is not installed (make deps as root)")
	}
	dir := t.TempDir()
	authority := certificate(t, dir)
	conf := filepath.Join(dir, "slapd.conf")
	configuration := ""
	for line := range strings.Lines(fmt.Sprintf(slapdConf, dir)) {
		if !slices.ContainsFunc(without, func(w string) bool { return strings.HasPrefix(line, w) }) {
			configuration += line
		}
	}
	for name, text := range map[string]string{conf: configuration, filepath.Join(dir, "people.ldif"): entries} {
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
	plain, secure := free(t), free(t)
	address := "127.0.0.1:" + strconv.Itoa(plain)
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "-d", "0", "-h", "ldap://"+address+" ldaps://127.0.0.1:"+strconv.Itoa(secure), "-f", conf)
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
	return served{plain, secure, authority}
}

// free is a port that nobody has.
func free(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// CVE-2014-7807, CVE-2026-59780: an empty password logs nobody in, and nobody is told of the directory or its password.
func TestCVE_2014_7807_CVE_2026_59780_Directory(t *testing.T) {
	number := strconv.Itoa(slapd(t, people).port)
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

// asking lets logins ask the directories.
func asking(k *seal.Keeper) session.Deps {
	return session.Deps{
		Directory: func(ctx context.Context, r store.Reader, u *cloud.User, a *cloud.Account, p cloud.Secret) (bool, error) {
			return directory.Authenticate(ctx, r, k, u, a, p)
		},
		NewUser: func(ctx context.Context, r store.Reader, d *cloud.Domain, name string, p cloud.Secret) (session.Enroll, error) {
			n, err := directory.NewUser(ctx, r, k, d.ID, name, p)
			if n == nil {
				return nil, err
			}
			return n.Make, err
		},
	}
}

// login is the status of a login to domain a.
func login(c *apitest.Cloud, name, password string) int {
	form := url.Values{"command": {"login"}, "response": {"json"}, "username": {name}, "password": {password}, "domain": {"/a"}}
	r := httptest.NewRequest(http.MethodPost, "/client/api", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return c.Do(r).Status
}

// Users of a directory that is asked over TLS are listed, made and imported, and log in over HTTP with the password that
// only the directory knows.
func TestUsersOfADirectoryLogIn(t *testing.T) {
	d := slapd(t, people)
	c := apitest.New(t, apitest.Config{
		Entities: ldap.Entities(),
		Settings: [][]*settings.Def{directory.Settings()},
		Make: func(k *seal.Keeper) []api.Command {
			return slices.Concat(ldap.Commands(ldap.Deps{Seal: k}), session.Commands(asking(k)))
		},
	})
	set := func(name, value string) {
		c.Update(func(tx *store.Tx) error { return c.Settings.Set(tx, name, value) })
	}
	set("ldap.basedn", "dc=example,dc=org")
	set("ldap.tls.enabled", "true")
	domain := c.Domains["ROOT/a"].ID.String()
	add := []string{"hostname", "127.0.0.1", "port", strconv.Itoa(d.tls), "domainid", domain}
	if a := c.Call("root", "addLdapConfiguration", add...); a.Status != 431 || !strings.Contains(string(a.Raw), "certificate") {
		t.Fatalf("a certificate that nobody believes: %s", a.Raw)
	}
	set("ldap.truststore", d.authority)
	c.Must("root", "addLdapConfiguration", add...)
	golden := func(command string, params ...string) {
		t.Helper()
		a := c.Must("root", command, params...)
		c.Golden(command, a)
		c.CheckSDK(command, a)
	}
	golden("listLdapUsers", "domainid", domain)
	if a := c.Must("root", "listLdapUsers", "domainid", domain, "listtype", "new", "keyword", "NELL"); strings.Count(string(a.Raw), "principal") != 1 {
		t.Errorf("new users: %s", a.Raw)
	}
	if a := c.Must("root", "listLdapUsers", "domainid", c.Domains["ROOT/b"].ID.String()); strings.Contains(string(a.Raw), "principal") {
		t.Errorf("users of another domain's directory: %s", a.Raw)
	}
	login := func(name, password string) int { return login(c, name, password) }
	if code := login("new", "in the directory"); code != 531 {
		t.Errorf("a user that is not there yet: %d", code)
	}
	if a := c.Call("root", "ldapCreateAccount", "username", "*", "domainid", domain, "accounttype", "0"); a.Status != 431 {
		t.Errorf("a pattern for a name: %s", a.Raw)
	}
	golden("ldapCreateAccount", "username", "new", "domainid", domain, "accounttype", "0")
	if a := c.Call("root", "importLdapUsers", "domainid", domain, "group", "g"); a.Status != 432 {
		t.Errorf("a group: %s", a.Raw)
	}
	golden("importLdapUsers", "domainid", domain, "account", "imported")
	for _, x := range []struct {
		name, password string
		code           int
	}{
		{"new", "in the directory", 200}, {"a-user", "in the directory", 200}, {"root", "in the directory", 200}, // imported, a plain user
		{"new", "wrong", 531}, {"new", "", 431}, {"a-other", "in the directory", 531},
	} {
		if code := login(x.name, x.password); code != x.code {
			t.Errorf("%s with %q: %d", x.name, x.password, code)
		}
	}
	set("ldap.truststore", "")
	if code := login("new", "in the directory"); code != 531 {
		t.Errorf("by a server that nobody believes: %d", code)
	}
}
