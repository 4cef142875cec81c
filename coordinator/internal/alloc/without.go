package alloc

// Without is the set less the numbers of another one.
func (s Ranges) Without(o Ranges) Ranges {
	out := append(Ranges(nil), s...)
	for _, cut := range o {
		var next Ranges
		for _, r := range out {
			if cut.Hi < r.Lo || r.Hi < cut.Lo {
				next = append(next, r)
				continue
			}
			if r.Lo < cut.Lo {
				next = append(next, Range{r.Lo, cut.Lo - 1})
			}
			if cut.Hi < r.Hi {
				next = append(next, Range{cut.Hi + 1, r.Hi})
			}
		}
		out = next
	}
	return out
}
