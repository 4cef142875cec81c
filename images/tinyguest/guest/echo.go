package main

import (
	"io"
	"net"
	"time"
)

// serveEcho answers on TCP and UDP port 7 with what it received (RFC 862): the
// other end of tests of forwarding, balancing and connections that outlive a
// migration.
func serveEcho(say *console) {
	go echoUDP(say)
	l, err := net.Listen("tcp", ":7")
	if err != nil {
		say.Printf("wisp-guest echo: %v", err)
		return
	}
	for {
		c, err := l.Accept()
		if err != nil {
			time.Sleep(100 * time.Millisecond) // out of descriptors, most likely
			continue
		}
		go func() {
			defer c.Close()
			_, _ = io.Copy(c, c)
		}()
	}
}

func echoUDP(say *console) {
	c, err := net.ListenPacket("udp", ":7")
	if err != nil {
		say.Printf("wisp-guest echo: %v", err)
		return
	}
	buf := make([]byte, 64<<10)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		// RFC 862 services must not answer each other for ever.
		if a, ok := from.(*net.UDPAddr); ok && a.Port == 7 {
			continue
		}
		_, _ = c.WriteTo(buf[:n], from)
	}
}
