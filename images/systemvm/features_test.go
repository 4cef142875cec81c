package systemvm_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/images/internal/gobuild"
)

// typed types a line into the debug console.
func (m *machine) typed(line string) {
	m.t.Helper()
	if _, err := io.WriteString(m.stdin, line+"\r"); err != nil {
		m.t.Fatal(err)
	}
}

// TestFeatures runs a program inside the image, over the debug console: kernel
// features that hosts may lack, whose modules are loaded when they are asked for,
// and the programs that no service starts yet. The program comes on a second
// disk; nothing of it is in the image.
func TestFeatures(t *testing.T) {
	f := imageForTest(t)
	program, err := gobuild.BuildPackage(t.Context(), t.TempDir(), gobuild.Package{Source: checkout, Dir: "images/systemvm/testdata/features", Version: "0"})
	if err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(t.TempDir(), "features.raw")
	if err := os.WriteFile(disk, append(program, make([]byte, 4096-len(program)%4096)...), 0o644); err != nil {
		t.Fatal(err)
	}
	o := direct(f)
	o.cmdline += " wisp.debug=1"
	o.disks = append(o.disks, disk)
	o.memory = 192 // the program is held in memory
	m := start(t, o)
	m.waitFor("debug# ")
	m.typed("cat /dev/vdb >/tmp/features; chmod 700 /tmp/features; /tmp/features; echo features: exit=$?")
	exit := regexp.MustCompile(`(?m)^features: exit=\d+`)
	eventually(t, bootLimit, "the end of the program", func() error {
		if !exit.MatchString(m.console()) {
			return fmt.Errorf("console has no such line")
		}
		return nil
	})
	var got []string
	for line := range strings.Lines(m.console()) {
		if strings.HasPrefix(line, "features: ") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	want := []string{"features: vlan works", "features: esp works", "features: wireguard works", "features: done", "features: exit=0"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the program said (-want +got):\n%s", diff)
	}
	m.daemons()
}

// daemons starts the two that later services use, each far enough to show that
// everything it links with and opens is there.
func (m *machine) daemons() {
	m.t.Helper()
	m.typed("haproxy -vv >/tmp/h 2>&1; echo haproxy: exit=$? $(grep -c OpenSSL /tmp/h)")
	m.waitFor("\nhaproxy: exit=0")
	m.typed("/usr/lib/ipsec/charon >/tmp/charon.log 2>&1 &")
	m.typed("n=0; until swanctl --stats >/tmp/stats 2>/dev/null || [ $((n+=1)) = 300 ]; do sleep 0.2; done; echo charon: exit=$? $(grep -c openssl /tmp/stats)")
	m.waitFor("\ncharon: exit=0")
	if !strings.Contains(m.console(), "\ncharon: exit=0 1") {
		m.t.Error("strongSwan runs without its plugin openssl")
	}
}
