package alloc

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// counter counts the members of a set between two bounds, as an index of the store does.
func counter(set map[uint64]bool) func(lo, hi uint64) int {
	return func(lo, hi uint64) int {
		n := 0
		for k := range set {
			if lo <= k && k <= hi {
				n++
			}
		}
		return n
	}
}

func TestFirstIsTheSmallestFree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lo := rapid.Uint64Range(0, 50).Draw(t, "lo")
		hi := lo + rapid.Uint64Range(0, 60).Draw(t, "span")
		set := map[uint64]bool{}
		for _, k := range rapid.SliceOfN(rapid.Uint64Range(0, 120), 0, 150).Draw(t, "taken") {
			set[k] = true
		}
		got, ok := First(lo, hi, counter(set))
		for want := lo; want <= hi; want++ {
			if !set[want] {
				if !ok || got != want {
					t.Fatalf("First(%d, %d) = %d %v, want %d", lo, hi, got, ok, want)
				}
				return
			}
		}
		if ok {
			t.Fatalf("First(%d, %d) = %d of a full interval", lo, hi, got)
		}
	})
}

// Handing out until nothing is left gives every number of the set once, in order, with few questions each.
func TestExhaustion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var set Ranges
		for range rapid.IntRange(1, 4).Draw(t, "ranges") {
			lo := rapid.Uint32Range(1, 90).Draw(t, "lo")
			set = append(set, Range{lo, lo + rapid.Uint32Range(0, 20).Draw(t, "span")})
		}
		set = set.normal()
		taken := map[uint64]bool{}
		var got []uint64
		for {
			asked := 0
			n, ok := set.First(func(lo, hi uint64) int { asked++; return counter(taken)(lo, hi) })
			if asked > 9*len(set) {
				t.Fatalf("asked %d times for one of %s", asked, set)
			}
			if !ok {
				break
			}
			if taken[uint64(n)] || !set.Contains(n) {
				t.Fatalf("%d given twice or from outside of %s", n, set)
			}
			taken[uint64(n)] = true
			got = append(got, uint64(n))
		}
		if uint64(len(got)) != set.Size() || !slices.IsSorted(got) {
			t.Fatalf("got %v of %s", got, set)
		}
		// What is given back is given again.
		back := rapid.SampledFrom(slices.Sorted(maps.Keys(taken))).Draw(t, "back")
		delete(taken, back)
		if n, ok := set.First(counter(taken)); !ok || uint64(n) != back {
			t.Fatalf("after release of %d: %d %v", back, n, ok)
		}
	})
}

func TestParseRanges(t *testing.T) {
	for _, c := range []struct{ in, out, err string }{
		{"", "", ""},
		{"100-200", "100-200", ""},
		{"7", "7", ""},
		{" 300-310 , 100-200,201 ", "100-201,300-310", ""},
		{"1-5,3-9", "1-9", ""},
		{"a-b", "", `"a-b" is not a number or a range of two numbers`},
		{"9-3", "", `range "9-3" must rise and lie between 1 and 4094`},
		{"0-3", "", `range "0-3" must rise and lie between 1 and 4094`},
		{"4095", "", `range "4095" must rise and lie between 1 and 4094`},
		{"1-99999999999", "", `"1-99999999999" is not a number or a range of two numbers`},
		{"1--2", "", `"1--2" is not a number or a range of two numbers`},
	} {
		set, err := ParseRanges(c.in, 1, 4094)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if diff := cmp.Diff([]string{c.out, c.err}, []string{set.String(), got}); diff != "" {
			t.Errorf("%q: %s", c.in, diff)
		}
	}
}

func TestRangesOverlap(t *testing.T) {
	a := Ranges{{1, 5}, {10, 20}}
	for _, c := range []struct {
		b    Ranges
		want bool
	}{{Ranges{{6, 9}}, false}, {Ranges{{5, 6}}, true}, {Ranges{{21, 30}, {15, 15}}, true}, {nil, false}} {
		if got := a.Overlaps(c.b); got != c.want {
			t.Errorf("%s and %s: %v", a, c.b, got)
		}
	}
}

func TestFirstAddressSkipsReserved(t *testing.T) {
	addr := netip.MustParseAddr
	taken := map[netip.Addr]bool{}
	count := func(lo, hi netip.Addr) int {
		n := 0
		for a := range taken {
			if lo.Compare(a) <= 0 && a.Compare(hi) <= 0 {
				n++
			}
		}
		return n
	}
	first, last := Usable(netip.MustParsePrefix("10.1.1.0/29"))
	reserved := []netip.Addr{addr("10.1.1.1"), addr("10.1.1.6"), {}, addr("10.9.9.9")}
	var got []string
	for {
		a, ok := FirstAddress(first, last, reserved, count)
		if !ok {
			break
		}
		taken[a] = true
		got = append(got, a.String())
	}
	if diff := cmp.Diff([]string{"10.1.1.2", "10.1.1.3", "10.1.1.4", "10.1.1.5"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestMasks(t *testing.T) {
	for bits := range 33 {
		if got, ok := MaskBits(Netmask(bits)); !ok || got != bits {
			t.Errorf("%d gives %s gives %d %v", bits, Netmask(bits), got, ok)
		}
	}
	for _, bad := range []string{"", "255.0.255.0", "255.255.255", "::", "x"} {
		if _, ok := MaskBits(bad); ok {
			t.Errorf("%q is taken for a netmask", bad)
		}
	}
}

func TestMAC(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var random [16]byte
		copy(random[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "random"))
		m := MAC(rapid.Uint16().Draw(t, "prefix"), random)
		if m>>40&0x03 != 0x02 || m>>48 != 0 {
			t.Fatalf("%x is no locally administered unicast address", m)
		}
		if back, err := ParseMAC(FormatMAC(m)); err != nil || back != m {
			t.Fatalf("%s reads as %x: %v", FormatMAC(m), back, err)
		}
	})
	for _, bad := range []string{"", "01:00:00:00:00:01", "00:00:00:00:00:00", "02:00:00:00:00:00:00:01"} {
		if _, err := ParseMAC(bad); err == nil {
			t.Errorf("%q is taken for a unicast MAC address", bad)
		}
	}
}
