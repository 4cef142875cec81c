// Package server is the coordinator as a whole: it reads the configuration, opens the state, composes every area's
// commands, settings and loops by hand in reading order, and serves them.
//
// # Coordinators among themselves
//
// The coordinators of a cluster share one file, seal.key. From it each derives the same certificate authority for the
// traffic between coordinators (raft, and the peer link that forwards API calls and lets a coordinator join) and signs
// its own certificate at each start, so nobody without the file speaks to them, and there is no bootstrap order: the
// authority that agents trust (package pki) lives in the replicated state, which a joining coordinator does not have
// yet. To make one coordinator three: give its raft and peers listeners addresses the others reach, copy seal.key to
// the same place in the data directory of each new one, set join to the first one's peers address, and start it.
package server
