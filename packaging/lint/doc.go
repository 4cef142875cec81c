// Package lint holds the rules of the house that no linter knows, as Go tests
// over the repository's files: `go test ./packaging/lint`.
//
// A remark made twice in review becomes a rule here or in .golangci.yml. An
// exception is a line with its reason in allow.txt; one that is no longer needed
// fails too.
package lint
