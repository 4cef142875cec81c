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

// Comment is the match that names a rule for those who read the chain; it is empty for an id that would need quoting.
func Comment(id string) string {
	odd := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-')
	}
	if id == "" || len(id) > 64 || strings.HasPrefix(id, "-") || strings.ContainsFunc(id, odd) {
		return ""
	}
	return "-m comment --comment " + id
}
