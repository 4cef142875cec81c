package server

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/seal"
)

// clusterName is the DNS name in every coordinator's cluster certificate: who holds the cluster key is a coordinator,
// whatever address it has.
const clusterName = "cluster.wisp.internal"

// The dates are fixed so that every coordinator derives the same authority; who may speak is decided by the key.
var (
	clusterFrom  = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	clusterUntil = time.Date(2120, 1, 1, 0, 0, 0, 0, time.UTC)
)

// clusterTLS is the TLS configuration for both ends of connections between coordinators.
func clusterTLS(k *seal.Keeper, node string) (*tls.Config, error) {
	seed, err := k.Derive("cluster authority", ed25519.SeedSize)
	if err != nil {
		return nil, err
	}
	key := ed25519.NewKeyFromSeed(seed)
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Wisp coordinators"}, NotBefore: clusterFrom, NotAfter: clusterUntil,
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make cluster authority: %w", err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make cluster authority: %w", err)
	}
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make cluster key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("make cluster certificate: %w", err)
	}
	leaf := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: node}, DNSNames: []string{clusterName},
		NotBefore: clusterFrom, NotAfter: clusterUntil, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if der, err = x509.CreateCertificate(rand.Reader, leaf, ca, pub, key); err != nil {
		return nil, fmt.Errorf("make cluster certificate: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: priv}},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    pool,
		RootCAs:      pool,
		ServerName:   clusterName,
	}, nil
}
