package store

import (
	"bytes"
	"cmp"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// part is a value of one kind and how it compares to others of that kind.
type part struct {
	v       any
	compare func(o any) int
}

func ordered[T cmp.Ordered](v T) part {
	return part{v, func(o any) int { return cmp.Compare(v, o.(T)) }}
}

// genPart draws a value of the n-th kind.
func genPart(t *rapid.T, n int) part {
	switch n {
	case 0:
		return ordered(rapid.StringOfN(rapid.SampledFrom([]rune{0, 1, 'a', 0xff}), 0, 4, -1).Draw(t, "string"))
	case 1:
		return ordered(rapid.OneOf(rapid.IntRange(-300, 300), rapid.Int()).Draw(t, "int"))
	case 2:
		return ordered(rapid.Uint64().Draw(t, "uint"))
	case 3:
		return ordered(mood(rapid.StringN(0, 3, -1).Draw(t, "mood")))
	case 4:
		return ordered(color(rapid.Uint8().Draw(t, "color")))
	case 5:
		v := rapid.Bool().Draw(t, "bool")
		return part{v, func(o any) int {
			switch {
			case v == o.(bool):
				return 0
			case v:
				return 1
			}
			return -1
		}}
	case 6:
		v := genID.Draw(t, "id")
		return part{v, func(o any) int { w := o.(cloud.ID); return bytes.Compare(v[:], w[:]) }}
	case 7:
		v := genAddr.Draw(t, "addr")
		return part{v, func(o any) int { return v.Compare(o.(netip.Addr)) }}
	case 8:
		v := genTime.Draw(t, "time")
		return part{v, func(o any) int {
			w := o.(time.Time)
			if v.IsZero() != w.IsZero() { // none sorts before all
				if v.IsZero() {
					return -1
				}
				return 1
			}
			return v.Compare(w)
		}}
	}
	return ordered(time.Duration(rapid.Int64().Draw(t, "duration")))
}

func sign(n int) int { return cmp.Compare(n, 0) }

// TestKeysSortLikeTheirParts also shows that a key is a prefix of another one only
// where its parts are the other one's first parts.
func TestKeysSortLikeTheirParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kinds := rapid.SliceOfN(rapid.IntRange(0, 9), 1, 3).Draw(t, "kinds")
		var a, b []any
		want := 0
		for i, kind := range kinds {
			x, y := genPart(t, kind), genPart(t, kind)
			if rapid.Bool().Draw(t, "same") {
				y = x
			}
			a, b = append(a, x.v), append(b, y.v)
			if want == 0 {
				want = sign(x.compare(y.v))
			}
			if got := bytes.HasPrefix(K(b...), K(a[:i+1]...)); got != (want == 0) {
				t.Fatalf("%v is a prefix of %v: %v", a, b, got)
			}
		}
		if got := bytes.Compare(K(a...), K(b...)); got != want {
			t.Fatalf("%v and %v compare as %d, want %d", a, b, got, want)
		}
	})
}

func TestKeyKinds(t *testing.T) {
	if !bytes.Equal(K(int8(-5), uint16(7)), K(-5, 7)) {
		t.Error("integers of different widths have different keys")
	}
	if !bytes.Equal(K(mood("x"), []byte("y")), K("x", "y")) {
		t.Error("named strings or bytes have other keys than strings")
	}
	if !bytes.Equal(K(K("a"), K(1)), K("a", 1)) {
		t.Error("keys of keys are not their concatenation")
	}
	defer func() {
		if s, _ := recover().(string); !strings.Contains(s, "float64") {
			t.Errorf("key of a float: %v", s)
		}
	}()
	K(1.5)
}
