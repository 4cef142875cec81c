package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestBackoff(t *testing.T) {
	var b Backoff
	var got []time.Duration
	for _, ran := range []time.Duration{0, 0, 0, time.Second, 0, 0, 0, 0, steady, 0} {
		got = append(got, b.Next(ran))
	}
	ms := time.Millisecond
	want := []time.Duration{
		100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 6400 * ms, maxDelay, 100 * ms, 200 * ms,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Run starts again what ends and what cannot be started, and at the end asks, then makes, the program end.
func TestKeeper(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var said []string
	ended := make(chan syscall.WaitStatus, 1)
	fire := make(chan time.Time)
	close(fire)
	starts := 0
	k := Keeper{
		Say: func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) },
		Now: func() time.Time { return time.Unix(1700000000, 0) },
		Kill: func(pid int, sig syscall.Signal) error {
			said = append(said, fmt.Sprintf("kill %d %d", pid, sig))
			if sig == syscall.SIGKILL {
				ended <- syscall.WaitStatus(9)
			}
			return nil
		},
		After: func(time.Duration) <-chan time.Time { return fire },
		Start: func() (int, <-chan syscall.WaitStatus, error) {
			starts++
			switch starts {
			case 1:
				return 0, nil, errors.New("no such file")
			case 2:
				c := make(chan syscall.WaitStatus, 1)
				c <- syscall.WaitStatus(3 << 8)
				return 20, c, nil
			default:
				cancel()
				return 30, ended, nil
			}
		},
	}
	k.Run(ctx)
	want := []string{
		"no such file", "starts again in 100ms", "pid 20 ended with status 3 after 0s", "starts again in 200ms",
		"kill 30 15", "kill 30 9",
	}
	if diff := cmp.Diff(want, said); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Each status reaches the one who waits for it, and nobody's children are collected, too.
func TestTable(t *testing.T) {
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	defer signal.Stop(children)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	table := NewTable()
	got := map[string]<-chan syscall.WaitStatus{}
	for want, command := range map[string]string{
		"ended with status 0": "exit 0", "ended with status 7": "exit 7", "was ended by signal 9 (killed)": "kill -9 $$",
	} {
		_, c, err := table.Start(Program{Argv: []string{"/bin/sh", "-c", command}, Files: [3]*os.File{null, null, null}})
		if err != nil {
			t.Fatal(err)
		}
		got[want] = c
	}
	limit := time.After(20 * time.Second)
	for want, c := range got {
		for waiting := true; waiting; {
			select {
			case s := <-c:
				waiting = false
				if d := Describe(s); d != want {
					t.Errorf("got %q, want %q", d, want)
				}
			case <-children:
				table.Reap()
			case <-limit:
				t.Fatalf("no status of what %s", want)
			}
		}
	}
	if _, _, err := table.Start(Program{Argv: []string{"/nowhere"}, Files: [3]*os.File{null, null, null}}); err == nil {
		t.Error("started nothing")
	}
}
