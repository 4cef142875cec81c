package tinyguest_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
)

// TestBoot tells the story of one guest: three boots, with the metadata service
// in each of the places where it may be.
func TestBoot(t *testing.T) {
	image := os.Getenv(inLab)
	if image == "" {
		inNamespace(t, "^TestBoot$", imageForTest(t))
		return
	}
	s := &story{T: t, lab: newLab(t), image: image, disk: filepath.Join(t.TempDir(), "disk.qcow2")}
	overlay(t, image, s.disk, 1<<30)
	s.signer, s.authorized = newKey(t)
	begin := time.Now()
	for _, chapter := range []struct {
		name string
		tell func()
	}{
		{"first boot", s.firstBoot},
		{"reboot with a password", s.rebootWithPassword},
		{"power off", s.powerOff},
		{"start again", s.startAgain},
	} {
		chapter.tell()
		t.Logf("%.1f s: %s done", time.Since(begin).Seconds(), chapter.name)
	}
}

// story carries the guest from boot to boot.
type story struct {
	*testing.T
	lab        *lab
	image      string
	disk       string
	m          *machine
	signer     ssh.Signer
	authorized string
	hostKey    ssh.PublicKey
}

func newKey(t testing.TB) (ssh.Signer, string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return signer, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

const script = "#!/bin/bash\necho \"<b>from the script\"\necho by-script >/root/by-script\nexit 3\n"

func (s *story) firstBoot() {
	s.lab.serveMetadata(serverIP, map[string]string{
		"/latest/user-data":             script,
		"/latest/meta-data/":            "instance-id\nlocal-hostname\npublic-keys\n",
		"/latest/meta-data/instance-id": "i-2-3-VM",
		"/latest/meta-data/public-keys": s.authorized + "\n",
	})
	s.m = start(s, s.disk, options{})
	ready := s.m.waitReady(1)
	took := time.Since(s.m.started)
	if diff := cmp.Diff([]string{"hello", guestIP, serverIP}, ready); diff != "" {
		s.Errorf("ready line (-want +got):\n%s", diff)
	}
	ack, _ := s.lab.leaseTime()
	s.Logf("first boot: lease after %.1f s, ready after %.1f s", ack.Sub(s.m.started).Seconds(), took.Seconds())

	eventually(s, 20*time.Second, "the script's end", func() error {
		return contains(s.m.console(), "wisp-guest user-data script exit=3")
	})
	eventually(s, 20*time.Second, "an address by router advertisement", func() error {
		text, err := get(guestIP, "/info.json")
		if err != nil {
			return err
		}
		return contains(text, guestIPv6+"/64")
	})
	if diff := cmp.Diff(s.wantInfo(), s.m.info(guestIP)); diff != "" {
		s.Errorf("info.json (-want +got):\n%s", diff)
	}
	s.checkPage()
	s.checkEcho()

	c, err := login(ssh.PublicKeys(s.signer), &s.hostKey)
	if err != nil {
		s.Fatal(err)
	}
	defer c.Close()
	if diff := cmp.Diff("root:!:19675:0:99999:7:::\n", run(s, c, "grep ^root: /etc/shadow")); diff != "" {
		s.Errorf("the root account is not locked (-want +got):\n%s", diff)
	}
	if _, err := login(ssh.Password(""), new(ssh.PublicKey)); err == nil {
		s.Error("an empty password was accepted")
	}
	routes := "10.1.1.0/24 dev eth0 scope link  src 10.1.1.10 \n" +
		"10.99.0.0/16 via 10.1.1.254 dev eth0  metric 102 onlink \n" +
		"default via 10.1.1.1 dev eth0  metric 102 onlink \n"
	if diff := cmp.Diff(routes, run(s, c, "ip -4 route | sort")); diff != "" {
		s.Errorf("routes (-want +got):\n%s", diff)
	}
	if got := run(s, c, "cat /root/by-script"); got != "by-script\n" {
		s.Errorf("the script wrote %q", got)
	}
	// The disk of 1 GiB is four times the template's.
	size := strings.Fields(run(s, c, "df -m / | tail -n 1"))
	if len(size) < 2 || len(size[1]) < 3 || size[1] < "900" {
		s.Errorf("the root file system has %v MiB, want more than 900", size)
	}
	run(s, c, "echo kept >/root/kept && echo '# mine' >>/root/.ssh/authorized_keys")
	eventually(s, 20*time.Second, "a renewed lease", func() error {
		if _, n := s.lab.leaseTime(); n == 0 {
			return fmt.Errorf("no renewal yet")
		}
		return nil
	})
}

func (s *story) wantInfo() map[string]any {
	lease := map[string]any{
		"interface": "eth0", "address": guestIP + "/24", "server": serverIP, "seconds": "16", "gateway": "10.1.1.250",
		"routes": "0.0.0.0/0 10.1.1.1 10.99.0.0/16 10.1.1.254", "dns": serverIP, "domain": "cs1.internal", "hostname": "hello", "mtu": "1400",
	}
	return map[string]any{
		"name": "hello",
		"interfaces": []any{map[string]any{
			"name": "eth0", "mac": guestMAC, "mtu": 1400.0, "up": true,
			"ipv4": []any{guestIP + "/24"}, "ipv6": []any{guestIPv6 + "/64", "fe80::10ff:fe01:10a/64"},
		}},
		"gateway4": serverIP, "gateway6": "fe80::1", "dns": []any{serverIP}, "search": "cs1.internal",
		"leases": []any{lease},
		"metadata": map[string]any{"source": serverIP, "values": map[string]any{
			"instance-id": "i-2-3-VM", "public-keys": s.authorized,
		}},
		"user_data": script, "user_data_base64": base64Of(script), "user_data_script": "exit=3",
		"ssh_keys": 1.0, "password_set": false, "boots": 1.0, "client": serverIP,
	}
}

func (s *story) checkPage() {
	s.Helper()
	// By IPv6, which its name would resolve to for most clients.
	page, err := get(guestIPv6, "/")
	if err != nil {
		s.Fatal(err)
	}
	for _, want := range []string{"<h1>hello</h1>", guestIP + "/24", guestIPv6 + "/64", guestMAC, "&lt;b&gt;from the script"} {
		if err := contains(page, want); err != nil {
			s.Errorf("page: %v", err)
		}
	}
	if strings.Contains(page, "<b>from") {
		s.Error("the page does not escape user-data")
	}
	raw, err := get(guestIP, "/user-data")
	if err != nil || raw != script {
		s.Errorf("/user-data is %q, %v", raw, err)
	}
	if name, err := get(guestIP, "/name"); err != nil || name != "hello\n" {
		s.Errorf("/name is %q, %v", name, err)
	}
	if _, err := get(guestIP, "/other"); err == nil {
		s.Error("/other was found")
	}
	if err := contains(s.m.console(), "user-data: <b>from the script"); err != nil {
		s.Errorf("console: %v", err)
	}
}

func (s *story) checkEcho() {
	s.Helper()
	for _, network := range []string{"tcp", "udp"} {
		c, err := net.DialTimeout(network, net.JoinHostPort(guestIP, "7"), 5*time.Second)
		if err != nil {
			s.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		sent := "bytes \x00\xff and back"
		if _, err := io.WriteString(c, sent); err != nil {
			s.Fatal(err)
		}
		got := make([]byte, len(sent))
		if _, err := io.ReadFull(c, got); err != nil || string(got) != sent {
			s.Errorf("%s echo gave %q, %v", network, got, err)
		}
	}
}

// password has what shells, crypt and the protocol could stumble over.
const password = `s3 cret'"$x\%&<`

// rebootWithPassword reboots by command while a password waits, the key was
// replaced, and metadata is where only DNS says.
func (s *story) rebootWithPassword() {
	s.lab.handPassword(password)
	newSigner, newAuthorized := newKey(s)
	s.lab.serveMetadata(dataIP, map[string]string{
		"/latest/user-data":             "plain & simple",
		"/latest/meta-data/public-keys": newAuthorized,
	})
	c, err := login(ssh.PublicKeys(s.signer), &s.hostKey)
	if err != nil {
		s.Fatal(err)
	}
	end(s, c, "reboot")
	c.Close()
	if diff := cmp.Diff([]string{"hello", guestIP, "data-server"}, s.m.waitReady(2)); diff != "" {
		s.Errorf("ready line (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"send_my_password", "saved_password"}, s.lab.passwordRequests()); diff != "" {
		s.Errorf("password requests (-want +got):\n%s", diff)
	}
	info := s.m.info(guestIP)
	got := []any{info["boots"], info["password_set"], info["user_data"], info["user_data_script"], info["ssh_keys"]}
	if diff := cmp.Diff([]any{2.0, true, "plain & simple", "", 1.0}, got); diff != "" {
		s.Errorf("info.json (-want +got):\n%s", diff)
	}
	if _, err := login(ssh.PublicKeys(s.signer), &s.hostKey); err == nil {
		s.Error("the key that is no longer in the metadata was accepted")
	}
	s.signer, s.authorized = newSigner, newAuthorized
	if c, err = login(ssh.PublicKeys(s.signer), &s.hostKey); err != nil {
		s.Fatal(err)
	}
	defer c.Close()
	want := "kept\n# mine\n1\n"
	if diff := cmp.Diff(want, run(s, c, "cat /root/kept; grep mine /root/.ssh/authorized_keys; grep -c ^ssh- /root/.ssh/authorized_keys")); diff != "" {
		s.Errorf("files after the reboot (-want +got):\n%s", diff)
	}
	s.checkPassword()
	s.checkSerialLogin()
	for _, secret := range []string{password, "$6$"} {
		if strings.Contains(s.m.console(), secret) {
			s.Error("the console shows the password")
		}
	}
}

func (s *story) checkPassword() {
	s.Helper()
	c, err := login(ssh.Password(password), &s.hostKey)
	if err != nil {
		s.Errorf("login with the handed password: %v", err)
		return
	}
	c.Close()
	if _, err := login(ssh.Password(password+"x"), &s.hostKey); err == nil {
		s.Error("a wrong password was accepted")
	}
}

// checkSerialLogin types at the console. Nothing is echoed of a password.
func (s *story) checkSerialLogin() {
	s.Helper()
	begin := len(s.m.console())
	since := func(want string) func() error {
		return func() error { return contains(s.m.console()[begin:], want) }
	}
	typed := func(text string) {
		if _, err := io.WriteString(s.m.stdin, text+"\r"); err != nil {
			s.Fatal(err)
		}
	}
	typed("root")
	eventually(s, 20*time.Second, "the password prompt", since("Password: "))
	typed(password)
	eventually(s, 20*time.Second, "the shell's prompt", since("root@hello:~#"))
	typed("echo $((6*7))-$(tty)")
	eventually(s, 20*time.Second, "the shell's answer", since("42-/dev/ttyS0"))
}

func (s *story) powerOff() {
	took := s.m.powerButton()
	s.Logf("power button to off: %.2f s", took.Seconds())
	if err := contains(s.m.console(), "wisp-guest shutting down: power button"); err != nil {
		s.Error(err)
	}
}

// startAgain is a new QEMU with the disk on IDE, started directly with the kernel
// because the BIOS takes half a minute to read that from an emulated IDE disk
// (TestBootTimes -bus ide goes the whole way). Metadata has only the common
// address, no user-data, and no password waits.
func (s *story) startAgain() {
	s.lab.handPassword("")
	s.lab.serveMetadata(linkLocal, map[string]string{"/latest/meta-data/public-keys": "0=first\n", "/latest/meta-data/public-keys/0/openssh-key": s.authorized})
	s.m = start(s, s.disk, options{bus: "ide", kernel: true, image: s.image})
	if diff := cmp.Diff([]string{"hello", guestIP, linkLocal}, s.m.waitReady(1)); diff != "" {
		s.Errorf("ready line (-want +got):\n%s", diff)
	}
	info := s.m.info(guestIP)
	got := []any{info["boots"], info["password_set"], info["user_data"], info["ssh_keys"]}
	if diff := cmp.Diff([]any{3.0, false, "", 1.0}, got); diff != "" {
		s.Errorf("info.json (-want +got):\n%s", diff)
	}
	s.checkPassword()
	c, err := login(ssh.PublicKeys(s.signer), &s.hostKey)
	if err != nil {
		s.Fatal(err)
	}
	if got := run(s, c, "cat /root/kept; basename $(ls -d /sys/class/block/sda1)"); got != "kept\nsda1\n" {
		s.Errorf("after the new start: %q", got)
	}
	end(s, c, "poweroff")
	c.Close()
	s.m.waitEnd(20 * time.Second)
}

var boots = flag.Int("boots", 0, "how many fresh guests TestBootTimes starts")

// TestBootTimes measures, on request (-boots 5): the medians of fresh guests in
// seconds from QEMU's start to the DHCP lease and to the ready line, and from the
// power button to the end.
func TestBootTimes(t *testing.T) {
	if *boots == 0 {
		t.Skip("measures only on request: -args -boots 5")
	}
	image := os.Getenv(inLab)
	if image == "" {
		inNamespace(t, "^TestBootTimes$", imageForTest(t), fmt.Sprintf("-boots=%d", *boots), fmt.Sprintf("-memory=%d", *memory), "-bus="+*bus)
		return
	}
	l := newLab(t)
	l.serveMetadata(serverIP, map[string]string{"/latest/user-data": "x"})
	var leases, readies, offs []float64
	for i := range *boots {
		disk := filepath.Join(t.TempDir(), fmt.Sprintf("disk%d.qcow2", i))
		overlay(t, image, disk, 0)
		l.forgetAck()
		m := start(t, disk, options{memory: *memory, bus: *bus})
		m.waitReady(1)
		t.Logf("ready after %.1f s, of which kernel and user space %s s", time.Since(m.started).Seconds(), m.kernelSeconds)
		readies = append(readies, time.Since(m.started).Seconds())
		ack, _ := l.leaseTime()
		leases = append(leases, ack.Sub(m.started).Seconds())
		offs = append(offs, m.powerButton().Seconds())
	}
	t.Logf("%d boots with %d MiB, median (min): lease %.1f (%.1f) s, ready %.1f (%.1f) s, power button to off %.2f s", *boots, *memory,
		median(leases), slices.Min(leases), median(readies), slices.Min(readies), median(offs))
}

var (
	memory = flag.Int("memory", 128, "MiB of the guests of TestBootTimes")
	bus    = flag.String("bus", "virtio", "bus of their disks: virtio or ide")
)

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
