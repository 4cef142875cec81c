// Package conlog writes the log of a system VM: lines on its console, which the host keeps. There is no disk to write
// to and nobody to log in.
//
// A console may be slower than those who write to it, and a serial port that nobody reads stands still. Writers never
// wait for it: lines beyond a rate, or beyond what the queue holds, are counted and left out.
package conlog

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

const (
	// rate and burst bound the lines of one second: 115200 baud carry about a hundred.
	rate  = 50
	burst = 200
	// maxLine bounds one line.
	maxLine = 1024
	queued  = 256
)

// Log writes lines.
type Log struct {
	now   func() time.Time
	queue chan string
	done  chan struct{}

	mu     sync.Mutex
	closed bool
	tokens float64
	last   time.Time
	lost   int
}

// New writes to w until Close.
func New(w io.Writer, now func() time.Time) *Log {
	l := &Log{now: now, queue: make(chan string, queued), done: make(chan struct{}), tokens: burst, last: now()}
	go func() {
		defer close(l.done)
		for line := range l.queue {
			_, _ = io.WriteString(w, line)
		}
	}()
	return l
}

// Close ends the log. It waits for the console at most that long: it may be stuck.
func (l *Log) Close(limit time.Duration) {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.queue)
	}
	l.mu.Unlock()
	select {
	case <-l.done:
	case <-time.After(limit):
	}
}

// Say writes a line of a speaker.
func (l *Log) Say(who, format string, args ...any) {
	l.line(who, fmt.Sprintf(format, args...))
}

func (l *Log) line(who, text string) {
	text = clean(text)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	now := l.now()
	l.tokens = min(burst, l.tokens+rate*max(0, now.Sub(l.last).Seconds()))
	l.last = now
	if l.tokens < 1 {
		l.lost++
		return
	}
	if l.lost > 0 && l.put(now, "wisp-init", fmt.Sprintf("%d lines left out", l.lost)) {
		l.lost = 0
	}
	if !l.put(now, who, text) {
		l.lost++
	}
}

// put queues a line, or says that there is no room.
func (l *Log) put(now time.Time, who, text string) bool {
	select {
	case l.queue <- now.UTC().Format("2006-01-02T15:04:05.000Z") + " " + who + ": " + text + "\r\n":
		l.tokens--
		return true
	default:
		return false
	}
}

// clean makes one line of what may be anything: a console obeys control characters.
func clean(s string) string {
	s = strings.TrimRight(s, "\r\n")
	if len(s) > maxLine {
		s = s[:maxLine] + "..."
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// Copy writes the lines of r under a speaker's name until r ends. It always reads on: a program must not stand still
// because its words are not wanted.
func (l *Log) Copy(who string, r io.Reader) {
	b := bufio.NewReaderSize(r, 4*maxLine)
	for {
		line, err := b.ReadSlice('\n')
		if len(line) > 0 {
			l.line(who, string(line))
		}
		for err == bufio.ErrBufferFull { //nolint:errorlint // ReadSlice returns it bare
			_, err = b.ReadSlice('\n') // the rest of a line that is cut anyway
		}
		if err != nil {
			return
		}
	}
}
