// Package reference writes the reference of the API from the registry: a page per command for people, and OpenAPI 3.1
// for programs. Nothing in it is written by hand, so it says what the coordinator does.
package reference
