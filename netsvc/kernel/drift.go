package kernel

import "sync/atomic"

// Drift counts repairs: changes a service had to make although nothing else was wanted than the last time, because
// somebody changed the kernel's state behind its back. Pass is called by the one goroutine that applies.
type Drift struct {
	last    string
	settled bool
	repairs atomic.Uint64
}

// Pass notes the end of one Apply: want is any text equal for equal wants, changes how many changes were made.
func (d *Drift) Pass(want string, changes int, err error) {
	if d.settled && d.last == want && changes > 0 {
		d.repairs.Add(uint64(changes))
	}
	d.last, d.settled = want, err == nil
}

// Repairs counts since the start; it may be called by any goroutine.
func (d *Drift) Repairs() uint64 { return d.repairs.Load() }
