package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// memory is a database without raft: what pki needs of a replica.
type memory struct {
	*store.DB
	next byte
	now  time.Time
}

func newMemory() *memory {
	return &memory{DB: store.NewDB(tables.Schema()...), now: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)}
}

func (m *memory) update(t *testing.T, f func(tx *store.Tx) error) {
	t.Helper()
	b := m.NewBatch(m.Current())
	_, err := b.Run(f, m.now, func() cloud.ID { m.next++; return cloud.ID{15: m.next} })
	if err != nil {
		t.Fatal(err)
	}
	ws, _ := b.Seal()
	if err := m.Apply(ws); err != nil {
		t.Fatal(err)
	}
}

func (m *memory) read() store.Reader { return m.Current() }

func keeper(t *testing.T) (*memory, *Keeper) {
	t.Helper()
	m := newMemory()
	s, err := seal.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	m.update(t, func(tx *store.Tx) error { return Bootstrap(tx, s) })
	return m, NewKeeper(m.read, s, cloud.ID{1}, []string{"192.0.2.1", "c1.example"}, func() time.Time { return m.now })
}

func request(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		// What a request asks for must not matter.
		Subject: pkix.Name{CommonName: "coordinator"}, DNSNames: []string{ServerName},
		URIs: []*url.URL{{Scheme: "wisp", Host: "coordinator", Path: "/" + cloud.ID{9}.String()}},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestBootstrapKeepsTheAuthority(t *testing.T) {
	m, k := keeper(t)
	first, err := k.Authority()
	if err != nil {
		t.Fatal(err)
	}
	s, _ := seal.New(make([]byte, 32))
	m.update(t, func(tx *store.Tx) error { return Bootstrap(tx, s) })
	again, err := k.Authority()
	if err != nil {
		t.Fatal(err)
	}
	if first.Pin() != again.Pin() {
		t.Error("a second bootstrap replaced the authority")
	}
	row, _ := tables.Authorities.Get(m.read(), authorityID)
	if strings.Contains(fmt.Sprintf("%+v", *row), "PRIVATE") || len(row.Key) == 0 {
		t.Error("the key is not sealed")
	}
	other, _ := seal.New(append(make([]byte, 31), 1))
	if _, err := NewKeeper(m.read, other, cloud.ID{1}, nil, time.Now).Authority(); !errors.Is(err, seal.ErrSealed) {
		t.Errorf("another cluster key opened the authority: %v", err)
	}
}

func TestNoAuthority(t *testing.T) {
	s, _ := seal.New(make([]byte, 32))
	k := NewKeeper(newMemory().read, s, cloud.ID{1}, nil, time.Now)
	if _, err := k.Own(); !errors.Is(err, ErrNoAuthority) {
		t.Errorf("Own: %v, want %v", err, ErrNoAuthority)
	}
}

// TestHostCertificate checks that a request's wishes are ignored and that a host cannot pose as a coordinator.
func TestHostCertificate(t *testing.T) {
	m, k := keeper(t)
	a, err := k.Authority()
	if err != nil {
		t.Fatal(err)
	}
	_, key, _ := ed25519.GenerateKey(rand.Reader)
	req, err := ParseRequest(request(t, key))
	if err != nil {
		t.Fatal(err)
	}
	id := cloud.ID{7}
	leaf, err := a.SignHost(req, id, m.now)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(leaf.DER)
	if err != nil {
		t.Fatal(err)
	}
	who, err := IdentityOf(c)
	if err != nil || who != (Identity{KindHost, id}) {
		t.Errorf("identity %v, %v", who, err)
	}
	if len(c.DNSNames) != 0 || len(c.IPAddresses) != 0 || c.IsCA {
		t.Errorf("the certificate says more than it may: %v %v ca=%v", c.DNSNames, c.IPAddresses, c.IsCA)
	}
	if Serial(c) != leaf.Serial || !c.NotAfter.Equal(m.now.Add(LeafLifetime)) || !leaf.Expires.Equal(c.NotAfter) {
		t.Errorf("serial %s or end %v differ from %+v", Serial(c), c.NotAfter, leaf)
	}
	usages := map[string]struct {
		use  x509.ExtKeyUsage
		good bool
	}{"client": {x509.ExtKeyUsageClientAuth, true}, "server": {x509.ExtKeyUsageServerAuth, false}}
	for name, u := range usages {
		_, err := c.Verify(x509.VerifyOptions{Roots: a.Pool(), CurrentTime: m.now, KeyUsages: []x509.ExtKeyUsage{u.use}})
		if (err == nil) != u.good {
			t.Errorf("as %s: %v", name, err)
		}
	}
}

func TestCoordinatorCertificateRenewsItself(t *testing.T) {
	m, k := keeper(t)
	first, err := k.Own()
	if err != nil {
		t.Fatal(err)
	}
	a, _ := k.Authority()
	for _, name := range []string{ServerName, "192.0.2.1", "c1.example"} {
		_, err := first.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: a.Pool(), CurrentTime: m.now})
		if err != nil {
			t.Errorf("as %s: %v", name, err)
		}
	}
	if len(first.Certificate) != 2 || string(first.Certificate[1]) != string(a.Certificate()) {
		t.Error("the chain does not end with the authority, so a joining agent cannot find its pin")
	}
	m.now = m.now.Add(LeafLifetime/3*2 - time.Hour)
	if same, _ := k.Own(); same != first {
		t.Error("renewed too early")
	}
	m.now = m.now.Add(2 * time.Hour)
	second, err := k.Own()
	if err != nil || second == first {
		t.Fatalf("not renewed: %v", err)
	}
	if who, err := IdentityOf(second.Leaf); err != nil || who != (Identity{KindCoordinator, cloud.ID{1}}) {
		t.Errorf("identity %v, %v", who, err)
	}
}

