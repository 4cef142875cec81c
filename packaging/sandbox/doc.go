// Package sandbox makes a whole cloud with a running VM on one machine, and
// removes it again: `make sandbox` and `make sandbox-down`.
//
// Up is a list of steps, each of which looks at what is there first. So the
// first run makes everything, a run after a crash goes on where it ended, and a
// run while all is well changes nothing and shows the status.
//
// Hosts and networks are a lab (packaging/lab), the coordinator is one process
// on the machine itself. All files are below one directory, .sandbox, but what
// is built: programs and the guest's image are in bin/.
package sandbox
