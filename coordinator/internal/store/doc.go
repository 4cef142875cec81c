// Package store keeps the coordinator's state: typed tables with unique and
// secondary indexes, transactions, write sets, and snapshots.
//
// The state is one immutable value. A transaction builds its successor beside
// it, so a reader holds a consistent state for as long as it likes without a
// lock, a failed closure leaves nothing behind, the leader can compute on top of
// what is still being replicated, and a snapshot is a pointer.
//
// Rows and index entries are kept encoded in packed pages without pointers (see
// DESIGN.md); every read hands out a freshly decoded copy that the caller may
// keep and change.
package store
