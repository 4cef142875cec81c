package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

const (
	// LeafLifetime is how long a certificate of a host or coordinator is good. Renewal starts after two thirds.
	LeafLifetime = 90 * 24 * time.Hour
	// authorityLifetime of the cluster's authority: longer than the cluster's hardware.
	authorityLifetime = 25 * 365 * 24 * time.Hour
	// skew is how far a host's clock may be behind the coordinator's.
	skew = time.Hour
	// ServerName is a DNS name that every coordinator's certificate carries, whatever addresses it is reached at.
	ServerName = "coordinator.wisp.internal"
)

// Authority signs certificates.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// newAuthority makes an authority: the certificate (DER) and the key (PKCS #8).
func newAuthority(now time.Time) (certificate, key []byte, err error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make authority key: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "Wisp cluster authority"},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(authorityLifetime),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	certificate, err = x509.CreateCertificate(rand.Reader, template, template, pub, priv)
	if err != nil {
		return nil, nil, fmt.Errorf("sign authority: %w", err)
	}
	key, err = x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return nil, nil, fmt.Errorf("encode authority key: %w", err)
	}
	return certificate, key, nil
}

func openAuthority(certificate, key []byte) (*Authority, error) {
	cert, err := x509.ParseCertificate(certificate)
	if err != nil {
		return nil, fmt.Errorf("parse authority: %w", err)
	}
	k, err := x509.ParsePKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("parse authority key: %w", err)
	}
	signer, ok := k.(crypto.Signer)
	if !ok {
		return nil, errors.New("parse authority key: it cannot sign")
	}
	return &Authority{cert, signer}, nil
}

// Certificate is the authority's certificate, DER.
func (a *Authority) Certificate() []byte { return a.cert.Raw }

// Pin is the SHA-256 of the authority's certificate, as join tokens carry it.
func (a *Authority) Pin() [sha256.Size]byte { return sha256.Sum256(a.cert.Raw) }

// Pool holds the authority for verifying.
func (a *Authority) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// Leaf is a signed certificate.
type Leaf struct {
	DER     []byte
	Serial  string // lower-case hexadecimal
	Expires time.Time
}

// SignHost signs the key of a request as that of a host. Nothing else of the request is taken over.
func (a *Authority) SignHost(req *Request, id cloud.ID, now time.Time) (Leaf, error) {
	return a.sign(req.public, Identity{KindHost, id}, nil, now)
}

// SignCoordinator signs a key as that of a coordinator reached at the given hosts (names or addresses, no ports).
func (a *Authority) SignCoordinator(public crypto.PublicKey, id cloud.ID, hosts []string, now time.Time) (Leaf, error) {
	return a.sign(public, Identity{KindCoordinator, id}, hosts, now)
}

func (a *Authority) sign(public crypto.PublicKey, who Identity, hosts []string, now time.Time) (Leaf, error) {
	serial, err := newSerial()
	if err != nil {
		return Leaf{}, err
	}
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: who.String()},
		NotBefore:    now.Add(-skew),
		NotAfter:     now.Add(LeafLifetime).Truncate(time.Second),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		URIs:         []*url.URL{who.uri()},
	}
	if who.Kind == KindCoordinator {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		t.DNSNames = []string{ServerName}
		for _, h := range hosts {
			if ip := net.ParseIP(h); ip != nil {
				t.IPAddresses = append(t.IPAddresses, ip)
			} else if h != "" {
				t.DNSNames = append(t.DNSNames, h)
			}
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, public, a.key)
	if err != nil {
		return Leaf{}, fmt.Errorf("sign certificate of %s: %w", who, err)
	}
	return Leaf{DER: der, Serial: serialText(serial), Expires: t.NotAfter}, nil
}

// newSerial makes a positive serial of 127 random bits (RFC 5280, 4.1.2.2 allows 20 octets).
func newSerial() (*big.Int, error) {
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		return nil, fmt.Errorf("make serial: %w", err)
	}
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b), nil
}

func serialText(n *big.Int) string { return fmt.Sprintf("%032x", n) }

// Serial is a certificate's serial as rows keep it.
func Serial(c *x509.Certificate) string { return serialText(c.SerialNumber) }

// Request is a checked certificate request: its sender holds the private key.
type Request struct {
	public  crypto.PublicKey
	KeyHash [sha256.Size]byte // of the SubjectPublicKeyInfo
}

// ParseRequest reads a PKCS #10 request and checks its own signature.
func ParseRequest(der []byte) (*Request, error) {
	r, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("parse certificate request: %w", err)
	}
	switch k := r.PublicKey.(type) {
	case ed25519.PublicKey:
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			return nil, errors.New("parse certificate request: the curve must be P-256 or P-384")
		}
	default:
		return nil, fmt.Errorf("parse certificate request: a %s key is not accepted, use Ed25519 or ECDSA P-256", r.PublicKeyAlgorithm)
	}
	if err := r.CheckSignature(); err != nil {
		return nil, fmt.Errorf("check certificate request: %w", err)
	}
	return &Request{public: r.PublicKey, KeyHash: sha256.Sum256(r.RawSubjectPublicKeyInfo)}, nil
}

func parse(der []byte) (*x509.Certificate, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse certificate: %w", err)
	}
	return c, nil
}
