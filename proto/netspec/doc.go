// Package netspec is the desired state of one network namespace and what the
// services in it observe, generated from netspec.proto, which has the words.
package netspec
