package store

// CountBetween is the number of rows whose key is at least from and below to. It takes logarithmic time, so a caller
// can look for a gap in a dense index by halving (alloc.First).
func (t *Table[R]) CountBetween(r Reader, index string, from, to Key) int {
	x := noteAll(r).table(&t.core, false).indexes[t.position(index)]
	return max(0, x.rank(string(to))-x.rank(string(from)))
}