func TestParseRequest(t *testing.T) {
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p224, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	weak, _ := rsa.GenerateKey(rand.Reader, 2048)
	forged := request(t, ed)
	forged[len(forged)-1] ^= 1
	for name, c := range map[string]struct {
		der  []byte
		want string
	}{
		"ed25519": {request(t, ed), ""},
		"p256":    {request(t, p256), ""},
		"p224":    {request(t, p224), "the curve must be"},
		"rsa":     {request(t, weak), "RSA key is not accepted"},
		"forged":  {forged, "check certificate request"},
		"empty":   {nil, "parse certificate request"},
		"garbage": {[]byte("hello"), "parse certificate request"},
	} {
		_, err := ParseRequest(c.der)
		if (c.want == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestCheck(t *testing.T) {
	m, k := keeper(t)
	a, _ := k.Authority()
	_, key, _ := ed25519.GenerateKey(rand.Reader)
	req, _ := ParseRequest(request(t, key))
	host := &cloud.Host{ID: cloud.ID{7}, Number: 1}
	leaf, _ := a.SignHost(req, host.ID, m.now)
	host.CertificateSerial, host.CertificateExpires = leaf.Serial, leaf.Expires
	older, _ := a.SignHost(req, host.ID, m.now)
	cert, _ := x509.ParseCertificate(leaf.DER)
	oldCert, _ := x509.ParseCertificate(older.DER)

	if _, err := Check(m.read(), cert); !errors.Is(err, ErrRevoked) {
		t.Errorf("a host that does not exist: %v", err)
	}
	m.update(t, func(tx *store.Tx) error { return tables.Hosts.Put(tx, host) })
	if who, err := Check(m.read(), cert); err != nil || who != (Identity{KindHost, host.ID}) {
		t.Errorf("a good host: %v %v", who, err)
	}
	m.update(t, func(tx *store.Tx) error { return Revoke(tx, host, "test") })
	if _, err := Check(m.read(), cert); !errors.Is(err, ErrRevoked) {
		t.Errorf("a revoked certificate: %v", err)
	}
	if _, err := Check(m.read(), oldCert); err != nil {
		t.Errorf("an older certificate of a host that is still there: %v", err)
	}
	m.update(t, func(tx *store.Tx) error { return tables.Hosts.Delete(tx, host.ID) })
	if _, err := Check(m.read(), oldCert); !errors.Is(err, ErrRevoked) {
		t.Errorf("an older certificate of a removed host: %v", err)
	}
	m.update(t, ForgetExpired)
	if tables.RevokedCertificates.Len(m.read()) != 1 {
		t.Error("a revocation was forgotten while its certificate is good")
	}
	m.now = m.now.Add(LeafLifetime + 2*time.Hour)
	m.update(t, ForgetExpired)
	if tables.RevokedCertificates.Len(m.read()) != 0 {
		t.Error("the revocation of an ended certificate was kept")
	}
}

func TestToken(t *testing.T) {
	pin := [32]byte{1, 2, 0xfe}
	tok, err := NewToken(cloud.ID{1, 2}, []string{"coordinator-1.example.org:9443", "[2001:db8::1]:9443", "192.0.2.1:9443"}, pin)
	if err != nil {
		t.Fatal(err)
	}
	text := tok.Reveal()
	got, err := ParseToken(" " + text + "\n")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(tok.Reveal(), got.Reveal()); diff != "" {
		t.Error(diff)
	}
	if !got.Matches(tok.SecretHash()) {
		t.Error("the secret does not match its hash")
	}
	got.Secret[0] ^= 1
	if got.Matches(tok.SecretHash()) {
		t.Error("another secret matches the hash")
	}
	if s := fmt.Sprintf("%v %+v %#v %s", tok, tok, tok, tok); strings.Contains(s, text[20:60]) || strings.Contains(s, fmt.Sprint(tok.Secret[:4])) {
		t.Errorf("the token prints its secret: %s", s)
	}
	parts := strings.Split(text, ".")
	for name, bad := range map[string]string{
		"empty":         "",
		"other version": "wisp2" + text[5:],
		"no pin":        strings.Join(parts[:len(parts)-1], "."),
		"short pin":     text[:len(text)-2],
		"upper pin":     text[:len(text)-64] + strings.ToUpper(text[len(text)-64:]),
		"short secret":  strings.Replace(text, parts[len(parts)-2], parts[len(parts)-2][4:], 1),
		"no port":       "wisp1.host." + parts[len(parts)-2] + "." + parts[len(parts)-1],
		"no address":    "wisp1.." + parts[len(parts)-2] + "." + parts[len(parts)-1],
	} {
		_, err := ParseToken(bad)
		if !errors.Is(err, ErrToken) {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), parts[len(parts)-2]) {
			t.Errorf("%s: the error repeats the secret", name)
		}
	}
	if _, err := NewToken(cloud.ID{1}, nil, pin); err == nil {
		t.Error("a token without addresses was made")
	}
}

func FuzzParseToken(f *testing.F) {
	tok, _ := NewToken(cloud.ID{1}, []string{"h:1"}, [32]byte{})
	f.Add(tok.Reveal())
	f.Add("wisp1.a:1,b:2.AAAA.00")
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := ParseToken(s)
		if err == nil && tok.Reveal() != strings.TrimSpace(s) {
			t.Errorf("%q reads as %q", s, tok.Reveal())
		}
	})
}
