package link

import (
	"errors"
	"io/fs"
	"maps"
	"slices"
)

// Sysctls of the namespace as a whole. For these the kernel takes the greater (or the "or") of "all" and the link's
// own, so "all" must be zero for the link's to count; a new namespace inherits the host's values.
var allSysctls = map[string]string{
	"rp_filter":           "0",
	"arp_ignore":          "0",
	"arp_announce":        "0",
	"accept_redirects":    "0",
	"send_redirects":      "0",
	"accept_source_route": "0",
}

// Sysctls sets the keys (with "*" for the link's name) that this package writes, for tests that print them.
func Sysctls() []string {
	var keys []string
	for name := range allSysctls {
		keys = append(keys, "net/ipv4/conf/all/"+name)
	}
	for name := range ipv4Sysctls(&wish{}) {
		keys = append(keys, "net/ipv4/conf/*/"+name)
	}
	for name := range ipv6Sysctls {
		keys = append(keys, "net/ipv6/conf/*/"+name)
	}
	slices.Sort(keys)
	return keys
}

func ipv4Sysctls(w *wish) map[string]string {
	values := map[string]string{
		// A guest must not be able to make us send elsewhere, nor should it be told to: redirects would send
		// hairpin traffic (guest to its own public address) around the translation.
		"accept_redirects":    "0",
		"send_redirects":      "0",
		"accept_source_route": "0",
		// Deleting one of several addresses of a prefix must leave the others.
		"promote_secondaries": "1",
		// Strict reverse path filter: a source must be reachable by the link it came in on (RFC 3704).
		"rp_filter":    "1",
		"arp_ignore":   "0",
		"arp_announce": "0",
	}
	if w.strictARP {
		values["arp_ignore"] = "1"   // answer only for addresses of the link that was asked
		values["arp_announce"] = "2" // ask with an address of the link
	}
	if w.back() {
		// Packets to an address that both legs have (169.254.169.254) are judged by the main table, where the other
		// leg wins: strict would drop them.
		values["rp_filter"] = "2"
	}
	return values
}

// No IPv6 is wanted on links yet: the kernel shall neither listen to advertisements nor answer.
var ipv6Sysctls = map[string]string{"accept_ra": "0", "disable_ipv6": "1"}

func (p *pass) linkSysctls(w *wish) error {
	err := p.sysctls("net/ipv4/conf/"+w.name+"/", ipv4Sysctls(w))
	if err6 := p.sysctls("net/ipv6/conf/"+w.name+"/", ipv6Sysctls); !errors.Is(err6, fs.ErrNotExist) {
		err = errors.Join(err, err6) // a kernel without IPv6 has no such directory
	}
	return err
}

func (p *pass) sysctls(dir string, values map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		have, err := p.k.Sysctl(dir + name)
		if err != nil {
			return err
		}
		if have == values[name] {
			continue
		}
		p.changes++
		if err := p.k.SetSysctl(dir+name, values[name]); err != nil {
			return err
		}
	}
	return nil
}
