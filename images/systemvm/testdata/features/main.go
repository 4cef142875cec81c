// Command features shows inside a system VM that its kernel has what hosts may
// lack: VLAN sub-interfaces, ESP and WireGuard, each by bytes that went through.
// The machine's two network cards are plugged into each other. It prints one line
// for each feature and, at the end, "features: done".
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	leftMAC  = "02:00:00:00:01:01"
	rightMAC = "02:00:00:00:02:01"
	timeout  = 60 * time.Second
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "right" {
		right()
		return
	}
	if err := run(); err != nil {
		fmt.Printf("features: FAILED: %v\n", err)
		os.Exit(1)
	}
	fmt.Println("features: done")
}

// run makes a second namespace with the right card, in a process of its own, and
// tries each feature between both.
func run() error {
	runtime.LockOSThread()
	cmd := exec.Command(os.Args[0], "right")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stdout
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() { in.Close(); _ = cmd.Wait() }()
	card, err := byMAC(rightMAC)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetNsPid(card, cmd.Process.Pid); err != nil {
		return fmt.Errorf("move card: %w", err)
	}
	key, err := makeWireguard("wg0", 51820)
	if err != nil {
		return fmt.Errorf("wireguard: %w", err)
	}
	if _, err := fmt.Fprintln(in, key); err != nil {
		return err
	}
	var peer string
	if _, err := fmt.Fscanln(out, &peer); err != nil {
		return fmt.Errorf("the other side did not start: %w", err)
	}
	if err := setUp(leftMAC, "1", "2", peer); err != nil {
		return err
	}
	return errors.Join(
		try("vlan", "10.100.0.2:7", func() error { return counted("vlan100") }),
		try("esp", "10.101.0.2:7", espCounted),
		try("wireguard", "10.102.0.2:7", func() error { return counted("wg0") }),
	)
}

// right is the other side: it echoes until its standard input ends.
func right() {
	key, err := makeWireguard("wg0", 51820)
	var peer string
	if err == nil {
		_, err = fmt.Fscanln(os.Stdin, &peer)
	}
	if err == nil {
		err = setUp(rightMAC, "2", "1", peer)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "features: right side:", err)
		os.Exit(1)
	}
	l, err := net.Listen("tcp4", ":7")
	if err != nil {
		fmt.Fprintln(os.Stderr, "features: right side:", err)
		os.Exit(1)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); _, _ = io.Copy(c, c) }()
		}
	}()
	fmt.Println(key)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func byMAC(mac string) (netlink.Link, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		if l.Attrs().HardwareAddr.String() == mac && l.Type() == "device" {
			return l, nil
		}
	}
	return nil, fmt.Errorf("no card %s", mac)
}

// setUp makes one side: VLAN 100 on the card, an ESP tunnel over the VLAN, and
// WireGuard over the VLAN.
func setUp(mac, own, other, peerKey string) error {
	deadline := time.Now().Add(timeout)
	card, err := byMAC(mac)
	for err != nil && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond) // the card is being moved
		card, err = byMAC(mac)
	}
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(card); err != nil {
		return err
	}
	vlan := &netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: "vlan100", ParentIndex: card.Attrs().Index}, VlanId: 100}
	if err := netlink.LinkAdd(vlan); err != nil {
		return fmt.Errorf("add VLAN 100: %w", err)
	}
	if err := addresses(vlan, "10.100.0."+own+"/24"); err != nil {
		return err
	}
	dummy := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "inner"}}
	if err := netlink.LinkAdd(dummy); err != nil {
		return fmt.Errorf("add dummy link: %w", err)
	}
	if err := addresses(dummy, "10.101.0."+own+"/32"); err != nil {
		return err
	}
	if err := tunnel(vlan, own, other); err != nil {
		return err
	}
	if err := setPeer("wg0", peerKey, netip.MustParseAddrPort("10.100.0."+other+":51820"), netip.MustParsePrefix("10.102.0."+other+"/32")); err != nil {
		return fmt.Errorf("wireguard: set peer: %w", err)
	}
	wg, err := netlink.LinkByName("wg0")
	if err != nil {
		return err
	}
	return addresses(wg, "10.102.0."+own+"/24")
}

