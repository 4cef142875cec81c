package metadata

import (
	"maps"
	"slices"
	"strings"

	"github.com/wispcloud/wisp/proto/netspec"
)

const (
	text  = "text/plain; charset=utf-8"
	bytes = "application/octet-stream"

	userData   = "user-data"
	metaData   = "meta-data"
	publicKeys = "public-keys"
)

// versions are what "/" lists; any version that looks like one is served alike.
const versions = "1.0\n2009-04-04\nlatest\n"

type body struct {
	kind  string
	bytes []byte
}

func plain(s string) (body, bool) { return body{text, []byte(s)}, true }

// lookup finds what a path names. Doubled and trailing slashes are of no meaning, for clients build paths by pasting.
func lookup(g *netspec.GuestData, path string) (body, bool) {
	parts := strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
	if len(parts) == 0 {
		return plain(versions)
	}
	if isVersion(parts[0]) {
		parts = parts[1:]
	} else if parts[0] != userData && parts[0] != metaData {
		return body{}, false
	}
	if len(parts) == 0 {
		return plain(metaData + "\n" + userData + "\n")
	}
	switch parts[0] {
	case userData:
		return body{bytes, g.GetUserData()}, len(parts) == 1
	case metaData:
		if len(parts) == 1 {
			return plain(list(g.GetMetaData()))
		}
		return value(g.GetMetaData(), parts[1:])
	default:
		return value(g.GetMetaData(), parts) // CloudStack before 3.0: /latest/local-ipv4
	}
}

// isVersion accepts "latest", "1.0" and dates, as EC2 names versions of the interface.
func isVersion(s string) bool {
	if s == "latest" || s == "1.0" {
		return true
	}
	if len(s) != len("2009-04-04") || s[4] != '-' || s[7] != '-' {
		return false
	}
	return strings.Trim(s, "0123456789-") == ""
}

func list(data map[string]string) string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(data)) {
		b.WriteString(key + "\n")
	}
	return b.String()
}

// value is one key's value. The keys of EC2 clients, public-keys/0/openssh-key, are where CloudStack has one text.
func value(data map[string]string, parts []string) (body, bool) {
	v, ok := data[parts[0]]
	if !ok {
		return body{}, false
	}
	if len(parts) == 1 {
		return plain(v)
	}
	if parts[0] != publicKeys || v == "" || parts[1] != "0" {
		return body{}, false
	}
	switch {
	case len(parts) == 2:
		return plain("openssh-key\n")
	case len(parts) == 3 && parts[2] == "openssh-key":
		return plain(v)
	default:
		return body{}, false
	}
}
