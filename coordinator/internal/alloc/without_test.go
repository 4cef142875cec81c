package alloc_test

import (
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/alloc"
)

func TestWithout(t *testing.T) {
	for _, x := range []struct{ from, less, want string }{
		{"1-10", "", "1-10"},
		{"1-10", "1-10", ""},
		{"1-10", "3-4", "1-2,5-10"},
		{"1-10", "1,10", "2-9"},
		{"1-10,20-30", "5-25", "1-4,26-30"},
		{"1-10", "11-20", "1-10"},
		{"1-10", "2-3,7", "1,4-6,8-10"},
	} {
		from, _ := alloc.ParseRanges(x.from, 1, 100)
		less, _ := alloc.ParseRanges(x.less, 1, 100)
		if got := from.Without(less).String(); got != x.want || from.String() != x.from {
			t.Errorf("%s without %s is %q, want %q", x.from, x.less, got, x.want)
		}
	}
}
