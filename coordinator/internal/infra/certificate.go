package infra

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// ServerCertificate is the name of the certificate with the key, where an upload gives none; CloudStack's clients know it.
const ServerCertificate = "CPVMCertificate"

// Sealer seals the keys of uploaded certificates, and opens them for whoever serves them.
type Sealer interface {
	Seal(secret string) cloud.Sealed
	Open(cloud.Sealed) (string, error)
}

// CertificateUpload is a certificate as it was given.
type CertificateUpload struct {
	Certificate string       // PEM; one or a chain, the certificate for the names first
	Key         cloud.Secret // PEM; "" for a certificate of an authority
	Suffix      string
	Name        string
	Number      *int
}

// PutCertificate checks a certificate and keeps it, in the place of the one of its suffix and name.
//
// Errors: cloud.Invalid.
func PutCertificate(tx *store.Tx, k Sealer, u CertificateUpload) (*cloud.CustomCertificate, error) {
	suffix := strings.ToLower(strings.TrimPrefix(strings.TrimPrefix(u.Suffix, "*"), "."))
	if strings.Trim(suffix, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" || !strings.Contains(suffix, ".") || strings.Contains(suffix, "..") || strings.HasSuffix(suffix, ".") {
		return nil, cloud.Errorf(cloud.Invalid, "Invalid domainsuffix %q: the end of names, such as example.org, is accepted", u.Suffix)
	}
	chain, err := certificates(u.Certificate)
	if err != nil {
		return nil, err
	}
	row := &cloud.CustomCertificate{Suffix: suffix, Name: u.Name, Certificate: encode(chain), Created: tx.Now()}
	if u.Number != nil {
		row.Number = uint32(*u.Number)
	}
	if u.Key == "" {
		err = checkAuthority(row, chain, u.Number != nil)
	} else {
		if row.Name == "" {
			row.Name = ServerCertificate
		}
		row.Key = k.Seal(string(u.Key))
		err = checkServer(tx, suffix, chain, u.Key)
	}
	if err != nil {
		return nil, err
	}
	row.ID = cloud.NameID("custom_certificate", row.Suffix+" "+row.Name)
	return row, wrap("put", "certificate", row.ID, tables.CustomCertificates.Put(tx, row))
}

// certificates reads PEM text. URL decoding may have made spaces of line ends' pluses; such text does not parse.
func certificates(text string) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	rest := []byte(text)
	for {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		if b.Type != "CERTIFICATE" {
			return nil, cloud.Errorf(cloud.Invalid, "Invalid certificate: it holds a %s; PEM blocks of type CERTIFICATE are accepted", b.Type)
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, cloud.Errorf(cloud.Invalid, "Invalid certificate number %d of the text: %s", len(all)+1, err)
		}
		all = append(all, c)
	}
	if len(all) == 0 || len(bytes.TrimSpace(rest)) > 0 {
		return nil, cloud.Errorf(cloud.Invalid, "Invalid certificate: PEM text is accepted (-----BEGIN CERTIFICATE----- ...), and nothing behind it")
	}
	return all, nil
}

