package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/wispcloud/wisp/agent/agenttest"
)

// TestAnsible declares zones, offerings, roles, tenants and their things with the CloudStack modules of Debian's ansible,
// and takes them away again. Each playbook runs twice: the second run finds nothing to do.
func TestAnsible(t *testing.T) {
	const collection = "/usr/lib/python3/dist-packages/ansible_collections/ngine_io/cloudstack/MANIFEST.json"
	if _, err := os.Stat(collection); err != nil {
		if os.Geteuid() == 0 {
			t.Fatal("ansible is not installed (make deps)")
		}
		t.Skip("ansible is not installed (make deps as root)")
	}
	n := newNode(t, "c1")
	n.start(t)
	n.awaitReady(t)
	c := newCloud(t, n, 2, agenttest.Latency{})
	p := &ansible{cloud: c, home: t.TempDir()}
	p.play(t, "ansible_present.yml", false)
	if changed := p.play(t, "ansible_present.yml", true); changed != "0" {
		t.Errorf("the second run of what is declared changed %s things", changed)
	}
	p.play(t, "ansible_absent.yml", false)
	if changed := p.play(t, "ansible_absent.yml", true); changed != "0" {
		t.Errorf("the second run of what is taken away changed %s things", changed)
	}
	await(t, 30*time.Second, "nothing to be left", c.empty)
}

// ansible runs playbooks against a cloud; its own files are in home.
type ansible struct {
	cloud *cloud
	home  string
}

var recap = regexp.MustCompile(`(?m)^localhost +: ok=[1-9][0-9]* +changed=([0-9]+) +unreachable=0 +failed=0 `)

// play runs a playbook and tells how many tasks changed something. again tells the playbook that it has run before.
func (p *ansible) play(t *testing.T, file string, again bool) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	// One of our own, so that none of the machine's is read.
	config := filepath.Join(p.home, "ansible.cfg")
	if err := os.WriteFile(config, []byte("[defaults]\ninterpreter_python = /usr/bin/python3\npipelining = true\nnocolor = true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, "/usr/bin/ansible-playbook", "-i", "localhost,", "--diff",
		"-e", fmt.Sprintf(`{"secondary": %q, "again": %t}`, filepath.Join(p.home, "secondary"), again), "clients/"+file)
	cmd.Env = append(os.Environ(), "CLOUDSTACK_ENDPOINT="+p.cloud.admin.Endpoint, "CLOUDSTACK_KEY="+p.cloud.admin.Key,
		"CLOUDSTACK_SECRET="+p.cloud.admin.Secret, "HOME="+p.home, "ANSIBLE_HOME="+p.home, "ANSIBLE_LOCAL_TEMP="+p.home,
		"ANSIBLE_CONFIG="+config, "LC_ALL=C.UTF-8")
	began := time.Now()
	out, err := cmd.CombinedOutput()
	found := recap.FindSubmatch(out)
	if err != nil || found == nil {
		t.Fatalf("%s: %v\n%s", file, err, out)
	}
	if changed := string(found[1]); again && changed != "0" {
		t.Logf("%s", out)
	}
	t.Logf("%s took %.1f s and changed %s tasks' things", file, time.Since(began).Seconds(), strings.TrimSpace(string(found[1])))
	return string(found[1])
}
