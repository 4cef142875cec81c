package session

import (
	"fmt"
	"testing"
	"time"
)

const freeTries = 5

// The pause grows with each failure in a row, up to a bound, and ends.
func TestPauseGrows(t *testing.T) {
	l, now := NewLimiter(), time.Unix(1e9, 0)
	var pauses []time.Duration
	for range freeTries + 12 {
		l.Failed(now, freeTries, "user")
		var pause time.Duration
		for !l.Allow(now.Add(pause), "user") {
			pause += time.Second
		}
		pauses = append(pauses, pause)
		now = now.Add(pause)
	}
	for i, p := range pauses {
		want := time.Duration(0)
		if over := i + 1 - freeTries; over >= 0 {
			want = min(time.Second<<min(over, 10), maxPause)
		}
		if p != want {
			t.Errorf("after %d failures: %v, want %v", i+1, p, want)
		}
	}
	l.Succeeded("user")
	l.Failed(now, freeTries, "user")
	if !l.Allow(now, "user") {
		t.Error("a success does not end the row")
	}
}

func TestOldFailuresAreForgotten(t *testing.T) {
	l, now := NewLimiter(), time.Unix(1e9, 0)
	for range freeTries - 1 {
		l.Failed(now, freeTries, "user")
	}
	l.Failed(now.Add(forget+time.Second), freeTries, "user")
	if !l.Allow(now.Add(forget+time.Second), "user") {
		t.Error("failures of long ago count")
	}
}

// Whatever names are guessed, memory stays bounded, and who is being refused stays refused as long as there is room.
func TestMemoryIsBounded(t *testing.T) {
	l, now := NewLimiter(), time.Unix(1e9, 0)
	for range freeTries + 5 {
		l.Failed(now, freeTries, "victim")
	}
	for i := range 3 * maxKeys {
		l.Failed(now, freeTries, fmt.Sprint("user ", i))
		if len(l.seen) > maxKeys+1 {
			t.Fatalf("%d names are kept", len(l.seen))
		}
	}
	if l.Allow(now, "victim") {
		t.Error("a flood of other names lifts the pause")
	}
}
