//go:build !race

package api_test

// raced tells whether the race detector is on, which makes this process many times slower and others not.
const raced = false
