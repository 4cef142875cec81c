package hostlink

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/wispcloud/wisp/agent/internal/ledger"
)

// serverName is a DNS name that every coordinator's certificate carries, whatever address it is reached at.
const serverName = "coordinator.wisp.internal"

// identityFile holds key and certificates together, so that they are replaced together. joinKeyFile keeps the key of a
// join that is under way: asking again with the same token and key gives the same host.
const (
	identityFile = "identity.json"
	joinKeyFile  = "join-key.json"
)

// identity is who this host is to the cluster.
type identity struct {
	HostID       string   `json:"host_id"`
	Key          []byte   `json:"key"`
	Chain        [][]byte `json:"certificate_chain"`
	Authorities  [][]byte `json:"authorities"`
	Coordinators []string `json:"coordinators"`
}

func loadIdentity(files ledger.Files) (*identity, error) {
	data, err := files.Read(identityFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	id := &identity{}
	if err := json.Unmarshal(data, id); err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	if _, err := id.tls(); err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	return id, nil
}

func (i *identity) save(files ledger.Files) error {
	data, err := json.Marshal(i)
	if err != nil {
		return fmt.Errorf("save identity: %w", err)
	}
	return files.Replace(identityFile, "", data)
}

// tls is the configuration for everything after joining.
func (i *identity) tls() (*tls.Config, error) {
	key, err := x509.ParseECPrivateKey(i.Key)
	if err != nil {
		return nil, fmt.Errorf("parse key: %w", err)
	}
	if len(i.Chain) == 0 {
		return nil, errors.New("there is no certificate")
	}
	leaf, err := x509.ParseCertificate(i.Chain[0])
	if err != nil {
		return nil, fmt.Errorf("parse certificate: %w", err)
	}
	if public, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || !key.PublicKey.Equal(public) {
		return nil, errors.New("certificate is for another key")
	}
	pool, err := poolOf(i.Authorities)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		RootCAs:      pool,
		ServerName:   serverName,
		Certificates: []tls.Certificate{{Certificate: i.Chain, PrivateKey: key, Leaf: leaf}},
	}, nil
}

func poolOf(authorities [][]byte) (*x509.CertPool, error) {
	if len(authorities) == 0 {
		return nil, errors.New("there is no authority to trust")
	}
	pool := x509.NewCertPool()
	for _, der := range authorities {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("parse authority: %w", err)
		}
		pool.AddCert(c)
	}
	return pool, nil
}

// validity of the certificate.
func (i *identity) validity() (from, to time.Time, err error) {
	if len(i.Chain) == 0 {
		return from, to, errors.New("there is no certificate")
	}
	leaf, err := x509.ParseCertificate(i.Chain[0])
	if err != nil {
		return from, to, fmt.Errorf("parse certificate: %w", err)
	}
	return leaf.NotBefore, leaf.NotAfter, nil
}

// newKey makes a P-256 key: small certificates, and a handshake costs a coordinator little.
func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return key, nil
}

func certificateRequest(key crypto.Signer, hostname string) ([]byte, error) {
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: hostname}}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	return der, nil
}

// joinKey is the key of the join with this token: the one of an earlier try, or a new one that is written down first.
func joinKey(files ledger.Files, token Token) (*ecdsa.PrivateKey, error) {
	type record struct {
		Token []byte `json:"token_sha256"`
		Key   []byte `json:"key"`
	}
	sum := sha256.Sum256([]byte(token.text))
	var r record
	if data, err := files.Read(joinKeyFile); err == nil && json.Unmarshal(data, &r) == nil && string(r.Token) == string(sum[:]) {
		if key, err := x509.ParseECPrivateKey(r.Key); err == nil {
			return key, nil
		}
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	data, err := json.Marshal(record{Token: sum[:], Key: der})
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return key, files.Replace(joinKeyFile, "", data)
}

// pinned trusts a server whose certificate is signed by the authority with this SHA-256, which the server must send
// along. It replaces verification by the library, which needs the authority beforehand.
func pinned(pin [sha256.Size]byte) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		ServerName:         serverName,
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			pool := x509.NewCertPool()
			found := false
			for _, c := range state.PeerCertificates {
				if sha256.Sum256(c.Raw) == pin && c.IsCA {
					pool.AddCert(c)
					found = true
				}
			}
			if !found {
				return errors.New("the coordinator does not show the authority that the join token names")
			}
			_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{
				DNSName: serverName, Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
			})
			if err != nil {
				return fmt.Errorf("verify coordinator: %w", err)
			}
			return nil
		},
	}
}
