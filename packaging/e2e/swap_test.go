package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wispcloud/wisp/packaging/api"
	"github.com/wispcloud/wisp/packaging/lab"
)

// killAt waits on a host until a condition of the shell holds, kills the agent at once, and says which namespaces there
// are then. It looks as fast as the processor can: what it waits for may be over in a millisecond.
const killAt = `
agent=$(pgrep -x wisp-agent)
leg() { grep -slx "wisp network $1 leg gw0" /sys/class/net/*/ifalias; }
plugged() { [ -e "${1%/ifalias}/master" ]; }
old=$(leg OLD); new=
echo ready
until CONDITION; do :; done
kill -9 $agent
cd /run/netns; echo *`

// testSwapKilled kills the agent of the router's host in the middle of replacements of the router's namespace. Each comes to
// its end, and nothing is left of it.
func (w *real) testSwapKilled(t *testing.T, a, b *guest) {
	h := w.routerHost(t)
	before := w.machinery(t)
	heard := w.hearAnnouncements(t, h)
	guests := domains(t, w.lab.Host(1)) + domains(t, w.lab.Host(2))
	for _, g := range []*guest{a, b} {
		await(t, time.Minute, "the ssh of "+g.name, func(ctx context.Context) error {
			_, err := g.run(ctx, "true")
			return err
		})
		g.askForLeases(t)
	}
	for _, p := range []struct {
		moment, condition string
		// both tells that neither namespace can be gone at that moment.
		both bool
	}{
		{"the new namespace is made", "[ -e /run/netns/wisp-NEW ]", true},
		{"its services start", "[ -e /run/wisp/netsvc/NEW.sock ]", true},
		{"the old one is unplugged", `! plugged "$old"`, true},
		{"the new one is plugged in", `[ -n "$new" ] && plugged "$new" || { new=$(leg NEW); false; }`, true},
		{"the old one's services ended", "[ ! -e /run/wisp/netsvc/OLD.sock ]", false},
	} {
		began := time.Now()
		was, will := w.incarnations(t, h)
		there := w.restartKilled(t, h, strings.NewReplacer("OLD", was, "NEW", will).Replace(strings.ReplaceAll(killAt, "CONDITION", p.condition)))
		if p.both && len(strings.Fields(there)) != 2 {
			t.Errorf("%s: the agent was not killed in the middle, there is %s", p.moment, there)
		}
		w.awaitMachinery(t, before)
		if now, _ := w.incarnations(t, h); now != will {
			t.Errorf("%s: namespace %s serves, want %s", p.moment, now, will)
		}
		for _, g := range []*guest{a, b} {
			await(t, 20*time.Second, g.name+" to answer after the agent was killed when "+p.moment, g.answers)
		}
		t.Logf("killed when %s (%s): %.1f s", p.moment, there, time.Since(began).Seconds())
	}
	w.checkAnnounced(t, heard())
	if now := domains(t, w.lab.Host(1)) + domains(t, w.lab.Host(2)); now != guests {
		t.Errorf("guests were started anew: %q, before %q", now, guests)
	}
	for _, g := range []*guest{a, b} {
		g.checkLeases(t)
	}
	checkNetwork(t, a, b)
}

// incarnations are the network's instance that a host runs, and the one that replaces it next.
func (w *real) incarnations(t *testing.T, h *lab.Host) (now, next string) {
	t.Helper()
	now = strings.TrimPrefix(strings.TrimSpace(mustExec(t, h, "ls", "/run/netns")), "wisp-")
	id, number, _ := strings.Cut(now, ".")
	n := 0
	if number != "" {
		if _, err := fmt.Sscan(number, &n); err != nil {
			t.Fatalf("namespaces of %s: %q", h.Name(), now)
		}
	}
	return now, fmt.Sprintf("%s.%d", id, n+1)
}

// restartKilled has the network's router replaced while a script on its host looks for the moment to kill the agent. It
// returns what the script printed, when the replacement has succeeded.
func (w *real) restartKilled(t *testing.T, h *lab.Host, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd, err := h.Command(ctx, "sh", "-c", script)
	if err != nil {
		t.Fatal(err)
	}
	lines := begin(t, cmd, "the script that waits for the moment", "ready")
	w.do(t, "restartNetwork", api.Params{"id": w.ids["network hello-net"], "cleanup": "true"}, nil)
	there, readErr := io.ReadAll(lines)
	if err := errors.Join(readErr, cmd.Wait()); err != nil {
		t.Fatalf("waiting for the moment: %v: %s", err, there)
	}
	return strings.TrimSpace(string(there))
}

