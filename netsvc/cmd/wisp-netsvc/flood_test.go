package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wispcloud/wisp/proto/netspec"
)

// BenchmarkDHCPExchange runs DISCOVER-OFFER-REQUEST-ACK with many clients through the real sockets and reports what
// the server's process uses of the CPU for each, and how many it makes in a second beside the client.
func BenchmarkDHCPExchange(b *testing.B) {
	for _, clients := range []int{100, 10000} {
		b.Run(fmt.Sprint(clients), func(b *testing.B) {
			l := newLab(b)
			s := spec()
			s.Dhcp4.Subnet, s.Dhcp4.Gateway, s.Dhcp4.Guests = "10.0.0.0/8", gwIP, nil
			for i := range clients {
				s.Dhcp4.Guests = append(s.Dhcp4.Guests, &netspec.Guest{
					Mac: clientMAC(i).String(), VmId: fmt.Sprint(i),
					Ip: fmt.Sprintf("10.2.%d.%d", i>>8, i&255), Hostname: fmt.Sprintf("vm%d", i), DefaultNic: true,
				})
			}
			l.apply(s)
			l.g1.Must("ip", "link", "set", "eth0", "up")
			// Every client once before the clock starts: a lease is there, as in a running network.
			l.flood(clients, clients)
			before := cpuTime(b, l.process.Cmd.Process.Pid)
			b.ResetTimer()
			answered, took := l.flood(clients, b.N)
			b.StopTimer()
			used := cpuTime(b, l.process.Cmd.Process.Pid) - before
			b.ReportMetric(float64(used.Microseconds())/float64(answered), "cpu-us/exchange")
			b.ReportMetric(float64(answered)/took.Seconds(), "exchanges/s")
			b.ReportMetric(float64(b.N-answered), "lost")
		})
	}
}

// BenchmarkDNSQuestion asks for names of the network through the real sockets, 64 questions at a time, and reports what
// the server's process uses of the CPU for each.
func BenchmarkDNSQuestion(b *testing.B) {
	l := newLab(b)
	l.addressGuests()
	s := spec()
	for i := range questionNames {
		s.Dns.Records = append(s.Dns.Records, &netspec.DnsRecord{
			Name: fmt.Sprintf("vm%d", i), TtlSeconds: 30,
			Addresses: []string{fmt.Sprintf("10.2.%d.%d", i>>8, i&255)},
		})
	}
	l.apply(s)
	before := cpuTime(b, l.process.Cmd.Process.Pid)
	b.ResetTimer()
	answered, took := l.crowd("questions", fmt.Sprint(b.N))
	b.StopTimer()
	used := cpuTime(b, l.process.Cmd.Process.Pid) - before
	b.ReportMetric(float64(used.Nanoseconds())/1000/float64(answered), "cpu-us/question")
	b.ReportMetric(float64(answered)/took.Seconds(), "questions/s")
	b.ReportMetric(float64(b.N-answered), "lost")
}

// BenchmarkReady is the time from starting the process in a new namespace with three legs until everything is as wanted
// and guests are answered.
func BenchmarkReady(b *testing.B) {
	if _, err := program(); err != nil {
		b.Fatal(err)
	}
	var took time.Duration
	for range b.N {
		l := wireLab(b)
		began := time.Now()
		l.start()
		l.apply(spec())
		took += time.Since(began)
	}
	b.ReportMetric(float64(took.Milliseconds())/float64(b.N), "ms/ready")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkIdle reports what a process with everything to do and nobody asking uses: percent of one CPU over ten
// seconds, which is four passes that look for drift, and memory.
func BenchmarkIdle(b *testing.B) {
	l := newLab(b)
	l.apply(spec())
	pid := l.process.Cmd.Process.Pid
	before, began := cpuTime(b, pid), time.Now()
	for b.Loop() {
		<-time.After(10 * time.Second)
	}
	b.ReportMetric(100*float64(cpuTime(b, pid)-before)/float64(time.Since(began)), "cpu-%")
	b.Log(resident(b, pid))
}

// flood runs exchanges from the first guest's namespace.
func (l *lab) flood(clients, exchanges int) (answered int, took time.Duration) {
	l.t.Helper()
	return l.crowd("flood", fmt.Sprint(clients), fmt.Sprint(exchanges))
}

// crowd plays a role in the first guest's namespace until it says how many answers it got in how long.
func (l *lab) crowd(role ...string) (answered int, took time.Duration) {
	l.t.Helper()
	p := startRole(l.t, l.g1, role...)
	if err := p.Wait(5 * time.Minute); err == nil || !strings.HasPrefix(p.Output(), "answered") {
		l.t.Fatalf("crowd: %v: %s", err, p.Output())
	}
	var ns int64
	if _, err := fmt.Sscanf(p.Output(), "answered %d in %d", &answered, &ns); err != nil {
		l.t.Fatal(err)
	}
	return answered, time.Duration(ns)
}

// cpuTime is what a process has used, from /proc (100 ticks a second).
func cpuTime(t testing.TB, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var ticks int
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// resident is the memory of a process that is its own, in KiB.
func resident(t testing.TB, pid int) string {
	t.Helper()
	out, err := exec.Command("grep", "-E", "VmRSS|RssAnon|RssFile", fmt.Sprintf("/proc/%d/status", pid)).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(out)), " ")
}

