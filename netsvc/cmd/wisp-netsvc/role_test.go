package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/wispcloud/wisp/netsvc/netsvctest"
)

// Machines in the lab run this test binary itself, started again in their namespace with a role to play.
const roleEnv = "WISP_NETSVC_TEST_ROLE"

func startRole(t testing.TB, n *netsvctest.Node, role ...string) *netsvctest.Process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return n.Start("env", roleEnv+"="+strings.Join(role, " "), self)
}

func play(role string) {
	words := strings.Fields(role)
	switch words[0] {
	case "upstream":
		serveUpstream()
	case "whoami":
		serveWhoami(words[1])
	case "talk":
		talk(words[1])
	case "knock":
		knock(words[1])
	case "flood":
		flood(words[1], words[2])
	case "questions":
		questions(words[1])
	}
}

// serveWhoami tells everybody who connects, line by line, by which address it is seen.
func serveWhoami(address string) {
	l, err := net.Listen("tcp4", address)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("listening")
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			fmt.Println("connection from", host)
			lines := bufio.NewScanner(c)
			for lines.Scan() {
				if _, err := fmt.Fprintf(c, "%s\n", host); err != nil {
					return
				}
			}
		}()
	}
}

// talk asks a whoami every 20 ms on one connection, and prints each answer with the time it took.
func talk(address string) {
	c, err := net.DialTimeout("tcp4", address, 5*time.Second)
	if err != nil {
		fmt.Println(err)
		return
	}
	answers := bufio.NewScanner(c)
	pace := time.NewTicker(20 * time.Millisecond)
	for n := 1; ; n++ {
		began := time.Now()
		_ = c.SetDeadline(began.Add(5 * time.Second))
		if _, err := fmt.Fprintln(c, "?"); err != nil {
			fmt.Println("broken:", err)
			return
		}
		if !answers.Scan() {
			fmt.Println("broken:", answers.Err())
			return
		}
		fmt.Printf("%d %s %d\n", n, answers.Text(), time.Since(began).Milliseconds())
		<-pace.C
	}
}

// knock tries to connect all the time, with many attempts under way, until it is killed.
func knock(address string) {
	fmt.Println("knocking")
	for range 32 {
		go func() {
			for {
				c, err := net.DialTimeout("tcp4", address, 40*time.Millisecond)
				if err == nil {
					c.Close()
				}
			}
		}()
	}
	select {}
}
