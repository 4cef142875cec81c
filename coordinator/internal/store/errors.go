package store

import (
	"fmt"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// Conflict says that a row was not written because another row already holds
// its place in a unique index.
type Conflict struct {
	Table, Index string
	Existing     cloud.ID // the row that holds the place
}

func (e *Conflict) Error() string {
	return fmt.Sprintf("%s: %s is taken by %s", e.Table, e.Index, e.Existing)
}

// NotFound says that the row to edit does not exist.
type NotFound struct {
	Table string
	ID    cloud.ID
}

func (e *NotFound) Error() string { return fmt.Sprintf("%s %s: not found", e.Table, e.ID) }
