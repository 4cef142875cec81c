// Package matrix says which packets pass a router and which do not: one table of probes with what must come of each,
// and the world of guests, a neighbour that lies, and an outside that they are sent in.
//
// A router runs in a namespace of a host or in a system VM. It is the same program with the same spec, so the table
// knows nothing of where it runs: whoever tests a placement plugs a router into the World's bridges and hands Run the
// way to talk to it. Everything happens in namespaces of the test's own.
package matrix
