package matrix

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/netsvc/netsvctest"
)

// Announced takes the carrier from a router's gateway and public legs and gives it back, as a successor's is when it takes
// over, and looks on the wire for what tells the neighbours and the switches between: of each address of both legs an ARP
// request and a reply (RFC 5227, section 3) from its MAC. Of the services' leg, whose address is on every host, nothing.
func Announced(t *testing.T, w *World, p *Peer, plug func(in bool)) {
	t.Helper()
	plug(false)
	p.Apply(t, Spec()) // so that the router has seen that it has no carrier
	type listener struct {
		at   *netsvctest.Node
		what string
		want []string
		*netsvctest.Process
	}
	listeners := []*listener{
		{at: w.g1, what: "the gateway at a guest", want: announcements(gwMAC, gwIP)},
		{at: w.world, what: "the public addresses outside", want: announcements(pubMAC, pubIP, pubIP2, staticIP)},
	}
	for _, l := range listeners {
		l.Process = l.at.Start("python3", "-u", "-c", arpScript)
		netsvctest.Wait(t, "ears for "+l.what, time.Minute, func() (bool, string) {
			return strings.Contains(l.Output(), "listening"), l.Output()
		})
	}
	plug(true)
	for _, l := range listeners {
		heard := func() []string {
			lines := slices.DeleteFunc(strings.Split(l.Output(), "\n"), func(s string) bool { return !strings.HasPrefix(s, "arp ") })
			slices.Sort(lines)
			return slices.Compact(lines)
		}
		netsvctest.Wait(t, "the announcement of "+l.what, time.Minute, func() (bool, string) {
			got := heard()
			missing := slices.DeleteFunc(slices.Clone(l.want), func(s string) bool { return slices.Contains(got, s) })
			return len(missing) == 0, strings.Join(got, "; ")
		})
		if diff := cmp.Diff(l.want, heard()); diff != "" {
			t.Errorf("announced of %s (-want +got):\n%s", l.what, diff)
		}
	}
}

// announcements are the lines of arpScript for addresses of a MAC, sorted.
func announcements(mac string, addresses ...string) (lines []string) {
	for _, operation := range []int{1, 2} {
		for _, ip := range addresses {
			lines = append(lines, fmt.Sprintf("arp %d %s by %s", operation, ip, mac))
		}
	}
	return lines
}

// arpScript prints each broadcast ARP packet whose sender and target address are the same, if the frame and the packet
// have the same sender.
const arpScript = `
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
print("listening")
while True:
    f = s.recv(100)
    if f[:6] == b"\xff" * 6 and f[28:32] == f[38:42] and f[6:12] == f[22:28]:
        print("arp", f[21], socket.inet_ntoa(f[28:32]), "by", f[22:28].hex(":"))
`
