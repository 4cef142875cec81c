package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/infra"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// Who asks the API for a name below the suffix is shown the uploaded certificate at once, everybody else the coordinator's.
func TestUploadedCertificateIsShown(t *testing.T) {
	s := start(t, testConfig(t, "one"))
	s.ready(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"*.example.org"},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	shown := func(name string) bool {
		t.Helper()
		d := tls.Dialer{Config: &tls.Config{ServerName: name, InsecureSkipVerify: true}} //nolint:gosec // looks which one it is
		c, err := d.DialContext(t.Context(), "tcp", s.cfg.API[0])
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		return string(c.(*tls.Conn).ConnectionState().PeerCertificates[0].Raw) == string(der)
	}
	if shown("api.example.org") {
		t.Fatal("shown before it was uploaded")
	}
	err = s.replica.Update(t.Context(), func(tx *store.Tx) error {
		_, err := infra.PutCertificate(tx, s.seal, infra.CertificateUpload{
			Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), Suffix: "example.org",
			Key: cloud.Secret(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})),
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"api.example.org": true, "API.example.org": true, "localhost": false, "example.org": false, "a.b.example.org": false} {
		if shown(name) != want {
			t.Errorf("for %s: %v, want %v", name, !want, want)
		}
	}
}
