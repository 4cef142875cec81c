package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Kind is what the holder of a certificate is.
type Kind string

// The kinds of holders.
const (
	KindHost        Kind = "host"
	KindCoordinator Kind = "coordinator"
)

// Identity is who the holder of a certificate is.
type Identity struct {
	Kind Kind
	ID   cloud.ID
}

func (i Identity) String() string { return string(i.Kind) + " " + i.ID.String() }

const scheme = "wisp"

func (i Identity) uri() *url.URL {
	return &url.URL{Scheme: scheme, Host: string(i.Kind), Path: "/" + i.ID.String()}
}

// IdentityOf reads who a certificate speaks of. Its signature must have been verified before.
func IdentityOf(c *x509.Certificate) (Identity, error) {
	if len(c.URIs) != 1 || c.URIs[0].Scheme != scheme {
		return Identity{}, errors.New("read certificate: it does not say who its holder is")
	}
	u := c.URIs[0]
	id, err := cloud.ParseID(strings.TrimPrefix(u.Path, "/"))
	if err != nil {
		return Identity{}, fmt.Errorf("read certificate: id of its holder: %w", err)
	}
	switch k := Kind(u.Host); k {
	case KindHost, KindCoordinator:
		return Identity{k, id}, nil
	}
	return Identity{}, fmt.Errorf("read certificate: %q is no kind of holder", u.Host)
}

// ErrRevoked says that a certificate is good by itself but its holder was removed.
var ErrRevoked = errors.New("the certificate was revoked or its host was removed")

// Check tells who the holder of a verified certificate is, and refuses revoked certificates and removed hosts.
func Check(r store.Reader, c *x509.Certificate) (Identity, error) {
	who, err := IdentityOf(c)
	if err != nil {
		return Identity{}, err
	}
	if tables.RevokedCertificates.Has(r, revokedID(Serial(c))) {
		return Identity{}, fmt.Errorf("check certificate of %s: %w", who, ErrRevoked)
	}
	if who.Kind == KindHost && !tables.Hosts.Has(r, who.ID) {
		return Identity{}, fmt.Errorf("check certificate of %s: %w", who, ErrRevoked)
	}
	return who, nil
}

func revokedID(serial string) cloud.ID { return cloud.NameID("revoked-certificate", serial) }

// Revoke refuses the newest certificate of a host from now on. Older ones that have not ended are refused as well once
// the host's row is gone.
func Revoke(tx *store.Tx, h *cloud.Host, reason string) error {
	if h.CertificateSerial == "" {
		return nil
	}
	err := tables.RevokedCertificates.Put(tx, &cloud.RevokedCertificate{
		ID:      revokedID(h.CertificateSerial),
		Serial:  h.CertificateSerial,
		HostID:  h.ID,
		Revoked: tx.Now(),
		Expires: h.CertificateExpires,
		Reason:  reason,
	})
	if err != nil {
		return fmt.Errorf("revoke certificate of host %s: %w", h.ID, err)
	}
	return nil
}

// ForgetExpired removes revocations of certificates that have ended by themselves.
func ForgetExpired(tx *store.Tx) error {
	for c := range tables.RevokedCertificates.By(tx, "expires", nil) {
		if !c.Expires.Add(skew).Before(tx.Now()) {
			break
		}
		if err := tables.RevokedCertificates.Delete(tx, c.ID); err != nil {
			return fmt.Errorf("forget revocation %s: %w", c.Serial, err)
		}
	}
	return nil
}
