// Package e2e tests the cloud as a whole, through its public API only: real coordinator processes on loopback with
// simulated hosts (crash, cluster), and the sandbox with real hosts, guests and clients (sandbox).
//
// The tests build the programs they start, need nothing that was installed by hand, and leave nothing behind.
package e2e
