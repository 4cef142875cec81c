package infra

import (
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// HostNote is what remarks at hosts call their kind.
const HostNote = "HOST"

// mostNotes bounds the remarks at one thing.
const mostNotes = 200

// Annotate leaves a user's remark at something; kind is what the API calls it ("VM"). Errors: cloud.Invalid for one too many.
func Annotate(tx *store.Tx, by *cloud.User, kind string, id cloud.ID, text string, adminsOnly bool) (*cloud.Annotation, error) {
	if tables.Annotations.Count(tx, "entity", store.K(id)) >= mostNotes {
		return nil, cloud.Errorf(cloud.Invalid, "The %s %s has %d remarks already, which is the most; remove some first", kind, id, mostNotes)
	}
	a := &cloud.Annotation{
		ID: tx.NewID(), EntityType: kind, EntityID: id, Text: text, UserID: by.ID, Username: by.Username, AccountID: by.AccountID,
		DomainID: by.DomainID, AdminsOnly: adminsOnly, Created: tx.Now(),
	}
	return a, wrap("annotate", kind, id, tables.Annotations.Put(tx, a))
}

// LastNote is the newest remark at something.
func LastNote(r store.Reader, id cloud.ID) (last *cloud.Annotation, ok bool) {
	for a := range tables.Annotations.By(r, "entity", store.K(id)) { // in the order of age
		last = a
	}
	return last, last != nil
}
