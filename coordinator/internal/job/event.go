package job

import (
	"fmt"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// WriteEvent adds an entry to the audit log, in the transaction of what it tells of. ID and Created are chosen here
// when they are zero. Commands need not call it: the API writes the events of every command that names an event type.
func WriteEvent(tx *store.Tx, e cloud.Event) (cloud.ID, error) {
	if e.ID.IsZero() {
		e.ID = tx.NewID()
	}
	if e.Created.IsZero() {
		e.Created = tx.Now()
	}
	if err := tables.Events.Put(tx, &e); err != nil {
		return cloud.ID{}, fmt.Errorf("write event %s: %w", e.Type, err)
	}
	return e.ID, nil
}
