package api

import (
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"reflect"
	"time"
	"unsafe"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

type kind uint8

const (
	_ kind = iota
	query
	list
	change
	async
	asyncCreate
	raw
)

// Handler is what a command does; it carries the types of its parameters and of its answer. Make it with one of the
// constructors below. P is always a struct of parameters (see package doc), R and Row structs.
type Handler struct {
	kind   kind
	params reflect.Type
	answer reflect.Type // for asynchronous commands nil
	many   bool         // it answers any number of them, with a count

	read  func(c *Call, p any) (any, error)
	write func(c *Call, tx *store.Tx, p any) (any, error)
	start func(c *Call, tx *store.Tx, p any) (*Start, error)
	// prepare runs once before the transaction; what it gives is Call.Prepared in every run of the closure.
	prepare func(c *Call, p any) (any, error)
	raw     func(c *Call, x *Exchange, p any) (any, error)
}

// Query answers from c.Read and changes nothing. The answer stands under Command.Object, or flat where that is empty.
func Query[P, R any](f func(c *Call, p *P) (R, error)) Handler {
	m := remarksOf(reflect.TypeFor[R]())
	return Handler{
		kind: query, params: reflect.TypeFor[P](), answer: reflect.TypeFor[R](),
		read: func(c *Call, p any) (any, error) {
			r, err := f(c, p.(*P))
			c.remark(m, unsafe.Pointer(&r))
			return &r, err
		},
	}
}

// Lister says how a list command finds and shows rows; paging, keyword, count, visibility and scope are the
// framework's. P embeds ListParams, and OwnedParams where rows have owners.
type Lister[P, Row, R any] struct {
	// Rows yields the candidates by the best index, cheap filters applied. For owned rows c.Scope says which accounts
	// matter (use c.Scope.Account to choose the account index); the framework checks each row all the same.
	Rows func(c *Call, p *P) (iter.Seq[*Row], error)
	// Owner of a row. A nil Owner means rows have no owner (infrastructure): the command's roles decide.
	Owner func(c *Call, row *Row) Owner
	// Visible, when given with Owner, shows rows beyond those of the scope (public templates): a row is shown where the
	// scope has it or Visible says so. Without Owner it alone decides (offerings of a domain).
	Visible func(c *Call, row *Row) bool
	// Keyword is the text that keyword= searches, without regard to case. nil: keyword is ignored.
	Keyword func(row *Row) string
	// Less orders rows (negative: a first). nil leaves the order of Rows, which then is not gathered before paging.
	Less func(a, b *Row) int
	// SortKey, with Less, is the place that an administrator gave a row: rows of one key are in the order of Less, and
	// sortkey.algorithm says which keys come first.
	SortKey func(row *Row) int32
	// View makes the answer's row.
	View func(c *Call, row *Row) R
	// Unpaged is for the list that has no pages: it is answered whole.
	Unpaged bool
	// ID is whose tags the filter of TagParams looks at; where it is nil, that is the row's field ID.
	ID func(row *Row) cloud.ID
	// Ranked, optional, gives the rows of a call by their place, where an index holds exactly the rows that are shown, in
	// their order: a page of a long list then costs no more than a page. Not asked where a keyword or tags filter.
	Ranked func(c *Call, p *P) (Ranked[Row], bool)
	// Kept, optional, has the JSON of rows kept until something changes that View has read. It says which of several views
	// of a row this call gets, and whether View reads nothing but the row, that, and c.Read: no clock, no settings. It
	// needs Table.
	Kept func(c *Call, p *P) (shape uint8, ok bool)
	// Volatile, with Kept, gives a pointer to an embedded struct of the answer that changes all the time and is not part of
	// what is kept; nil where it is empty. View still fills it in where rows are not kept.
	Volatile func(c *Call, p *P, row cloud.ID) any
	// Table is where the rows are.
	Table *store.Table[Row]
	// ViewFor stands instead of View where the parameters say what a row tells (details=).
	ViewFor func(c *Call, p *P, row *Row) R

	memo    *rowMemo
	remarks *remarks
}

// Extend is a list of the same rows that tells more of each: parameters, scope, filters, order and pages are those of l, and
// more makes the longer row of the one that l shows. Its rows are not kept: what they tell beside is measured.
func Extend[P, Row, R, M any](l Lister[P, Row, R], more func(c *Call, p *P, row *Row, shown R) M) Lister[P, Row, M] {
	return Lister[P, Row, M]{
		Rows: l.Rows, Owner: l.Owner, Visible: l.Visible, Keyword: l.Keyword, Less: l.Less, SortKey: l.SortKey, Unpaged: l.Unpaged, ID: l.ID,
		Ranked: l.Ranked, Table: l.Table,
		ViewFor: func(c *Call, p *P, row *Row) M { return more(c, p, row, l.view(c, p, row)) },
	}
}

// List is the handler of every list command.
func List[P, Row, R any](l Lister[P, Row, R]) Handler {
	if l.ID == nil {
		l.ID = rowID[Row]()
	}
	if _, ok := any(new(P)).(tagged); ok && l.ID == nil {
		panic(fmt.Sprintf("api: a list of %s is filtered by tags, but its rows have no ID", reflect.TypeFor[Row]()))
	}
	l.remarks = remarksOf(reflect.TypeFor[R]())
	if l.Kept != nil {
		l.memo = newRowMemo(l.Table != nil && l.ID != nil, reflect.TypeFor[R](), l.Volatile != nil)
	}
	return Handler{
		kind: list, params: reflect.TypeFor[P](), answer: reflect.TypeFor[R](), many: true,
		read: func(c *Call, p any) (any, error) { return l.page(c, p.(*P)) },
	}
}

// Change writes in one transaction and answers at once. c.Read is tx. The closure may run again when the state moved
// under it: no side effects but through tx.
func Change[P, R any](f func(c *Call, tx *store.Tx, p *P) (R, error)) Handler {
	m := remarksOf(reflect.TypeFor[R]())
	return Handler{
		kind: change, params: reflect.TypeFor[P](), answer: reflect.TypeFor[R](),
		write: func(c *Call, tx *store.Tx, p any) (any, error) {
			r, err := f(c, tx, p.(*P))
			c.remark(m, unsafe.Pointer(&r))
			return &r, err
		},
	}
}

// ChangeWith is Change with slow work before it (hashing a password, making a key): transactions run one after the
// other, and may run again. What prepare returns is given to each run of f. c.Read is not a transaction in prepare.
func ChangeWith[P, X, R any](prepare func(c *Call, p *P) (X, error), f func(c *Call, tx *store.Tx, p *P, x X) (R, error)) Handler {
	m := remarksOf(reflect.TypeFor[R]())
	return Handler{
		kind: change, params: reflect.TypeFor[P](), answer: reflect.TypeFor[R](),
		prepare: func(c *Call, p any) (any, error) { return prepare(c, p.(*P)) },
		write: func(c *Call, tx *store.Tx, p any) (any, error) {
			r, err := f(c, tx, p.(*P), c.Prepared.(X))
			c.remark(m, unsafe.Pointer(&r))
			return &r, err
		},
	}
}

// ChangeList is a Change whose answer clients take as a list: {"count":1,"<object>":[..]}.
func ChangeList[P, R any](f func(c *Call, tx *store.Tx, p *P) ([]R, error)) Handler {
	m := remarksOf(reflect.TypeFor[R]())
	return Handler{
		kind: change, params: reflect.TypeFor[P](), answer: reflect.TypeFor[R](), many: true,
		write: func(c *Call, tx *store.Tx, p any) (any, error) {
			rows, err := f(c, tx, p.(*P))
			for i := range rows {
				c.remark(m, unsafe.Pointer(&rows[i]))
			}
			return &listing[R]{count: len(rows), rows: rows}, err
		},
	}
}

// Delete is a Change that answers {"success":"true"}.
func Delete[P any](f func(c *Call, tx *store.Tx, p *P) error) Handler {
	return Change(func(c *Call, tx *store.Tx, p *P) (Success, error) {
		return Success{Success: "true"}, f(c, tx, p)
	})
}

// Start is what an asynchronous call hands to its job.
type Start struct {
	// InstanceID is the row the job works on: a change of it wakes the step.
	InstanceID cloud.ID
	// Args is the step's first own state, marshalled as JSON; nil is none. No secrets: seal them.
	Args any
	// Deadline is after how long the job fails; 0 is the setting job.cancel.threshold.minutes.
	Deadline time.Duration
	// Owner is the account the job belongs to; zero: the caller's.
	Owner Owner
}

// Async starts a job: what f writes, the job's row and its event are one commit. It answers {"jobid":...}.
func Async[P any](f func(c *Call, tx *store.Tx, p *P) (*Start, error)) Handler {
	return Handler{
		kind: async, params: reflect.TypeFor[P](),
		start: func(c *Call, tx *store.Tx, p any) (*Start, error) { return f(c, tx, p.(*P)) },
	}
}

// AsyncCreate is Async for commands that create: it answers {"id":Start.InstanceID,"jobid":...}.
func AsyncCreate[P any](f func(c *Call, tx *store.Tx, p *P) (*Start, error)) Handler {
	h := Async(f)
	h.kind = asyncCreate
	return h
}

// Exchange is the HTTP side of a call, for the few commands that need it.
type Exchange struct {
	Request *http.Request
	Header  http.Header // of the answer
	// Update runs a transaction.
	Update func(f func(tx *store.Tx) error) error
}

// Raw is for commands that deal with cookies (login, logout).
func Raw[P, R any](f func(c *Call, x *Exchange, p *P) (R, error)) Handler {
	return Handler{
		kind: raw, params: reflect.TypeFor[P](), answer: reflect.TypeFor[R](),
		raw: func(c *Call, x *Exchange, p any) (any, error) {
			r, err := f(c, x, p.(*P))
			return &r, err
		},
	}
}

// marshalArgs keeps a job's first state.
func (s *Start) marshalArgs() (string, error) {
	if s.Args == nil {
		return "", nil
	}
	b, err := json.Marshal(s.Args)
	return string(b), err
}
