// Package shell reads commands line by line, from a person or from a pipe.
package shell

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/term"

	"github.com/wispcloud/wisp/coordinator/cmd/wisp/internal/complete"
)

// Shell runs lines.
type Shell struct {
	In     io.Reader
	Out    io.Writer
	Err    io.Writer
	Prompt string
	// Run runs one line's words.
	Run func(ctx context.Context, words []string) error
	// Complete lists what the last word may become.
	Complete func(ctx context.Context, before []string, begun string) []complete.Candidate
}

// Loop reads until the input ends or "exit". From a pipe it stops at the first error and returns it; a person is told
// and asked again.
func (s *Shell) Loop(ctx context.Context) error {
	if f, ok := s.In.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return s.interactive(ctx, f)
	}
	lines := bufio.NewScanner(s.In)
	lines.Buffer(nil, 4<<20) // user data may be in it
	for n := 1; lines.Scan(); n++ {
		end, err := s.line(ctx, lines.Text())
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if end {
			return nil
		}
	}
	return lines.Err()
}

func (s *Shell) interactive(ctx context.Context, f *os.File) error {
	fd := int(f.Fd())
	cooked, err := term.MakeRaw(fd)
	if err != nil {
		return fmt.Errorf("read from the terminal: %w", err)
	}
	defer func() { _ = term.Restore(fd, cooked) }()
	t := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{f, s.Out}, s.Prompt)
	t.AutoCompleteCallback = func(line string, pos int, key rune) (string, int, bool) {
		if key != '\t' {
			return "", 0, false
		}
		return s.tab(ctx, t, line, pos)
	}
	for {
		if w, h, err := term.GetSize(fd); err == nil && w > 0 {
			_ = t.SetSize(w, h)
		}
		line, err := t.ReadLine()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read from the terminal: %w", err)
		}
		// A command may print, ask and be interrupted as outside the shell.
		if err := term.Restore(fd, cooked); err != nil {
			return err
		}
		// Ctrl-C ends what runs, not the shell.
		running, done := signal.NotifyContext(context.WithoutCancel(ctx), os.Interrupt)
		end, err := s.line(running, line)
		interrupted := running.Err() != nil
		done()
		switch {
		case interrupted:
			fmt.Fprintln(s.Err, "\nwisp: interrupted; a job that was begun goes on")
		case err != nil:
			fmt.Fprintln(s.Err, "wisp:", err)
		}
		if end {
			return nil
		}
		if _, err := term.MakeRaw(fd); err != nil {
			return err
		}
	}
}

// tab completes as far as all candidates agree, and where that is nowhere shows them.
func (s *Shell) tab(ctx context.Context, t *term.Terminal, line string, pos int) (string, int, bool) {
	words, err := Split(line[:pos])
	if err != nil {
		return "", 0, false
	}
	begun := ""
	if len(words) > 0 && !strings.HasSuffix(line[:pos], " ") {
		begun, words = words[len(words)-1], words[:len(words)-1]
	}
	found := s.Complete(ctx, words, begun)
	if len(found) == 0 {
		return "", 0, false
	}
	common := found[0].Word
	for _, c := range found[1:] {
		for !strings.HasPrefix(strings.ToLower(c.Word), strings.ToLower(common)) {
			common = common[:len(common)-1]
		}
	}
	if len(common) <= len(begun) && len(found) > 1 {
		for _, c := range found {
			fmt.Fprintf(t, "%-40s %s\r\n", c.Word, c.About)
		}
		return "", 0, false
	}
	if len(found) == 1 && !strings.HasSuffix(common, "=") {
		common += " "
	}
	out := line[:pos-len(begun)] + common
	return out + line[pos:], len(out), true
}

// line runs one line; end is asked for by exit and quit.
func (s *Shell) line(ctx context.Context, line string) (end bool, err error) {
	words, err := Split(line)
	if err != nil || len(words) == 0 || strings.HasPrefix(words[0], "#") {
		return false, err
	}
	if words[0] == "exit" || words[0] == "quit" {
		return true, nil
	}
	return false, s.Run(ctx, words)
}

// Split cuts a line into words as a shell does: at spaces, but not inside quotes; a backslash takes the next letter as
// it is.
func Split(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	in, quote := false, rune(0)
	escaped := false
	for _, r := range line {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, in = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '"' || r == '\'':
			quote, in = r, true
		case r == ' ' || r == '\t':
			if in {
				words = append(words, word.String())
				word.Reset()
			}
			in = false
		default:
			word.WriteRune(r)
			in = true
		}
	}
	if quote != 0 || escaped {
		return nil, fmt.Errorf("the line ends inside quotes: %s", line)
	}
	if in {
		words = append(words, word.String())
	}
	return words, nil
}
