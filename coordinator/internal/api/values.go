package api

import (
	"cmp"
	"net/url"
	"slices"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// value is one parameter as received, decoded.
type value struct {
	name  string // as sent: it is part of what is signed
	lower string
	text  string
}

// Values are the parameters of a request, query and body merged, in the order of their lower-case names.
type Values []value

// maxParameters bounds a request; the longest real ones (a rule with hundreds of CIDRs is one parameter) have dozens.
const maxParameters = 2000

// parseValues merges encoded parameters. A name that comes twice, in any case, must come with the same text: else one
// text could be signed and another used. No error tells a text, because it may be a password.
// What was read is returned with an error, too, so that the answer has the form the caller asked for.
func parseValues(encoded ...string) (Values, error) {
	n := 0
	for _, s := range encoded {
		n += strings.Count(s, "&") + 1
	}
	v := make(Values, 0, min(n, maxParameters))
	for _, s := range encoded {
		for s != "" {
			var pair string
			pair, s, _ = strings.Cut(s, "&")
			if pair == "" {
				continue
			}
			k, t, _ := strings.Cut(pair, "=")
			name, err := url.QueryUnescape(k)
			if err != nil {
				return sorted(v), cloud.Errorf(cloud.Malformed, "A parameter's name is not percent-encoded well")
			}
			// Names are signed as they are: one that held a separator could stand for two parameters, hide one of them and
			// keep the signature.
			if strings.ContainsAny(name, "=&%+#") || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
				return sorted(v), cloud.Errorf(cloud.Malformed, "A parameter's name holds a space or one of %s", "= & % + #")
			}
			text, err := url.QueryUnescape(t)
			if err != nil {
				return sorted(v), cloud.Errorf(cloud.Malformed, "The value of parameter %s is not percent-encoded well", printable(name))
			}
			if len(v) == maxParameters {
				return sorted(v), cloud.Errorf(cloud.Malformed, "The request has more than %d parameters", maxParameters)
			}
			v = append(v, value{name, strings.ToLower(name), text})
		}
	}
	v = sorted(v)
	for i := 1; i < len(v); i++ {
		if v[i].lower == v[i-1].lower && v[i].text != v[i-1].text {
			return v, cloud.Errorf(cloud.Malformed, "Parameter %s is given twice with different values", printable(v[i].name))
		}
	}
	return slices.CompactFunc(v, func(a, b value) bool { return a.lower == b.lower }), nil
}

func sorted(v Values) Values {
	slices.SortStableFunc(v, func(a, b value) int { return cmp.Compare(a.lower, b.lower) })
	return v
}

// printable shortens a name for a message.
func printable(s string) string {
	const most = 64
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return '?'
		}
		return r
	}, s)
}

// Get is the text of a parameter, by its lower-case name; "" when absent.
func (v Values) Get(lower string) string {
	i, ok := slices.BinarySearchFunc(v, lower, func(a value, b string) int { return cmp.Compare(a.lower, b) })
	if !ok {
		return ""
	}
	return v[i].text
}

// Has tells whether a parameter was sent, empty or not.
func (v Values) Has(lower string) bool {
	_, ok := slices.BinarySearchFunc(v, lower, func(a value, b string) int { return cmp.Compare(a.lower, b) })
	return ok
}
