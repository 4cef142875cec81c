package alloc

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// First gives the smallest number from lo to hi that is not taken. taken counts the taken numbers of a closed interval;
// it is asked about log2(hi-lo) times.
func First(lo, hi uint64, taken func(lo, hi uint64) int) (uint64, bool) {
	if lo > hi || full(lo, hi, taken) {
		return 0, false
	}
	for lo < hi {
		mid := lo + (hi-lo)/2
		if full(lo, mid, taken) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, true
}

func full(lo, hi uint64, taken func(lo, hi uint64) int) bool {
	return uint64(max(0, taken(lo, hi))) >= hi-lo+1
}

// Range is a closed interval of segment numbers (VLAN ids or VNIs).
type Range struct{ Lo, Hi uint32 }

// Ranges is a set of numbers: sorted, without overlap or adjacency.
type Ranges []Range

// ParseRanges reads "100-200,300": numbers and intervals from least to most, in any order. The empty text is the empty
// set. The error is a sentence for the caller of the API.
func ParseRanges(text string, least, most uint32) (Ranges, error) {
	var set Ranges
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		from, to, both := strings.Cut(part, "-")
		if !both {
			to = from
		}
		lo, errLo := strconv.ParseUint(strings.TrimSpace(from), 10, 32)
		hi, errHi := strconv.ParseUint(strings.TrimSpace(to), 10, 32)
		if errLo != nil || errHi != nil {
			return nil, fmt.Errorf("%q is not a number or a range of two numbers", part)
		}
		if lo > hi || lo < uint64(least) || hi > uint64(most) {
			return nil, fmt.Errorf("range %q must rise and lie between %d and %d", part, least, most)
		}
		set = append(set, Range{uint32(lo), uint32(hi)})
	}
	return set.normal(), nil
}

// normal sorts and joins what overlaps or touches.
func (s Ranges) normal() Ranges {
	slices.SortFunc(s, func(a, b Range) int { return int(int64(a.Lo) - int64(b.Lo)) })
	var out Ranges
	for _, r := range s {
		if n := len(out); n > 0 && uint64(r.Lo) <= uint64(out[n-1].Hi)+1 {
			out[n-1].Hi = max(out[n-1].Hi, r.Hi)
			continue
		}
		out = append(out, r)
	}
	return out
}

// String is the text that ParseRanges reads.
func (s Ranges) String() string {
	parts := make([]string, len(s))
	for i, r := range s {
		parts[i] = fmt.Sprintf("%d-%d", r.Lo, r.Hi)
		if r.Lo == r.Hi {
			parts[i] = strconv.FormatUint(uint64(r.Lo), 10)
		}
	}
	return strings.Join(parts, ",")
}

// Contains tells whether n is in the set.
func (s Ranges) Contains(n uint32) bool {
	return slices.ContainsFunc(s, func(r Range) bool { return r.Lo <= n && n <= r.Hi })
}

// Size is how many numbers the set has.
func (s Ranges) Size() uint64 {
	var n uint64
	for _, r := range s {
		n += uint64(r.Hi-r.Lo) + 1
	}
	return n
}

// Overlaps tells whether the sets share a number.
func (s Ranges) Overlaps(o Ranges) bool {
	return slices.ContainsFunc(s, func(a Range) bool {
		return slices.ContainsFunc(o, func(b Range) bool { return a.Lo <= b.Hi && b.Lo <= a.Hi })
	})
}

// First gives the smallest number of the set that is not taken.
func (s Ranges) First(taken func(lo, hi uint64) int) (uint32, bool) {
	for _, r := range s {
		if n, ok := First(uint64(r.Lo), uint64(r.Hi), taken); ok {
			return uint32(n), true
		}
	}
	return 0, false
}
