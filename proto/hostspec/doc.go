// Package hostspec is the desired state of one hypervisor host and what its
// agent observes there, generated from hostspec.proto, which has the words.
package hostspec
