package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/wispcloud/wisp/netsvc/netsvctest"
)

func startUpstream(t *testing.T, n *netsvctest.Node) { startRole(t, n, "upstream") }

const bigAddresses = 60

// big is what dig +short prints for big.example.org.
func big() string {
	var lines []string
	for i := range bigAddresses {
		lines = append(lines, fmt.Sprintf("198.18.0.%d", i))
	}
	return strings.Join(lines, "|")
}

func upstreamAnswer(question []byte, limit int) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(question)
	if err != nil {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	var addresses [][4]byte
	switch q.Name.String() {
	case "up.example.org.":
		addresses = append(addresses, [4]byte{192, 0, 2, 1})
	case "big.example.org.":
		for i := range bigAddresses {
			addresses = append(addresses, [4]byte{198, 18, 0, byte(i)})
		}
	}
	m := dnsmessage.Message{Header: dnsmessage.Header{
		ID: h.ID, Response: true, RecursionAvailable: true,
		RecursionDesired: h.RecursionDesired,
	}, Questions: []dnsmessage.Question{q}}
	if len(addresses) == 0 {
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, a := range addresses {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET, TTL: 60},
			Body:   &dnsmessage.AResource{A: a},
		})
	}
	out, err := m.Pack()
	if err != nil {
		return nil
	}
	if len(out) > limit {
		m.Answers, m.Truncated = nil, true
		out, _ = m.Pack()
	}
	return out
}

func serveUpstream() {
	l, err := net.Listen("tcp4", "198.51.100.7:53")
	if err != nil {
		return
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 4096)
				n, err := c.Read(buf)
				if err != nil || n < 3 {
					return
				}
				answer := upstreamAnswer(buf[2:n], 65535)
				_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
			}()
		}
	}()
	c, err := net.ListenPacket("udp4", "198.51.100.7:53")
	if err != nil {
		return
	}
	buf := make([]byte, 4096)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = c.WriteTo(upstreamAnswer(buf[:n], 512), from)
	}
}
