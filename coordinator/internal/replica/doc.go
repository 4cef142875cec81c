// Package replica keeps the store of several coordinators equal, with raft.
//
// The leader runs every mutation as a closure over its state, and the log records
// only what the closures wrote (see package store). Update gathers the closures
// that wait into one log entry, so that the cost of a durable commit is shared
// under load; while an entry is being replicated, the next ones are computed on
// top of it. What a closure was told is never told to its caller before everything
// it was computed from is durable.
//
// A replica that is not the leader says who is. Loops that only the leader may
// run are started after it has applied everything its predecessors committed, and
// are stopped, and waited for, when it loses the leadership.
package replica
