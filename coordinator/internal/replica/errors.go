package replica

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// NotLeader says that this replica cannot do what only the leader can, and who
// can. Nothing was done. LeaderID is "" where no leader is known.
type NotLeader struct{ LeaderID, LeaderAPI string }

func (e *NotLeader) Error() string {
	if e.LeaderID == "" {
		return "not the leader, and no leader is known"
	}
	return fmt.Sprintf("not the leader: that is %s", e.LeaderID)
}

// ErrOutcomeUnknown says that the leadership was lost while a write was being
// replicated: the next leader may or may not have it.
var ErrOutcomeUnknown = errors.New("leadership lost while committing: the outcome is unknown")

// ErrClosed says that the replica has been closed.
var ErrClosed = errors.New("replica closed")

// definitelyNotLeader tells the errors after which the entry is in no log.
func definitelyNotLeader(err error) bool {
	return errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipTransferInProgress)
}
