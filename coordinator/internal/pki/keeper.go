package pki

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Sealer seals secrets under the cluster's key; package seal does.
type Sealer interface {
	Seal(plain string) cloud.Sealed
	Open(s cloud.Sealed) (string, error)
}

var authorityID = cloud.NameID("authority", "cluster")

// ErrNoAuthority says that the cluster was not bootstrapped yet.
var ErrNoAuthority = errors.New("the cluster has no certificate authority yet")

// Bootstrap makes the cluster's authority where there is none. It may be called at every start.
func Bootstrap(tx *store.Tx, seal Sealer) error {
	if tables.Authorities.Has(tx, authorityID) {
		return nil
	}
	certificate, key, err := newAuthority(tx.Now())
	if err != nil {
		return fmt.Errorf("bootstrap authority: %w", err)
	}
	sealed := seal.Seal(base64.StdEncoding.EncodeToString(key))
	err = tables.Authorities.Put(tx, &cloud.Authority{
		ID: authorityID, Name: "cluster", Certificate: certificate, Key: sealed, Created: tx.Now(),
	})
	if err != nil {
		return fmt.Errorf("bootstrap authority: %w", err)
	}
	return nil
}

// Keeper holds this coordinator's view of the authority and its own certificate, and renews the latter by itself.
type Keeper struct {
	read  func() store.Reader
	seal  Sealer
	id    cloud.ID
	hosts []string
	now   func() time.Time

	mu        sync.Mutex
	authority *Authority
	own       *tls.Certificate
	server    *tls.Config // for own; shared by all connections
}

// NewKeeper makes the keeper of coordinator id, which is reached at the given hosts. read gives the present state.
func NewKeeper(read func() store.Reader, seal Sealer, id cloud.ID, hosts []string, now func() time.Time) *Keeper {
	return &Keeper{read: read, seal: seal, id: id, hosts: hosts, now: now}
}

// Authority opens the cluster's authority; ErrNoAuthority before Bootstrap.
func (k *Keeper) Authority() (*Authority, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.open()
}

func (k *Keeper) open() (*Authority, error) {
	row, ok := tables.Authorities.Get(k.read(), authorityID)
	if !ok {
		return nil, ErrNoAuthority
	}
	if k.authority != nil && bytes.Equal(k.authority.Certificate(), row.Certificate) {
		return k.authority, nil
	}
	text, err := k.seal.Open(row.Key)
	if err != nil {
		return nil, fmt.Errorf("open authority key: %w", err)
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("open authority key: %w", err)
	}
	a, err := openAuthority(row.Certificate, key)
	if err != nil {
		return nil, err
	}
	k.authority, k.own = a, nil
	return a, nil
}

// Own is this coordinator's certificate, with the authority's behind it so that a joining agent finds what its token
// pins. It is made anew when two thirds of its time are over.
func (k *Keeper) Own() (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	a, err := k.open()
	if err != nil {
		return nil, err
	}
	now := k.now()
	if k.own != nil && now.Before(k.own.Leaf.NotAfter.Add(-LeafLifetime/3)) && now.After(k.own.Leaf.NotBefore) {
		return k.own, nil
	}
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make coordinator key: %w", err)
	}
	leaf, err := a.SignCoordinator(pub, k.id, k.hosts, now)
	if err != nil {
		return nil, err
	}
	c := &tls.Certificate{Certificate: [][]byte{leaf.DER, a.Certificate()}, PrivateKey: priv}
	if c.Leaf, err = parse(leaf.DER); err != nil {
		return nil, err
	}
	k.own = c
	return c, nil
}

// Server is the TLS configuration of the host link: TLS 1.3, client certificates checked where one is shown. Who must
// show one is decided per call, because joining agents have none.
func (k *Keeper) Server() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			own, err := k.Own()
			if err != nil {
				return nil, err
			}
			a, err := k.Authority()
			if err != nil {
				return nil, err
			}
			k.mu.Lock()
			defer k.mu.Unlock()
			if k.server == nil || &k.server.Certificates[0].Certificate[0][0] != &own.Certificate[0][0] {
				k.server = k.serverFor(own, a)
			}
			return k.server, nil
		},
	}
}

func (k *Keeper) serverFor(own *tls.Certificate, a *Authority) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{"h2"},
		Certificates: []tls.Certificate{*own},
		ClientAuth:   tls.VerifyClientCertIfGiven,
		ClientCAs:    a.Pool(),
		Time:         k.now,
		// A resumed session would skip looking at the certificate's dates.
		SessionTicketsDisabled: true,
	}
}

// Client is the TLS configuration with which this coordinator dials another one.
func (k *Keeper) Client() (*tls.Config, error) {
	own, err := k.Own()
	if err != nil {
		return nil, err
	}
	a, err := k.Authority()
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{"h2"},
		Certificates: []tls.Certificate{*own},
		RootCAs:      a.Pool(),
		ServerName:   ServerName,
		Time:         k.now,
	}, nil
}
