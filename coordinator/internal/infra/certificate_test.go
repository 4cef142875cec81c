package infra_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/replica"
	"github.com/wispcloud/wisp/coordinator/internal/replica/replicatest"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// issued is a certificate with its key, both as PEM too.
type issued struct {
	cert     *x509.Certificate
	key      *ecdsa.PrivateKey
	pem, sec string
}

// today is the time of these tests.
var today = time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)

// issue makes a certificate that by signs, or which signs itself.
func issue(t *testing.T, by *issued, name string, ca bool, until time.Time) *issued {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: today.AddDate(-1, 0, 0), NotAfter: until,
		IsCA: ca, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if ca {
		tpl.KeyUsage = x509.KeyUsageCertSign
	} else {
		tpl.DNSNames = []string{name}
	}
	parent, signer := tpl, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	k, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return &issued{
		c, key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: k})),
	}
}

func TestPutCertificate(t *testing.T) {
	r := replicatest.NewWith(t, 1, func(c *replica.Config) { c.Now = func() time.Time { return today } }, tables.Schema()...).Nodes[0]
	k, err := seal.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	put := func(u infra.CertificateUpload) error {
		return r.Update(t.Context(), func(tx *store.Tx) error {
			_, err := infra.PutCertificate(tx, k, u)
			return err
		})
	}
	late := today.AddDate(1, 0, 0)
	root := issue(t, nil, "root", true, late)
	middle := issue(t, root, "middle", true, late)
	leaf := issue(t, middle, "*.example.org", false, late)
	stranger := issue(t, nil, "*.example.org", false, late)
	expired := issue(t, middle, "*.example.org", false, today.AddDate(0, 0, -1))
	one, two := 1, 2
	upload := func(c, key, suffix string) infra.CertificateUpload {
		return infra.CertificateUpload{Certificate: c, Key: cloud.Secret(key), Suffix: suffix}
	}
	for _, x := range []struct {
		name string
		u    infra.CertificateUpload
		want string // "" is accepted
	}{
		{"no suffix", upload(leaf.pem, leaf.sec, "org"), "Invalid domainsuffix"},
		{"odd suffix", upload(leaf.pem, leaf.sec, "exa mple.org"), "Invalid domainsuffix"},
		{"no PEM", upload("x", leaf.sec, "example.org"), "PEM text is accepted"},
		{"a key in the certificate", upload(leaf.pem+leaf.sec, leaf.sec, "example.org"), "it holds a PRIVATE KEY"},
		{"text behind", upload(leaf.pem+"more", leaf.sec, "example.org"), "nothing behind it"},
		{"no key", upload(leaf.pem, "x", "example.org"), "do not fit"},
		{"another key", upload(leaf.pem, middle.sec, "example.org"), "do not fit"},
		{"other names", upload(leaf.pem, leaf.sec, "example.com"), "is not for *.example.com"},
		{"expired", upload(expired.pem, expired.sec, "example.org"), "is good from"},
		{"broken chain", upload(leaf.pem+root.pem, leaf.sec, "example.org"), "The chain is broken"},
		{"chain", upload(leaf.pem+middle.pem, leaf.sec, "*.Example.org"), ""},
		{"self-signed", upload(stranger.pem, stranger.sec, "example.org"), ""},
		{"authority without a name", upload(root.pem, "", "example.org"), "Parameter privatekey is needed"},
		{"no authority", infra.CertificateUpload{Certificate: leaf.pem, Suffix: "example.org", Name: "x", Number: &one}, "is no authority's"},
		{"two authorities", infra.CertificateUpload{Certificate: middle.pem + root.pem, Suffix: "example.org", Name: "x", Number: &one}, "holds 2 certificates"},
		{"root", infra.CertificateUpload{Certificate: root.pem, Suffix: "example.org", Name: "root", Number: &one}, ""},
		{"without its authority", upload(leaf.pem, leaf.sec, "example.org"), "has signed"},
		{"intermediate", infra.CertificateUpload{Certificate: middle.pem, Suffix: "example.org", Name: "middle", Number: &two}, ""},
		{"leaf", upload(leaf.pem, leaf.sec, "example.org"), ""},
	} {
		err := put(x.u)
		switch {
		case x.want == "" && err != nil:
			t.Errorf("%s: %v", x.name, err)
		case x.want != "" && (err == nil || cloud.CodeOf(err) != cloud.Invalid || !strings.Contains(err.Error(), x.want)):
			t.Errorf("%s: %v, want %s", x.name, err, x.want)
		case err != nil && strings.Contains(err.Error(), strings.Split(leaf.sec, "\n")[1]):
			t.Errorf("%s: the refusal tells a key", x.name)
		}
	}
	for row := range tables.CustomCertificates.All(r.DB().Current()) {
		if strings.Contains(string(row.Key), "PRIVATE") {
			t.Errorf("the key of %s is kept open", row.Name)
		}
	}
	for name, want := range map[string]int{
		"cloud.example.org": 3, "CLOUD.example.org": 3, "a.b.example.org": 0, "example.org": 0, "example.com": 0, "": 0,
	} {
		c, err := infra.CertificateFor(r.DB().Current(), k, name)
		got := 0
		if c != nil {
			got = len(c.Certificate)
		}
		if err != nil || got != want {
			t.Errorf("for %q a chain of %d, want %d: %v", name, got, want, err)
		}
	}
}
