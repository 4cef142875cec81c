package infra

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/pki"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// ErrTokenRefused says that a join token is unknown, ended, used up, or has another secret. Which one is not told: the
// caller has proved nothing.
var ErrTokenRefused = errors.New("the join token is unknown, expired or used up")

// Signer signs the certificate of a host.
type Signer func(req *pki.Request, id cloud.ID, now time.Time) (pki.Leaf, error)

// Admits tells whether a token is known, has the right secret and has not ended. It may be used up all the same.
func Admits(r store.Reader, t pki.Token, now time.Time) bool {
	row, ok := tables.JoinTokens.Get(r, t.ID)
	return ok && t.Matches(row.SecretHash) && now.Before(row.Expires)
}

// Join admits an agent as a pending host and signs its certificate. The same key with the same token gives the same
// host and uses the token up no further, so an agent that lost the answer may ask again.
func Join(tx *store.Tx, t pki.Token, req *pki.Request, facts *hostspec.HostFacts, sign Signer) (*cloud.Host, pki.Leaf, error) {
	if !Admits(tx, t, tx.Now()) {
		return nil, pki.Leaf{}, ErrTokenRefused
	}
	row, _ := tables.JoinTokens.Get(tx, t.ID)
	h, known := tables.Hosts.First(tx, "key", store.K(req.KeyHash[:]))
	if !known || h.JoinTokenID != t.ID {
		if !row.Unlimited && row.Uses == 0 {
			return nil, pki.Leaf{}, ErrTokenRefused
		}
		if !row.Unlimited {
			row.Uses--
			if err := tables.JoinTokens.Put(tx, row); err != nil {
				return nil, pki.Leaf{}, wrap("use", "join token", t.ID, err)
			}
		}
	}
	if !known {
		number, err := next(tx, "host")
		if err != nil {
			return nil, pki.Leaf{}, fmt.Errorf("number host: %w", err)
		}
		h = &cloud.Host{
			ID: tx.NewID(), Number: number, Status: cloud.HostConnecting, ResourceState: cloud.HostPending,
			Created: tx.Now(), KeyHash: req.KeyHash[:],
		}
	}
	h.JoinTokenID = t.ID
	foldFacts(h, facts)
	leaf, err := signFor(tx, h, req, sign)
	return h, leaf, err
}

// Renew signs a new certificate for a host. The key may be a new one; the former certificate stays good until it ends.
func Renew(tx *store.Tx, id cloud.ID, req *pki.Request, sign Signer) (*cloud.Host, pki.Leaf, error) {
	h, ok := tables.Hosts.Get(tx, id)
	if !ok {
		return nil, pki.Leaf{}, pki.ErrRevoked
	}
	h.KeyHash = req.KeyHash[:]
	leaf, err := signFor(tx, h, req, sign)
	return h, leaf, err
}

func signFor(tx *store.Tx, h *cloud.Host, req *pki.Request, sign Signer) (pki.Leaf, error) {
	leaf, err := sign(req, h.ID, tx.Now())
	if err != nil {
		return pki.Leaf{}, err
	}
	h.CertificateSerial, h.CertificateExpires = leaf.Serial, leaf.Expires
	err = tables.Hosts.Put(tx, h)
	var c *store.Conflict
	if errors.As(err, &c) {
		return pki.Leaf{}, cloud.Errorf(cloud.Invalid, "the key belongs to another host")
	}
	return leaf, wrap("put", "host", h.ID, err)
}

// The most that is believed of one host: sums over a cloud of such hosts stay far from the ends of their types.
const (
	maxCPUs      = 1 << 16
	maxMHz       = 1 << 17
	maxMemoryMiB = 1 << 30
)

// foldFacts takes what a host says of itself into its row. It tells whether anything changed.
func foldFacts(h *cloud.Host, f *hostspec.HostFacts) {
	if f == nil {
		return
	}
	// A host keeps the name it was adopted under: operators and placement know it by that.
	if h.ResourceState == cloud.HostPending && f.GetHostname() != "" {
		h.Name = clip(f.GetHostname(), 255)
	}
	h.CPUs, h.CPUMHz, h.MemoryMiB = min(f.GetCpus(), maxCPUs), min(f.GetCpuMhz(), maxMHz), min(f.GetMemoryMib(), maxMemoryMiB)
	h.HypervisorVersion = clip(f.GetHypervisorVersion(), 255)
	h.AgentVersion = clip(f.GetAgentVersion(), 255)
	h.KernelVersion = clip(f.GetKernelVersion(), 255)
	h.CPUModel = clip(f.GetCpuModel(), 255)
	h.Architecture = clip(f.GetArchitecture(), 64)
	h.KVM = f.GetKvm()
	h.Features, h.MissingFeatures = clipAll(f.GetFeatures()), clipAll(f.GetMissingFeatures())
	if ip, err := netip.ParseAddr(f.GetUnderlayIp()); err == nil {
		h.IP = ip.Unmap()
	}
}

// clip bounds what a host may write into a row: a broken or taken-over host must not fill the log.
func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "")
}

func clipAll(list []string) []string {
	const most = 64
	var out []string
	for _, s := range list[:min(len(list), most)] {
		out = append(out, clip(s, 64))
	}
	return out
}
