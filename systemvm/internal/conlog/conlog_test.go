package conlog

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLines(t *testing.T) {
	var out bytes.Buffer
	l := New(&out, func() time.Time { return time.Unix(1700000000, 42e6) })
	l.Say("wisp-init", "image %s", "v1")
	l.Copy("wisp-netsvc", strings.NewReader("one\ntwo\x1b[2J\xff\r\n"+strings.Repeat("x", 9000)+"\nlast"))
	l.Close(time.Minute)
	l.Say("wisp-init", "after the end")
	const at = "2023-11-14T22:13:20.042Z "
	want := []string{
		at + "wisp-init: image v1", at + "wisp-netsvc: one", at + "wisp-netsvc: two?[2J?",
		at + "wisp-netsvc: " + strings.Repeat("x", maxLine) + "...", at + "wisp-netsvc: last", "",
	}
	if diff := cmp.Diff(want, strings.Split(out.String(), "\r\n")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRate(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(1700000000, 0)
	l := New(&out, func() time.Time { return now })
	for i := range burst + 10 {
		l.Say("x", "%d", i)
	}
	now = now.Add(time.Second)
	l.Say("x", "later")
	l.Close(time.Minute)
	lines := strings.Split(strings.TrimSpace(out.String()), "\r\n")
	got := []string{fmt.Sprint(len(lines)), lines[len(lines)-2], lines[len(lines)-1]}
	want := []string{fmt.Sprint(burst + 2), "2023-11-14T22:13:21.000Z wisp-init: 10 lines left out", "2023-11-14T22:13:21.000Z x: later"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A console that nobody reads holds up nobody.
func TestStuckConsole(t *testing.T) {
	r, w := io.Pipe()
	defer r.Close()
	var now time.Time
	l := New(w, func() time.Time { now = now.Add(time.Second); return now })
	l.Copy("x", strings.NewReader(strings.Repeat("line\n", 10*queued)))
	l.Close(0)
}
