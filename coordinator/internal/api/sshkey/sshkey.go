// Package sshkey holds the commands of SSH key pairs.
package sshkey

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"iter"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/compute"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Commands lists the commands of this package.
func Commands() []api.Command {
	return []api.Command{register(), (&maker{slots: make(chan struct{}, makers)}).create(), list(), remove()}
}

// Entities lists what this package's rows are called in parameters.
func Entities() []api.Entity {
	return []api.Entity{api.OwnedEntity("sshkeypair", tables.SSHKeyPairs, func(k *cloud.SSHKeyPair) api.Owner {
		return api.Owner{Account: k.AccountID, Domain: k.DomainID}
	})}
}

// Answer is a key pair as clients see it; only createSSHKeyPair tells a private key, once.
type Answer struct {
	ID          cloud.ID `json:"id" doc:"the key pair"`
	Name        string   `json:"name" doc:"its name"`
	Fingerprint string   `json:"fingerprint" doc:"MD5 fingerprint of the public key"`
	Account     string   `json:"account,omitempty" doc:"owning account"`
	api.InProject
	DomainID     cloud.ID `json:"domainid" doc:"domain of the owner"`
	Domain       string   `json:"domain" doc:"name of that domain"`
	PrivateKey   string   `json:"privatekey,omitempty" doc:"the private key (PEM); told once and stored nowhere"`
	api.Remarked `of:"sshkeypair"`
}

func view(r store.Reader, k *cloud.SSHKeyPair) Answer {
	a := Answer{ID: k.ID, Name: k.Name, Fingerprint: k.Fingerprint, DomainID: k.DomainID}
	a.Account, a.InProject = api.OwnerNames(r, k.AccountID)
	if d, ok := tables.Domains.Get(r, k.DomainID); ok {
		a.Domain = d.Name
	}
	return a
}

type registerParams struct {
	api.OwnerParams
	Name      string `api:"name,required" doc:"name of the key pair, one of a kind in its account"`
	PublicKey string `api:"publickey,required" len:"5120" doc:"public key in the form of authorized_keys"`
}

func register() api.Command {
	return api.Command{
		Name: "registerSSHKeyPair", Doc: "Keeps a public key under a name, for VMs to be deployed with.", Roles: api.Everyone,
		Event: "REGISTER.SSH.KEYPAIR", Entity: "SSHKeyPair", Object: "keypair",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *registerParams) (Answer, error) {
			key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(strings.TrimSpace(p.PublicKey)))
			if err != nil || len(options) > 0 || len(rest) > 0 {
				return Answer{}, cloud.Errorf(cloud.Invalid, "Public key is invalid (parameter publickey): one line as in authorized_keys, "+
					"without options, is accepted")
			}
			return put(c, tx, &p.OwnerParams, p.Name, key)
		}),
	}
}

// put writes a new key pair.
func put(c *api.Call, tx *store.Tx, p *api.OwnerParams, name string, key ssh.PublicKey) (Answer, error) {
	account, err := place(c, p, name)
	if err != nil {
		return Answer{}, err
	}
	k := &cloud.SSHKeyPair{
		ID: tx.NewID(), AccountID: account.ID, DomainID: account.DomainID, Name: name, Created: tx.Now(),
		PublicKey: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))), Fingerprint: ssh.FingerprintLegacyMD5(key),
	}
	err = tables.SSHKeyPairs.Put(tx, k)
	var taken *store.Conflict
	if errors.As(err, &taken) {
		return Answer{}, errTaken(name)
	}
	c.Describe(k.ID, "SSH key pair "+name)
	return view(tx, k), err
}

// place is the account that a new key pair is for, where that has room for one of the name.
func place(c *api.Call, p *api.OwnerParams, name string) (*cloud.Account, error) {
	account, err := p.Owner(c)
	if err != nil {
		return nil, err
	}
	if tables.SSHKeyPairs.Count(c.Read, "account", store.K(account.ID, name)) > 0 {
		return nil, errTaken(name)
	}
	return account, compute.Room(c.Read, compute.KeyPairs, account)
}

func errTaken(name string) error {
	return cloud.Errorf(cloud.Invalid, "A key pair with name '%s' already exists.", name)
}

