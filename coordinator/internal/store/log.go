package store

import "sync"

// commitLog remembers which rows the last commits touched, so that what was made of an older state can be brought up to
// date without looking at everything.
type commitLog struct {
	mu      sync.Mutex
	epoch   uint64 // whose commits these are
	next    uint64 // index that the next commit will have
	commits [][]touch
	touched int
}

// mostLogged bounds the rows that are remembered. Whoever is further behind starts anew.
const mostLogged = 1 << 14

// add notes a commit, before anybody can see its state.
func (l *commitLog) add(s *state, touched []touch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.epoch != l.epoch || s.index != l.next {
		l.commits, l.touched = nil, 0
	}
	l.epoch, l.next = s.epoch, s.index+1
	l.commits = append(l.commits, touched)
	l.touched += len(touched) + 1
	drop := 0
	for l.touched > mostLogged && drop < len(l.commits)-1 {
		l.touched -= len(l.commits[drop]) + 1
		l.commits[drop] = nil
		drop++
	}
	l.commits = l.commits[drop:]
}

// between gives what the commits of an epoch above from and up to to have touched; false where that is not known any more.
func (l *commitLog) between(epoch, from, to uint64) ([]touch, bool) {
	if from >= to {
		return nil, from == to
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	first := l.next - uint64(len(l.commits))
	if epoch != l.epoch || from+1 < first || to >= l.next {
		return nil, false
	}
	var out []touch
	for _, c := range l.commits[from+1-first : to+1-first] {
		out = append(out, c...)
	}
	return out, true
}
