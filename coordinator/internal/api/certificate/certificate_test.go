package certificate_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/api/certificate"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

func TestUpload(t *testing.T) {
	w := apitest.New(t, apitest.Config{Make: func(k *seal.Keeper) []api.Command { return certificate.Commands(certificate.Deps{Seal: k}) }})
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: w.Clock.Now().AddDate(-1, 0, 0), NotAfter: w.Clock.Now().AddDate(1, 0, 0), DNSNames: []string{"*.example.org"},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	private := string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret}))
	for name, params := range map[string][]string{
		"uploadCustomCertificate-root": {"id", "1", "name", "root", "certificate", cert, "domainsuffix", "example.org"},
		"uploadCustomCertificate":      {"certificate", cert, "privatekey", private, "domainsuffix", "example.org"},
	} {
		started := w.Call("root", "uploadCustomCertificate", params...)
		if started.Status != 200 {
			t.Fatalf("%s", started.Raw)
		}
		job := w.Job("root", started.String("jobid"))
		if strings.Contains(string(job.Raw), "PRIVATE") {
			t.Errorf("the answer tells the key: %s", job.Raw)
		}
		w.Golden(name, job)
		job.Object, _ = job.Object["jobresult"].(map[string]any)
		w.CheckSDK("uploadCustomCertificate", job)
	}
	for e := range tables.Events.All(w.Read()) {
		if e.Type != "UPLOAD.CUSTOM.CERTIFICATE" || strings.Contains(e.Description, "BEGIN") {
			t.Errorf("the event %s: %s", e.Type, e.Description)
		}
	}
	for _, user := range []string{"a-admin", "a-user"} {
		if a := w.Call(user, "uploadCustomCertificate", "certificate", cert, "privatekey", private, "domainsuffix", "example.org"); a.Status != 432 {
			t.Errorf("by %s: %s", user, a.Raw)
		}
	}
	if a := w.Call("root", "uploadCustomCertificate", "certificate", cert, "domainsuffix", "example.org"); a.Status != 431 {
		t.Errorf("without a key: %s", a.Raw)
	}
}