// machinery is what stands on each host for its networks: how many namespaces, processes and links, and what is whose port.
func (w *real) machinery(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, h := range w.lab.Hosts() {
		out := mustExec(t, h, "sh", "-c", "echo $(ls /run/netns | wc -l) namespaces $(pgrep -cx wisp-netsvc) processes; ls /run/wisp/netsvc | sed 's/.*[.]//' | sort; "+
			"for l in /sys/class/net/w*; do m=$(readlink $l/master) || m=alone; echo ${l##*/} $(cat $l/operstate) ${m##*/}; done")
		lines := strings.Split(strings.TrimSpace(out), "\n")
		for i, line := range lines {
			// The names of legs come from those of instances.
			if word := strings.Fields(line); strings.HasPrefix(line, "wlg") {
				lines[i] = "leg " + strings.Join(word[1:], " ")
			}
		}
		slices.Sort(lines)
		all[h.Name()] = strings.Join(lines, "\n")
	}
	return all
}

func (w *real) awaitMachinery(t *testing.T, want map[string]string) {
	t.Helper()
	await(t, 20*time.Second, "the hosts to be as before", func(context.Context) error {
		for name, now := range w.machinery(t) {
			if now != want[name] {
				return fmt.Errorf("on %s there is\n%s\nand was\n%s", name, now, want[name])
			}
		}
		return nil
	})
}

// hearAnnouncements listens on a host for what tells neighbours and switches that an address has come to another port: ARP
// requests and replies to everybody whose sender and target are the same (RFC 5227, section 3). heard ends it.
func (w *real) hearAnnouncements(t *testing.T, h *lab.Host) (heard func() string) {
	t.Helper()
	cmd, err := h.Command(t.Context(), "python3", "-u", "-c", `
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
print("listening")
while True:
    f, where = s.recvfrom(100)
    if where[0] in ("wbr1", "cloudbr1") and f[:6] == b"\xff" * 6 and f[28:32] == f[38:42] and f[6:12] == f[22:28]:
        print(where[0], f[21], socket.inet_ntoa(f[28:32]), f[22:28].hex(":"))
`)
	if err != nil {
		t.Fatal(err)
	}
	lines := begin(t, cmd, "the listener", "listening")
	text := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(lines)
		text <- string(b)
	}()
	return func() string {
		_ = cmd.Cancel()
		_ = cmd.Wait()
		return <-text
	}
}

// checkAnnounced expects the gateway in the guests' bridge and each public address in the public one, asked for and answered.
func (w *real) checkAnnounced(t *testing.T, heard string) {
	t.Helper()
	routers, err := api.List[struct {
		Gateway   string `json:"guestipaddress"`
		MAC       string `json:"guestmacaddress"`
		PublicMAC string `json:"publicmacaddress"`
	}](t.Context(), w.admin, "listRouters", "router", nil)
	if err != nil || len(routers) != 1 {
		t.Fatalf("routers: %v, %v", routers, err)
	}
	addresses, err := api.List[struct {
		IP string `json:"ipaddress"`
	}](t.Context(), w.admin, "listPublicIpAddresses", "publicipaddress", api.Params{"associatednetworkid": w.ids["network hello-net"]})
	if err != nil || len(addresses) < 2 {
		t.Fatalf("addresses: %v, %v", addresses, err)
	}
	r := routers[0]
	var want []string
	for _, operation := range []string{"1", "2"} {
		want = append(want, strings.Join([]string{"wbr1", operation, r.Gateway, r.MAC}, " "))
		for _, a := range addresses {
			want = append(want, strings.Join([]string{"cloudbr1", operation, a.IP, r.PublicMAC}, " "))
		}
	}
	for _, line := range want {
		if !strings.Contains(heard, line+"\n") {
			t.Errorf("no new namespace announced %q; heard was\n%s", line, heard)
		}
	}
}

// begin starts a program, waits until it says that it has begun, and gives what it prints next.
func begin(t *testing.T, cmd *exec.Cmd, name, word string) *bufio.Reader {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); err != nil || line != word+"\n" {
		t.Fatalf("%s: %q, %v", name, line, err)
	}
	return lines
}
