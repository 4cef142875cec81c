package store

import (
	"sync"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// Watch tells that tables have changed. A wake-up carries no news: whoever is
// woken reads the state again. Touched helps those who can do less then.
type Watch struct {
	db   *DB
	c    chan struct{}
	want map[int]string // slot -> table name

	mu       sync.Mutex
	touched  map[Touched]struct{}
	overflow bool
}

// Touched names a row that was put or deleted.
type Touched struct {
	Table string
	ID    cloud.ID
}

// maxTouched bounds what a slow watcher costs.
const maxTouched = 8192

// Watch starts watching tables; none given means all.
func (db *DB) Watch(tables ...AnyTable) *Watch {
	w := &Watch{db: db, c: make(chan struct{}, 1), want: map[int]string{}, touched: map[Touched]struct{}{}}
	for _, t := range tables {
		c := t.base()
		w.want[db.slot(c)] = c.name
	}
	if len(tables) == 0 {
		for i, c := range db.tables {
			w.want[i] = c.name
		}
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	db.watches[w] = struct{}{}
	return w
}

// C is ready to receive after a change that was not yet seen. It is never closed.
func (w *Watch) C() <-chan struct{} { return w.c }

// Touched returns the rows touched since the last call, each once. With ok false
// there were too many, or the whole state was replaced: look at everything. A
// row may be named although nothing of it has changed in the end. Read the state
// after the call, not before it.
func (w *Watch) Touched() (rows []Touched, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ok = !w.overflow
	if ok {
		rows = make([]Touched, 0, len(w.touched))
		for t := range w.touched {
			rows = append(rows, t)
		}
	}
	clear(w.touched)
	w.overflow = false
	return rows, ok
}

// Close ends the watch.
func (w *Watch) Close() {
	w.db.mu.Lock()
	defer w.db.mu.Unlock()
	delete(w.db.watches, w)
}

func (w *Watch) note(touched []touch) {
	w.mu.Lock()
	news := false
	for _, t := range touched {
		table, wanted := w.want[t.slot]
		if !wanted {
			continue
		}
		news = true
		if w.overflow {
			break
		}
		w.touched[Touched{table, t.id}] = struct{}{}
		if len(w.touched) > maxTouched {
			w.overflow = true
			clear(w.touched)
		}
	}
	w.mu.Unlock()
	if news {
		w.wake()
	}
}

// lost says that anything may have changed.
func (w *Watch) lost() {
	w.mu.Lock()
	w.overflow = true
	clear(w.touched)
	w.mu.Unlock()
	w.wake()
}

func (w *Watch) wake() {
	select {
	case w.c <- struct{}{}:
	default:
	}
}
