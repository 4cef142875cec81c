package infra

import (
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/pki"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Limits of join tokens.
const (
	// DefaultTokenLife is how long a join token is good when nothing is said.
	DefaultTokenLife = 24 * time.Hour
	// MaxTokenLife bounds it.
	MaxTokenLife = 365 * 24 * time.Hour
)

// NewToken describes a join token to make.
type NewToken struct {
	Life time.Duration // 0 is DefaultTokenLife
	Uses uint32        // how many hosts may join with it; 0 is any number
	Note string
}

// CreateToken makes a join token and returns it with its secret, for the only time.
func CreateToken(tx *store.Tx, a *pki.Authority, n NewToken) (pki.Token, *cloud.JoinToken, error) {
	if n.Life == 0 {
		n.Life = DefaultTokenLife
	}
	if n.Life < time.Minute || n.Life > MaxTokenLife {
		return pki.Token{}, nil, cloud.Errorf(cloud.Invalid, "A join token lives between %v and %v, not %v", time.Minute, MaxTokenLife, n.Life)
	}
	addresses := CoordinatorAddresses(tx)
	if len(addresses) == 0 {
		return pki.Token{}, nil, cloud.Errorf(cloud.Unavailable, "No coordinator has announced the address of its host link yet; try again in a moment")
	}
	t, err := pki.NewToken(tx.NewID(), addresses, a.Pin())
	if err != nil {
		return pki.Token{}, nil, err
	}
	row := &cloud.JoinToken{
		ID: t.ID, SecretHash: t.SecretHash(), Created: tx.Now(), Expires: tx.Now().Add(n.Life),
		Uses: n.Uses, Unlimited: n.Uses == 0, Note: n.Note,
	}
	if err := tables.JoinTokens.Put(tx, row); err != nil {
		return pki.Token{}, nil, wrap("create", "join token", t.ID, err)
	}
	return t, row, nil
}

// DeleteToken ends a join token. Hosts that joined with it stay.
func DeleteToken(tx *store.Tx, id cloud.ID) error {
	return wrap("delete", "join token", id, tables.JoinTokens.Delete(tx, id))
}

// ForgetTokens removes tokens that ended more than keep ago.
func ForgetTokens(tx *store.Tx, keep time.Duration) error {
	for t := range tables.JoinTokens.All(tx) {
		if t.Expires.Add(keep).Before(tx.Now()) {
			if err := DeleteToken(tx, t.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// CoordinatorAddresses lists where the host links of all coordinators are, by their names.
func CoordinatorAddresses(r store.Reader) []string {
	var out []string
	for c := range tables.Coordinators.By(r, "node", nil) {
		if c.Address != "" {
			out = append(out, c.Address)
		}
	}
	return out
}

// Announce writes where a coordinator's host link is.
func Announce(tx *store.Tx, nodeID, address string) error {
	id := cloud.NameID("coordinator", nodeID)
	return wrap("announce", "coordinator", id, tables.Coordinators.Put(tx, &cloud.Coordinator{ID: id, NodeID: nodeID, Address: address}))
}
