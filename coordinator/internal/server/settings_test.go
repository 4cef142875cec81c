package server

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/settings"
)

// absent says why settings of CloudStack 4.1 are not here, by the form of their names. The first that matches counts.
var absent = []struct{ names, why string }{
	{`^(xen|xapi|vmware|ovm)|^kvm\.|^hypervisor\.list|baremetal`, "other hypervisors, or their switches: hosts run KVM, and bridges are labels of traffic types"},
	{`^consoleproxy`, "there is no console proxy in this version"},
	{`^secstorage|^secondary\.storage|^mount\.parent|^(s3|swift)\.enable`, "templates are served by the coordinators; there is no secondary storage VM, S3 or Swift"},
	{
		`^(snapshot|backup\.snapshot|concurrent\.snapshots|create\.|copy\.volume|extract|disable\.extraction|migrat|storage\.max\.volume\.upload)|\.from\.(snapshot|volume)`,
		"snapshots, extraction and migration are not in this version",
	},
	{`^(remote\.access|site2site|vpc)`, "VPN and VPC are not in this version"},
	{`loadbalancer|^eip|^external\.(lb|firewall|network)|netscaler`, "load balancing and external devices are not in this version"},
	{`securitygroups|basiczone|^direct\.(attach|network\.no)|^sdn`, "basic zones, security groups, shared networks and controllers are not in this version"},
	{`^(usage|traffic\.sentinel|enable\.usage)|^direct\.network\.stats`, "usage records are not in this version"},
	{
		`^(workers|wait|update\.wait|port|host|total\.retries|expunge\.workers|ha\.workers|direct\.agent|agent\.l|cluster\.message|detail\.batch|sync\.interval)|^task\.cleanup|^(host|start)\.retry|poolsize`,
		"threads, queues and agent connections of CloudStack's server: agents are told states, not commands, and jobs wait for rows",
	},
	{
		`^vm\.op|^network\.lock|^storage\.pool\.max|^capacity\.skip|^vm\.tranisition|^stop\.retry|^investigate|^primary\.storage\.download`,
		"locks and waits of its state machine: rows change in transactions, and a transition waits for its host's report",
	},
	{
		`\.stats\.interval$|^resourcecount\.check|^account\.cleanup|^storage\.(cleanup|template\.cleanup)|^network\.gc\.interval|^router\.check`,
		"intervals of scans: counts are kept in the transactions that change them, hosts report when something changes, and removal goes on until it is done",
	},
	{`^router|^system\.vm|^recreate\.systemvm|^linkLocal|^control\.`, "sizes and control network of system VMs: a router's size is its service offering, and agents reach it over a virtio port"},
	{`^security\.|^endpointe|^enable\.(ec2|s3)|^json\.content|^encode\.api|^api\.throttling\.cachesize`, "other ways into its API, and how its answers are written"},
	{`^vm\.(allocation|user)|^apply\.allocation`, "placement takes the emptiest host that fits, in whatever pod it is"},
	{
		`^cloud\.identifier|^management\.network|^guest\.vlan\.bits|^use\.external`,
		"given otherwise: a zone names its resolvers, VXLAN numbers tell networks apart, agents join by token from wherever they are, and the cloud's identifier is made once",
	},
	{
		`^check\.pod|^network\.(dhcp|disable)|^vm\.destroy`,
		"fixed here: ranges must not overlap, DHCP tells every guest OS the same, packets with a foreign source never pass, and a destroyed VM is not asked to shut down",
	},
	{`^allow\.subdomain|^network\.ipv6`, "shared networks and IPv6 in guest networks are not in this version"},
}

// names lists the settings of 4.1.
func names41(t *testing.T) (out []string) {
	t.Helper()
	b, err := os.ReadFile("testdata/config-4.1.tsv")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n")[1:] {
		out = append(out, strings.Split(line, "\t")[1])
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// page writes docs/settings.md.
func page(g *settings.Registry, old []string) (text string, unexplained []string) {
	var b strings.Builder
	b.WriteString("# Settings\n\nWritten by `go test ./coordinator/internal/server -run Settings -update`. `listConfigurations` shows them, `updateConfiguration`\n" +
		"changes them; a change holds at once, on every coordinator. A scope beside Global takes a value of its own.\n\n" +
		"| name | type | default | scope | for |\n|---|---|---|---|---|\n")
	for _, d := range g.All() {
		value := d.Default
		if value != "" {
			value = "`" + value + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", d.Name, d.Type, value, d.Scopes, strings.ReplaceAll(d.Doc, "|", `\|`))
	}
	b.WriteString("\n## Settings of CloudStack 4.1 that mean nothing here\n\nThey are refused as unknown.\n")
	left := map[string][]string{}
	for _, name := range old {
		if _, ok := g.Get(name); ok {
			continue
		}
		why := ""
		for _, a := range absent {
			if regexp.MustCompile(a.names).MatchString(name) {
				why = a.why
				break
			}
		}
		if why == "" {
			unexplained = append(unexplained, name)
		}
		left[why] = append(left[why], "`"+name+"`")
	}
	for _, a := range absent {
		if len(left[a.why]) > 0 {
			fmt.Fprintf(&b, "\n%s%s:\n%s.\n", strings.ToUpper(a.why[:1]), a.why[1:], strings.Join(left[a.why], ", "))
			delete(left, a.why)
		}
	}
	return b.String(), unexplained
}

// Every setting of 4.1 is here or has a reason not to be, and the page says so.
func TestSettingsAreExplained(t *testing.T) {
	s, err := Open(t.Context(), testConfig(t, "one"), "test", slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	text, unexplained := page(s.settings, names41(t))
	if len(unexplained) > 0 {
		t.Errorf("neither honoured nor explained: %s", strings.Join(unexplained, " "))
	}
	const file = "../../../docs/settings.md"
	if f := flag.Lookup("update"); f != nil && f.Value.String() == "true" {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), text); d != "" {
		t.Errorf("docs/settings.md is old (go test -run Settings -update writes it): %s", d)
	}
}