func addresses(l netlink.Link, cidr string) error {
	a, err := netlink.ParseAddr(cidr)
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(l, a); err != nil {
		return fmt.Errorf("add address %s: %w", cidr, err)
	}
	return netlink.LinkSetUp(l)
}

// tunnel protects 10.101.0.0/24 by ESP in tunnel mode (RFC 4303) with AES-GCM.
func tunnel(over netlink.Link, own, other string) error {
	end := func(n string) net.IP { return net.ParseIP("10.100.0." + n) }
	inner := func(n string) *net.IPNet {
		return &net.IPNet{IP: net.ParseIP("10.101.0." + n).To4(), Mask: net.CIDRMask(32, 32)}
	}
	for _, d := range []struct {
		from, to string
		dirs     []netlink.Dir
	}{{own, other, []netlink.Dir{netlink.XFRM_DIR_OUT}}, {other, own, []netlink.Dir{netlink.XFRM_DIR_IN, netlink.XFRM_DIR_FWD}}} {
		spi := 0x1000 + int(d.from[0])
		err := netlink.XfrmStateAdd(&netlink.XfrmState{
			Src: end(d.from), Dst: end(d.to), Proto: netlink.XFRM_PROTO_ESP, Mode: netlink.XFRM_MODE_TUNNEL, Spi: spi, Reqid: 1, ReplayWindow: 32,
			Aead: &netlink.XfrmStateAlgo{Name: "rfc4106(gcm(aes))", Key: []byte("0123456789abcdefghij"), ICVLen: 128},
		})
		if err != nil {
			return fmt.Errorf("add ESP state: %w", err)
		}
		for _, dir := range d.dirs {
			err := netlink.XfrmPolicyAdd(&netlink.XfrmPolicy{
				Src: inner(d.from), Dst: inner(d.to), Dir: dir,
				Tmpls: []netlink.XfrmPolicyTmpl{{
					Src: end(d.from), Dst: end(d.to), Proto: netlink.XFRM_PROTO_ESP, Mode: netlink.XFRM_MODE_TUNNEL, Reqid: 1,
				}},
			})
			if err != nil {
				return fmt.Errorf("add ESP policy: %w", err)
			}
		}
	}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: over.Attrs().Index, Dst: inner(other), Src: net.ParseIP("10.101.0." + own), Gw: end(other)})
}

// try sends bytes there and back, and then asks whether they took the way they
// should.
func try(name, address string, went func() error) error {
	sent := strings.Repeat("through "+name+" ", 4096)
	err := echo(address, sent)
	if err == nil {
		err = went()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	fmt.Printf("features: %s works\n", name)
	return nil
}

func echo(address, sent string) error {
	deadline := time.Now().Add(timeout)
	c, err := net.DialTimeout("tcp4", address, timeout)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { _, err := io.WriteString(c, sent); failed <- err }()
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(c, got); err != nil {
		return errors.Join(err, <-failed)
	}
	if string(got) != sent {
		return errors.New("other bytes came back")
	}
	return <-failed
}

const least = 50 << 10 // of what try sends one way

func counted(link string) error {
	l, err := netlink.LinkByName(link)
	if err != nil {
		return err
	}
	if s := l.Attrs().Statistics; s == nil || s.TxBytes < least || s.RxBytes < least {
		return fmt.Errorf("link %s carried %+v", link, s)
	}
	return nil
}

func espCounted() error {
	states, err := netlink.XfrmStateList(unix.AF_INET)
	if err != nil {
		return err
	}
	if len(states) != 2 {
		return fmt.Errorf("%d ESP states, want 2", len(states))
	}
	for _, s := range states {
		if s.Statistics.Bytes < least {
			return fmt.Errorf("ESP state %v carried %d bytes", s.Spi, s.Statistics.Bytes)
		}
	}
	return nil
}
