package store

import (
	"fmt"
	"runtime/debug"
)

// Panicked is the error of a closure that panicked.
type Panicked struct {
	Value any
	Stack []byte
}

func (e *Panicked) Error() string { return fmt.Sprintf("panic in transaction: %v", e.Value) }

// runSafely turns a panic of f into an error: one broken command must not take
// the coordinator down with it.
func runSafely(f func(*Tx) error, tx *Tx) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &Panicked{v, debug.Stack()}
		}
	}()
	return f(tx)
}
