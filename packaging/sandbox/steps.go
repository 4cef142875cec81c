package sandbox

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// steps runs named steps and tells each with its seconds.
type steps struct {
	out io.Writer
	// note is what the running step wants said behind its name.
	note string
	// log is where to look when the running step fails.
	log string
	// tail is the end of that log.
	tail func() string
	now  func() time.Time
}

func newSteps(out io.Writer) *steps { return &steps{out: out, now: time.Now} }

// say sets the words behind the step's name.
func (s *steps) say(format string, args ...any) { s.note = fmt.Sprintf(format, args...) }

// lookAt names the log to read should the step fail from here on.
func (s *steps) lookAt(path string, tail func() string) { s.log, s.tail = path, tail }

// run does a step. Its error says which step, why, and where the log is.
func (s *steps) run(ctx context.Context, name string, do func(context.Context) error) error {
	s.note, s.log, s.tail = "", "", nil
	begin := s.now()
	err := do(ctx)
	took := s.now().Sub(begin).Seconds()
	if err == nil {
		fmt.Fprintf(s.out, "%-14s %6.1f s  %s\n", name, took, s.note)
		return nil
	}
	fmt.Fprintf(s.out, "%-14s %6.1f s  FAILED\n", name, took)
	var text strings.Builder
	fmt.Fprintf(&text, "step %q failed: %v", name, err)
	if s.log != "" {
		fmt.Fprintf(&text, "\nlog: %s", s.log)
	}
	if s.tail != nil {
		if last := s.tail(); last != "" {
			fmt.Fprintf(&text, "\n  %s", strings.ReplaceAll(last, "\n", "\n  "))
		}
	}
	return fmt.Errorf("%s%w", text.String(), &hidden{err})
}

// hidden keeps the cause in the chain without saying it twice.
type hidden struct{ error }

func (*hidden) Error() string { return "" }

func (h *hidden) Unwrap() error { return h.error }
