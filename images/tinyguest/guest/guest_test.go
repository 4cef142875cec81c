package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReadLeases(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"lease.eth1":     "address=10.2.0.5/16\n",
		"lease.eth0":     "address=10.1.1.10/24\nserver=10.1.1.1\nseconds=86400\ngateway=10.1.1.1 10.1.1.2\nroutes=\ndns=10.1.1.1\ndomain=x=y\nhostname=hello\nmtu=\nunknown=1\njunk\n",
		"lease.eth0.new": "address=half",
		"resolv.eth0":    "nameserver 10.1.1.1\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := []lease{
		{Interface: "eth0", Address: "10.1.1.10/24", Server: "10.1.1.1", Seconds: "86400", Gateway: "10.1.1.1 10.1.1.2", DNS: "10.1.1.1", Domain: "x=y", Hostname: "hello"},
		{Interface: "eth1", Address: "10.2.0.5/16"},
	}
	got := readLeases(dir)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("leases (-want +got):\n%s", diff)
	}
	if got[0].ip() != "10.1.1.10" {
		t.Errorf("address is %s", got[0].ip())
	}
	if diff := cmp.Diff([]string{"10.1.1.1", "data-server", "169.254.169.254"}, sources(append(got, got[0]))); diff != "" {
		t.Errorf("sources (-want +got):\n%s", diff)
	}
}

func TestMergeKeys(t *testing.T) {
	a, b := "ssh-ed25519 AAAA a", "ecdsa-sha2-nistp256 BBBB b c"
	ours := func(keys ...string) string {
		return keysBegin + "\n" + strings.Join(keys, "\n") + "\n" + keysEnd + "\n"
	}
	for _, tc := range []struct {
		name, old string
		keys      []string
		want      string
	}{
		{"first", "", []string{a}, ours(a)},
		{"replaced", ours(a), []string{b}, ours(b)},
		{"two", "", []string{a, b}, ours(a, b)},
		{"none left", "mine\n" + ours(a), nil, "mine\n"},
		{"others stay", "before\n" + ours(a) + "after", []string{b}, "before\nafter\n" + ours(b)},
		{"nothing", "", nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := mergeKeys(tc.old, tc.keys)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("keys (-want +got):\n%s", diff)
			}
			if again := mergeKeys(got, tc.keys); again != got {
				t.Errorf("a second time gave:\n%s", again)
			}
		})
	}
}

func TestInstallKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".ssh", "authorized_keys")
	n, err := installKeys(path, "ssh-ed25519 AAAA a\r\n\nnot a key\nssh-rsa\nsk-ssh-ed25519@openssh.com CCCC\n")
	if err != nil || n != 2 {
		t.Fatalf("%d keys, %v", n, err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := keysBegin + "\nssh-ed25519 AAAA a\nsk-ssh-ed25519@openssh.com CCCC\n" + keysEnd + "\n"
	if diff := cmp.Diff(want, string(b)); diff != "" {
		t.Errorf("authorized_keys (-want +got):\n%s", diff)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
}

func TestWithHash(t *testing.T) {
	shadow := "root:!:19675:0:99999:7:::\nrooty:*:1:0:99999:7:::\n"
	got, err := withHash(shadow, "root", "$6$a$b")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("root:$6$a$b:19675:0:99999:7:::\nrooty:*:1:0:99999:7:::\n", got); diff != "" {
		t.Errorf("shadow (-want +got):\n%s", diff)
	}
	if _, err := withHash(shadow, "ro", "x"); err == nil {
		t.Error("an account that is not there got a password")
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]bool{
		"hello": true, "a.b-c.D9": true, "": false, "-x": false, ".x": false, "a b": false, "a;reboot": false, "ü": false, strings.Repeat("a", 65): false,
	} {
		if got := validHostname(name); got != want {
			t.Errorf("host name %q valid: %t, want %t", name, got, want)
		}
	}
	if diff := cmp.Diff([]string{"instance-id", "public-keys", "a.b_c"}, keysOf("instance-id\n\n placement/ \npublic-keys\r\n../../x\na.b_c\n?q\n")); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	if n := len(keysOf(strings.Repeat("k\n", 1000))); n != maxKeys {
		t.Errorf("%d keys, want %d", n, maxKeys)
	}
	if got := printable("a\tb\x1b[2Jc\r\nd\x7f\u009bé"); got != "a\tb?[2Jc??d??é" {
		t.Errorf("printable %q", got)
	}
}

func TestRoutes(t *testing.T) {
	const table4 = `Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth1	00000000	0100020A	0003	0	0	103	00000000	0	0	0
eth0	00000000	0101010A	0003	0	0	102	00000000	0	0	0
eth0	0001010A	00000000	0001	0	0	0	00FFFFFF	0	0	0
eth0	00000000	zz	0003	0	0	1	00000000	0	0	0
`
	if got := gateway4(table4); got != "10.1.1.1" {
		t.Errorf("gateway4 %q", got)
	}
	const table6 = `00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo
20010db8000100000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00450003     eth0
`
	if got := gateway6(table6); got != "fe80::1" {
		t.Errorf("gateway6 %q", got)
	}
	if got := gateway4("") + gateway6("x y"); got != "" {
		t.Errorf("gateways of nothing: %q", got)
	}
	servers, search := resolver("search a.b c\nnameserver 10.1.1.1\nnameserver fe80::1\n# nameserver x\noptions y\n")
	if diff := cmp.Diff([]string{"10.1.1.1", "fe80::1"}, servers); diff != "" || search != "a.b c" {
		t.Errorf("search %q, servers (-want +got):\n%s", search, diff)
	}
}

func TestGlobalIPv6(t *testing.T) {
	cards := []card{{IPv6: []string{"fe80::1/64"}}, {IPv6: []string{"fe80::2/64", "bad", "2001:db8::2/64"}}}
	if got := globalIPv6(cards); got != "2001:db8::2" {
		t.Errorf("address %q", got)
	}
	if got := globalIPv6(cards[:1]); got != "" {
		t.Errorf("address %q of link-local ones", got)
	}
}

func TestScriptArgv(t *testing.T) {
	direct := []string{scriptPath}
	shell := []string{"/bin/sh", scriptPath}
	for line, want := range map[string][]string{
		"#!/bin/sh\necho":                  direct,
		"#!/nonexistent/bin/bash -e\necho": shell,
		"#! /usr/bin/env bash\necho":       shell,
		"#!/usr/bin/env python3\n":         direct,
		"#!":                               direct,
	} {
		if diff := cmp.Diff(want, scriptArgv([]byte(line))); diff != "" {
			t.Errorf("%q (-want +got):\n%s", line, diff)
		}
	}
	if isScript([]byte("# !")) || !isScript([]byte("#!/bin/sh")) {
		t.Error("scripts are not told from other user-data")
	}
}

func TestParseUevent(t *testing.T) {
	got := parseUevent([]byte("add@/devices/x\x00ACTION=add\x00SUBSYSTEM=net\x00MODALIAS=virtio:d1v2\x00INTERFACE=eth1\x00"))
	want := map[string]string{"ACTION": "add", "SUBSYSTEM": "net", "MODALIAS": "virtio:d1v2", "INTERFACE": "eth1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
}

func TestPowerButton(t *testing.T) {
	sys := t.TempDir()
	for name, text := range map[string]string{"event0": "AT keyboard\n", "event3": "Power Button\n"} {
		dir := filepath.Join(sys, name, "device")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "name"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := powerButton(sys); got != "event3" {
		t.Errorf("power button is %q", got)
	}
	// struct input_event on 64 bit: 16 bytes of time, then type, code and value.
	event := func(kind, code, value byte) string {
		return strings.Repeat("t", 16) + string([]byte{kind, 0, code, 0, value, 0, 0, 0})
	}
	for name, tc := range map[string]struct {
		events string
		want   bool
	}{
		"pressed":        {event(0, 0, 0) + event(1, 30, 1) + event(1, keyPower, 1), true},
		"released alone": {event(1, keyPower, 0), false},
		"gone":           {"", false},
	} {
		path := filepath.Join(t.TempDir(), "event")
		if err := os.WriteFile(path, []byte(tc.events), 0o644); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := waitForPower(f); got != tc.want {
			t.Errorf("%s: %t, want %t", name, got, tc.want)
		}
		f.Close()
	}
}

func TestRender(t *testing.T) {
	page := render(info{
		Name: "<hello>", Interfaces: []card{{Name: "eth0", MAC: "02:00", MTU: 1400, IPv4: []string{"10.1.1.10/24"}, IPv6: []string{"fe80::1/64", "2001:db8::1/64"}}},
		Gateway4: "10.1.1.1", DNS: []string{"10.1.1.1"}, Metadata: metadataInfo{Source: "10.1.1.1"},
		UserData: "<script>alert('x')</script>", UserDataBase64: []byte("<script>alert('x')</script>"), Boots: 2, Uptime: 61, Client: "10.1.1.1",
	})
	want := `<h1>&lt;hello&gt;</h1>
<table>
<tr><th>eth0 MAC<td>02:00
<tr><th>eth0 IPv4<td>10.1.1.10/24
<tr><th>eth0 IPv6<td>fe80::1/64 2001:db8::1/64
<tr><th>eth0 MTU<td>1400
<tr><th>gateway<td>10.1.1.1
<tr><th>DNS<td>10.1.1.1
<tr><th>metadata from<td>10.1.1.1
<tr><th>boots<td>2
<tr><th>up<td>1m1s
<tr><th>you are<td>10.1.1.1
</table>
<h2>User-data</h2>
<pre>&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;</pre>
`
	_, body, _ := strings.Cut(page, "</style>\n")
	if diff := cmp.Diff(want, body); diff != "" {
		t.Errorf("page (-want +got):\n%s", diff)
	}
	if !strings.Contains(page, "<title>&lt;hello&gt;</title>") {
		t.Error("the title is not escaped")
	}
}
