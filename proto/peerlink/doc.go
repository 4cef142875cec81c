// Package peerlink is the service between coordinators, generated from
// peerlink.proto, which has the words.
package peerlink