type createParams struct {
	api.OwnerParams
	Name string `api:"name,required" doc:"name of the key pair, one of a kind in its account"`
}

// keyBits is the size of a made RSA key: getVMPassword needs RSA.
const keyBits = 3072

// makers is how many keys are made at once: each takes a processor for up to seconds.
const makers = 2

// maker makes private keys, not many at once.
type maker struct{ slots chan struct{} }

// make checks first: a call that will be refused costs no key.
func (m *maker) make(c *api.Call, p *createParams) (*rsa.PrivateKey, error) {
	if _, err := place(c, &p.OwnerParams, p.Name); err != nil {
		return nil, err
	}
	select {
	case m.slots <- struct{}{}:
		defer func() { <-m.slots }()
		return rsa.GenerateKey(rand.Reader, keyBits)
	case <-c.Context().Done():
		return nil, fmt.Errorf("wait to make a key: %w", c.Context().Err())
	}
}

func (m *maker) create() api.Command {
	return api.Command{
		Name: "createSSHKeyPair", Doc: "Makes a key pair, keeps its public key, and tells the private key once.", Roles: api.Everyone,
		Event: "REGISTER.SSH.KEYPAIR", Entity: "SSHKeyPair", Object: "keypair",
		Run: api.ChangeWith(m.make, func(c *api.Call, tx *store.Tx, p *createParams, private *rsa.PrivateKey) (Answer, error) {
			public, err := ssh.NewPublicKey(&private.PublicKey)
			if err != nil {
				return Answer{}, err
			}
			a, err := put(c, tx, &p.OwnerParams, p.Name, public)
			if err != nil {
				return Answer{}, err
			}
			a.PrivateKey = string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(private)}))
			return a, nil
		}),
	}
}

type listParams struct {
	api.ListParams
	api.OwnedParams
	ID          cloud.ID `api:"id" since:"4.17" doc:"this key pair only"`
	Name        string   `api:"name" doc:"the key pair of this name"`
	Fingerprint string   `api:"fingerprint" doc:"key pairs with this fingerprint"`
}

func list() api.Command {
	return api.Command{
		Name: "listSSHKeyPairs", Doc: "Lists SSH key pairs.", Roles: api.Everyone, Object: "sshkeypair",
		Run: api.List(api.Lister[listParams, cloud.SSHKeyPair, Answer]{
			Rows: func(c *api.Call, p *listParams) (iter.Seq[*cloud.SSHKeyPair], error) {
				return api.Filter(api.OwnedRows(c, tables.SSHKeyPairs), func(k *cloud.SSHKeyPair) bool {
					return (p.ID.IsZero() || k.ID == p.ID) && (p.Name == "" || k.Name == p.Name) &&
						(p.Fingerprint == "" || k.Fingerprint == p.Fingerprint)
				}), nil
			},
			Owner: func(_ *api.Call, k *cloud.SSHKeyPair) api.Owner {
				return api.Owner{Account: k.AccountID, Domain: k.DomainID}
			},
			Keyword: func(k *cloud.SSHKeyPair) string { return k.Name + "\n" + k.Fingerprint },
			View:    func(c *api.Call, k *cloud.SSHKeyPair) Answer { return view(c.Read, k) },
		}),
	}
}

func remove() api.Command {
	return api.Command{
		Name: "deleteSSHKeyPair", Doc: "Removes a key pair by its name; VMs that have it keep it.", Roles: api.Everyone,
		Event: "DELETE.SSH.KEYPAIR", Entity: "SSHKeyPair",
		Run: api.Delete(func(c *api.Call, tx *store.Tx, p *createParams) error {
			account, err := p.Owner(c)
			if err != nil {
				return err
			}
			k, ok := tables.SSHKeyPairs.First(tx, "account", store.K(account.ID, p.Name))
			if !ok || k.Name != p.Name {
				return cloud.Errorf(cloud.Invalid, "A key pair with name '%s' does not exist for account %s", p.Name, account.Name)
			}
			c.Describe(k.ID, "SSH key pair "+p.Name)
			return tables.SSHKeyPairs.Delete(tx, k.ID)
		}),
	}
}
