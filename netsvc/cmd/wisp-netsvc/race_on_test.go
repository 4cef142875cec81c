//go:build race

package main

// buildFlags make the program under test watch for races where the test does.
var buildFlags = []string{"-race"}
