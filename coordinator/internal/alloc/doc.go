// Package alloc chooses numbers, addresses and MAC addresses that are free.
//
// Everything here is pure: what is taken is asked of a function that counts, so a choice costs a few index look-ups
// (O(log n) each) and never a walk over all rows. Two transactions that choose the same value cannot both write it: the
// value is a unique index of its table, and the closure that lost is run again.
//
// The lowest free value is taken, so that choices are the same on every run and easy to foresee for a person.
package alloc
