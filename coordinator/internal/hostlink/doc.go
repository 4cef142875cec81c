// Package hostlink is the coordinator's end of the link with its hosts: it lets agents join, sends each host its spec,
// takes what hosts observe into rows, and says which hosts are heard from.
//
// Any coordinator serves any host: specs are rendered from its own copy of the state. What has to be written is done
// by the leader; a follower passes it on (package peerlink of the contract). See DESIGN.md.
package hostlink

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/hostplan"
	"github.com/wispcloud/wisp/coordinator/internal/pki"
	"github.com/wispcloud/wisp/coordinator/internal/replica"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/proto/hostspec"
)

// Replica is what the link needs of the replicated state.
type Replica interface {
	DB() *store.DB
	Update(ctx context.Context, f func(tx *store.Tx) error) error
	Leader() (id, api string, isLeader bool)
	LeadershipChanges() <-chan struct{}
	RunOnLeader(ctx context.Context, name string, f func(context.Context) error)
	ListPeers() ([]replica.MemberInfo, error)
}

// Fold takes a host's observation into the rows of one area.
type Fold func(tx *store.Tx, host cloud.ID, o *hostspec.HostObservation) error

// Images is secondary storage as this coordinator reaches it.
type Images interface {
	// Open gives the file of that checksum; fs.ErrNotExist where this coordinator has none.
	Open(sha256 string) (io.ReadSeekCloser, int64, error)
	// Import stores a file fetched from another coordinator after its checksum was verified.
	Import(ctx context.Context, sha256 string, r io.Reader) error
}

// Config describes the link of one coordinator.
type Config struct {
	// NodeID is raft's name of this coordinator, Advertise the host:port at which agents and the other coordinators
	// reach this link.
	NodeID, Advertise string
	Replica           Replica
	Keys              *pki.Keeper
	Plan              hostplan.Renderers
	Folds             []Fold
	Images            Images
	Now               func() time.Time
	Log               *slog.Logger
}

// Settings lists the global settings this package honours.
func Settings() []*settings.Def { return []*settings.Def{pingInterval, pingTimeout, alertWait} }

var (
	pingInterval = settings.Define(settings.Def{
		Name: "ping.interval", Category: "Advanced", Type: settings.Seconds, Default: "60", Min: 1, Max: 86400,
		Doc: "Seconds within which a host is expected to report at least once",
	})
	pingTimeout = settings.Define(settings.Def{
		Name: "ping.timeout", Category: "Advanced", Type: settings.Float, Default: "2.5", Min: 1, Max: 100,
		Doc: "How many ping intervals a connected host may be silent before its state becomes Alert",
	})
	alertWait = settings.Define(settings.Def{
		Name: "alert.wait", Category: "Alert", Type: settings.Seconds, Default: "1800", Min: 1, Max: 604800,
		Doc: "Seconds a host may be Disconnected before its state becomes Alert",
	})
)

// Reasons for which a link is ended.
var (
	errReplaced  = errors.New("a newer link of the same host replaced this one")
	errReconnect = errors.New("an operator asked for a new link")
	errRemoved   = errors.New("the host was removed from the cloud; join again with a new token")
	errClosing   = errors.New("this coordinator is shutting down")
)

const (
	// helloWithin bounds how long an agent may take to say who it is.
	helloWithin = 10 * time.Second
	// slowPass is how often each host's spec is rendered without a reason, in case a change was not recognised.
	slowPass = 30 * time.Second
	// refold is how long the same observation is not folded again.
	refold = 10 * time.Second
)
