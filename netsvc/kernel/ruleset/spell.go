package ruleset

import (
	"fmt"
	"strings"
)

// CheckLink says whether a link's name can stand in a rule as it is.
func CheckLink(name string) error {
	if name == "" || strings.ContainsAny(name, " \t\n!+\"'") {
		return fmt.Errorf("link name %q cannot stand in a rule", name)
	}
	return nil
}

// plain are the characters of ids that need no quoting.
const plain = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// Comment is the match that names a rule for those who read the chain; it is empty for an id that would need quoting.
func Comment(id string) string {
	if id == "" || len(id) > 64 || strings.HasPrefix(id, "-") || strings.Trim(id, plain) != "" {
		return ""
	}
	return "-m comment --comment " + id
}
