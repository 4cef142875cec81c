package store

import (
	"encoding/binary"
	"slices"
)

// separators are the separators of a branch in order, packed into one string: one byte of how many, four for where each
// ends, the text of all. As strings of their own they would be as many objects as there are pages, for which the garbage
// collector has to look.
type separators string

func pack(list ...string) separators {
	if len(list) == 0 {
		return ""
	}
	size := 1 + 4*len(list)
	for _, s := range list {
		size += len(s)
	}
	b := append(make([]byte, 0, size), byte(len(list)))
	end := uint32(1 + 4*len(list))
	for _, s := range list {
		end += uint32(len(s))
		b = binary.LittleEndian.AppendUint32(b, end)
	}
	for _, s := range list {
		b = append(b, s...)
	}
	return separators(pageOf(b))
}

func (s separators) len() int {
	if s == "" {
		return 0
	}
	return int(s[0])
}

// end is where the separator before i ends.
func (s separators) end(i int) int {
	if i == 0 {
		return 1 + 4*int(s[0])
	}
	at := 4*i - 3
	return int(s[at]) | int(s[at+1])<<8 | int(s[at+2])<<16 | int(s[at+3])<<24
}

func (s separators) at(i int) string { return string(s[s.end(i):s.end(i+1)]) }

// some gives the separators from one to before another. They share the memory of all.
func (s separators) some(from, to int) []string {
	list := make([]string, 0, maxKids)
	for i := from; i < to; i++ {
		list = append(list, s.at(i))
	}
	return list
}

func (s separators) insert(i int, sep string) separators {
	return pack(slices.Insert(s.some(0, s.len()), i, sep)...)
}

func (s separators) remove(i int) separators {
	return pack(slices.Delete(s.some(0, s.len()), i, i+1)...)
}
