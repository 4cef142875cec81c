package store

import (
	"slices"
	"strings"
)

// tree is an immutable ordered map of byte strings. put and delete return a new
// tree that shares what did not change. The zero tree is empty.
type tree struct{ e []entry }

type entry struct{ key, val string }

func (t tree) find(key string) (int, bool) {
	return slices.BinarySearchFunc(t.e, key, func(e entry, k string) int { return strings.Compare(e.key, k) })
}

func (t tree) len() int { return len(t.e) }

func (t tree) get(key string) (string, bool) {
	i, ok := t.find(key)
	if !ok {
		return "", false
	}
	return t.e[i].val, true
}

func (t tree) put(key, val string) tree {
	i, ok := t.find(key)
	e := make([]entry, 0, len(t.e)+1)
	e = append(append(e, t.e[:i]...), entry{key, val})
	if ok {
		i++
	}
	return tree{append(e, t.e[i:]...)}
}

func (t tree) delete(key string) tree {
	i, ok := t.find(key)
	if !ok {
		return t
	}
	return tree{append(slices.Clone(t.e[:i]), t.e[i+1:]...)}
}

// ascend calls f for the entries from key on, in order, until f returns false.
func (t tree) ascend(from string, f func(key, val string) bool) {
	i, _ := t.find(from)
	for ; i < len(t.e); i++ {
		if !f(t.e[i].key, t.e[i].val) {
			return
		}
	}
}

// rank is the number of entries below key.
func (t tree) rank(key string) int {
	i, _ := t.find(key)
	return i
}
