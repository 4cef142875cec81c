package shell

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSplit(t *testing.T) {
	for _, x := range []struct {
		line string
		want []string
		err  bool
	}{
		{"", nil, false},
		{"  list   zones\t", []string{"list", "zones"}, false},
		{`update zone name='far north' x="a \"b\" c"`, []string{"update", "zone", "name=far north", `x=a "b" c`}, false},
		{`a\ b 'c\d' ''`, []string{"a b", `c\d`, ""}, false},
		{`name='open`, nil, true},
		{`end\`, nil, true},
	} {
		got, err := Split(x.line)
		if d := cmp.Diff(x.want, got); d != "" || (err != nil) != x.err {
			t.Errorf("%q: %v %v", x.line, d, err)
		}
	}
}

// From a pipe, the first failure ends the shell and says on which line it was; remarks and empty lines are nothing.
func TestPipe(t *testing.T) {
	var ran []string
	s := &Shell{In: strings.NewReader("# first\n\none\ntwo x\nbad\nthree\n"), Run: func(_ context.Context, words []string) error {
		ran = append(ran, strings.Join(words, "+"))
		if words[0] == "bad" {
			return errors.New("no")
		}
		return nil
	}}
	err := s.Loop(context.Background())
	if d := cmp.Diff([]string{"one", "two+x", "bad"}, ran); d != "" || err == nil || err.Error() != "line 5: no" {
		t.Errorf("%s %v", d, err)
	}
	ran = nil
	s.In = strings.NewReader("one\nexit\ntwo\n")
	if err := s.Loop(context.Background()); err != nil || len(ran) != 1 {
		t.Errorf("after exit: %q %v", ran, err)
	}
}
