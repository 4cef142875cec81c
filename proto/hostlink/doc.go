// Package hostlink is the service between agent and coordinator, generated from
// hostlink.proto, which has the words.
package hostlink