func encode(chain []*x509.Certificate) string {
	var b strings.Builder
	for _, c := range chain {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return b.String()
}

// checkAuthority checks a certificate without a key: one of the chain, which is uploaded before what it signs.
func checkAuthority(row *cloud.CustomCertificate, chain []*x509.Certificate, numbered bool) error {
	switch {
	case row.Name == "" || !numbered:
		return cloud.Errorf(cloud.Invalid, "Parameter privatekey is needed; or name and id, for a root or intermediate certificate")
	case row.Name == ServerCertificate:
		return cloud.Errorf(cloud.Invalid, "The name %s is for the certificate with the key (parameter privatekey)", row.Name)
	case len(chain) != 1:
		return cloud.Errorf(cloud.Invalid, "Parameter certificate holds %d certificates: a root or intermediate one is uploaded by itself", len(chain))
	case !chain[0].IsCA:
		return cloud.Errorf(cloud.Invalid, "The certificate of %s is no authority's: parameter privatekey is needed", chain[0].Subject)
	}
	return nil
}

// checkServer checks that certificate, key and chain fit together and are for names below the suffix, today.
func checkServer(tx *store.Tx, suffix string, chain []*x509.Certificate, key cloud.Secret) error {
	leaf := chain[0]
	if _, err := tls.X509KeyPair([]byte(encode(chain)), []byte(key)); err != nil {
		// The reason is Go's and tells nothing of the key but its kind.
		return cloud.Errorf(cloud.Invalid, "Parameters certificate and privatekey do not fit: %s", strings.TrimPrefix(err.Error(), "tls: "))
	}
	if err := leaf.VerifyHostname("x." + suffix); err != nil {
		return cloud.Errorf(cloud.Invalid, "The certificate is not for *.%s: %s", suffix, err)
	}
	all, err := complete(tx, suffix, chain)
	if err != nil {
		return err
	}
	for i, c := range all {
		if now := tx.Now(); now.Before(c.NotBefore) || now.After(c.NotAfter) {
			return cloud.Errorf(cloud.Invalid, "The certificate of %s is good from %s to %s", c.Subject, c.NotBefore.Format(time.RFC3339), c.NotAfter.Format(time.RFC3339))
		}
		if i > 0 && all[i-1].CheckSignatureFrom(c) != nil {
			return cloud.Errorf(cloud.Invalid, "The chain is broken: %s has not signed %s", c.Subject, all[i-1].Subject)
		}
	}
	return nil
}

// complete adds to a chain the authorities that were uploaded for the suffix. Where there are any, one of them has to be
// the next; where there are none, the clients know the authority.
func complete(r store.Reader, suffix string, chain []*x509.Certificate) ([]*x509.Certificate, error) {
	var known []*x509.Certificate
	for row := range tables.CustomCertificates.By(r, "suffix", store.K(suffix)) {
		if len(row.Key) > 0 {
			continue
		}
		c, err := certificates(row.Certificate)
		if err != nil {
			return nil, fmt.Errorf("certificate %s of %s: %w", row.Name, suffix, err)
		}
		known = append(known, c[0])
	}
	first := true
	for len(chain) < 10 {
		last := chain[len(chain)-1]
		var next *x509.Certificate
		for _, c := range known {
			if last.CheckSignatureFrom(c) == nil {
				next = c
			}
		}
		switch {
		case bytes.Equal(last.RawIssuer, last.RawSubject):
			return chain, nil
		case next == nil && first && len(known) > 0:
			return nil, cloud.Errorf(cloud.Invalid, "None of the %d certificates that were uploaded for %s has signed %s", len(known), suffix, last.Subject)
		case next == nil:
			return chain, nil
		}
		chain, first = append(chain, next), false
	}
	return chain, nil
}

// CertificateFor finds the certificate that was uploaded for a name, with its key; nil where there is none.
func CertificateFor(r store.Reader, k Sealer, name string) (*tls.Certificate, error) {
	name = strings.ToLower(name)
	for _, suffix, more := strings.Cut(name, "."); more; _, suffix, more = strings.Cut(suffix, ".") {
		for row := range tables.CustomCertificates.By(r, "suffix", store.K(suffix)) {
			if len(row.Key) == 0 {
				continue
			}
			c, err := open(r, k, row)
			if err != nil {
				return nil, fmt.Errorf("certificate %s of %s: %w", row.Name, suffix, err)
			}
			if c.Leaf.VerifyHostname(name) == nil {
				return c, nil
			}
		}
	}
	return nil, nil
}

func open(r store.Reader, k Sealer, row *cloud.CustomCertificate) (*tls.Certificate, error) {
	key, err := k.Open(row.Key)
	if err != nil {
		return nil, fmt.Errorf("open its key: %w", err)
	}
	chain, err := certificates(row.Certificate)
	if err != nil {
		return nil, err
	}
	if chain, err = complete(r, row.Suffix, chain); err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair([]byte(encode(chain)), []byte(key))
	return &pair, err
}