type clientAddr [6]byte

func (c clientAddr) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", c[0], c[1], c[2], c[3], c[4], c[5])
}

func clientMAC(i int) clientAddr {
	return clientAddr{2, 0x10, 0, 0, byte(i >> 8), byte(i)}
}

// flood keeps 64 exchanges under way until as many as asked for were made or nothing has come for half a second.
func flood(clientsText, exchangesText string) {
	clients, _ := strconv.Atoi(clientsText)
	exchanges, _ := strconv.Atoi(exchangesText)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	out, err := exec.Command("ip", "-o", "link", "show", "eth0").Output()
	if err != nil {
		fmt.Println(err)
		return
	}
	number, _, _ := strings.Cut(string(out), ":")
	ifindex, err := strconv.Atoi(number)
	if err != nil {
		fmt.Println(err)
		return
	}
	const protocolIP = unix.ETH_P_IP<<8&0xff00 | unix.ETH_P_IP>>8
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocolIP, Ifindex: ifindex}); err != nil {
		fmt.Println(err)
		return
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 500_000})
	next, answered := 0, 0
	discover := func() {
		if next < exchanges {
			_, _ = unix.Write(fd, clientFrame(clientMAC(next%clients), 1, nil))
			next++
		}
	}
	began := time.Now()
	last := began
	for range 64 {
		discover()
	}
	buf := make([]byte, 2048)
	for answered < exchanges {
		n, err := unix.Read(fd, buf)
		if err != nil {
			break
		}
		if n < 300 || buf[23] != 17 || binary.BigEndian.Uint16(buf[34:]) != 67 {
			continue
		}
		mac := clientAddr(buf[42+28 : 42+34])
		switch buf[42+242] { // the type stands first
		case 2:
			_, _ = unix.Write(fd, clientFrame(mac, 3, buf[42+16:42+20]))
		case 5:
			answered++
			last = time.Now()
			discover()
		}
	}
	fmt.Printf("answered %d in %d\n", answered, last.Sub(began).Nanoseconds())
}

// clientFrame is a DISCOVER, or a REQUEST for an address.
func clientFrame(mac clientAddr, kind byte, address []byte) []byte {
	f := make([]byte, 42+240, 42+300)
	copy(f, "\xff\xff\xff\xff\xff\xff")
	copy(f[6:], mac[:])
	f[12] = 8
	f[14], f[22], f[23] = 0x45, 64, 17
	copy(f[30:], "\xff\xff\xff\xff")
	f[35], f[37] = 68, 67
	m := f[42:]
	m[0], m[1], m[2] = 1, 1, 6
	copy(m[28:], mac[:])
	copy(m[236:], "\x63\x82\x53\x63")
	f = append(f, 53, 1, kind, 55, 8, 1, 3, 6, 12, 15, 26, 28, 121)
	if address != nil {
		f = append(append(append(f, 50, 4), address...), 54, 4, 10, 1, 1, 2)
	}
	f = append(f, 255)
	binary.BigEndian.PutUint16(f[16:], uint16(len(f)-14))
	binary.BigEndian.PutUint16(f[38:], uint16(len(f)-34))
	var sum uint32
	for i := 14; i < 34; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(f[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(f[24:], ^uint16(sum))
	return f
}

const questionNames = 10000

// questions keeps 64 DNS questions under way until as many as asked for were answered or nothing has come for half a
// second.
func questions(text string) {
	wanted, _ := strconv.Atoi(text)
	c, err := net.Dial("udp4", svcIP+":53")
	if err != nil {
		fmt.Println(err)
		return
	}
	message := []byte("\x00\x00\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x06vm0000\x08cs1cloud\x08internal\x00\x00\x01\x00\x01")
	next := 0
	ask := func() {
		if next < wanted {
			copy(message[15:], fmt.Sprintf("%04d", 1000+next*7919%9000))
			binary.BigEndian.PutUint16(message, uint16(next))
			_, _ = c.Write(message)
			next++
		}
	}
	began := time.Now()
	last := began
	for range 64 {
		ask()
	}
	answered := 0
	buf := make([]byte, 2048)
	for answered < wanted {
		_ = c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		n, err := c.Read(buf)
		if err != nil {
			break
		}
		if n > len(message) && buf[3]&0xf == 0 {
			answered++
			last = time.Now()
		}
		ask()
	}
	fmt.Printf("answered %d in %d\n", answered, last.Sub(began).Nanoseconds())
}
