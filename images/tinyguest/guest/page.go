package main

import (
	"encoding/json"
	"fmt"
	"html"
	"net"
	"strings"
	"time"
)

// servePage serves the guest's page on port 80, IPv4 and IPv6:
//
//	/           for people
//	/info.json  the same for programs
//	/user-data  what was read, byte for byte
//	/name       the host name alone, for counting answers behind a balancer
//
// It shows user-data to everybody who reaches the port. That is its purpose; do
// not hand secrets to a test guest.
func servePage(g *guest) {
	for ; ; time.Sleep(time.Second) {
		l, err := net.Listen("tcp", ":80")
		if err == nil {
			err = serveHTTP(l, pageHandler(g.facts.snapshot))
		}
		g.say.Printf("wisp-guest page: %v", err)
	}
}

func pageHandler(snapshot func() info) handler {
	return func(path, client string) (document, bool) {
		current := snapshot()
		current.Client = client
		switch path {
		case "/":
			return document{"text/html; charset=utf-8", []byte(render(current))}, true
		case "/info.json":
			b, err := json.MarshalIndent(current, "", "  ")
			return document{"application/json", append(b, '\n')}, err == nil
		case "/user-data":
			return document{"application/octet-stream", current.UserDataBase64}, true
		case "/name":
			return document{"text/plain; charset=utf-8", []byte(current.Name + "\n")}, true
		}
		return document{}, false
	}
}

// render writes the page. Every value passes html.EscapeString.
func render(i info) string {
	var b strings.Builder
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "<tr><th>%s<td>%s\n", html.EscapeString(name), html.EscapeString(value))
		}
	}
	fmt.Fprintf(&b, "<!doctype html>\n<html lang=en><meta charset=utf-8><title>%s</title>\n", html.EscapeString(i.Name))
	b.WriteString("<style>body{font:16px sans-serif;margin:2em}th{text-align:left;padding-right:1em;vertical-align:top}pre{background:#eee;padding:1em}</style>\n")
	fmt.Fprintf(&b, "<h1>%s</h1>\n<table>\n", html.EscapeString(i.Name))
	for _, c := range i.Interfaces {
		row(c.Name+" MAC", c.MAC)
		row(c.Name+" IPv4", strings.Join(c.IPv4, " "))
		row(c.Name+" IPv6", strings.Join(c.IPv6, " "))
		row(c.Name+" MTU", fmt.Sprint(c.MTU))
	}
	row("gateway", strings.TrimSpace(i.Gateway4+" "+i.Gateway6))
	row("DNS", strings.Join(i.DNS, " "))
	row("metadata from", i.Metadata.Source)
	row("user-data script", i.Script)
	row("boots", fmt.Sprint(i.Boots))
	row("up", (time.Duration(i.Uptime) * time.Second).String())
	row("you are", i.Client)
	b.WriteString("</table>\n<h2>User-data</h2>\n")
	switch {
	case len(i.UserDataBase64) == 0:
		b.WriteString("<p>none\n")
	case i.UserData == "":
		fmt.Fprintf(&b, "<p>%d bytes that are not text, see <a href=/user-data>/user-data</a>\n", len(i.UserDataBase64))
	default:
		fmt.Fprintf(&b, "<pre>%s</pre>\n", html.EscapeString(i.UserData))
	}
	return b.String()
}
