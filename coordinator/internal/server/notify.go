package server

import (
	"net"
	"os"
)

// notify tells systemd a state (sd_notify(3)); without systemd it does nothing.
func notify(state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	if path[0] == '@' {
		path = "\x00" + path[1:]
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return // systemd itself reports a service that did not tell
	}
	defer func() { _ = c.Close() }()
	_, _ = c.Write([]byte(state))
}
