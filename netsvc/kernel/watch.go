package kernel

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Watch calls changed whenever a link, an IPv4 address, route or rule of the namespace has changed, until ctx ends.
// It carries no news: the callee reads the state again. An overrun of the socket counts as a change.
func (k *Kernel) Watch(ctx context.Context, changed func()) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("watch links: open netlink: %w", err)
	}
	groups := uint32(1<<(unix.RTNLGRP_LINK-1) | 1<<(unix.RTNLGRP_IPV4_IFADDR-1) |
		1<<(unix.RTNLGRP_IPV4_ROUTE-1) | 1<<(unix.RTNLGRP_IPV4_RULE-1))
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		unix.Close(fd)
		return fmt.Errorf("watch links: join groups: %w", err)
	}
	sock, err := newSocket(fd, "netlink")
	if err != nil {
		return fmt.Errorf("watch links: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { sock.Close() })
	defer stop()
	defer sock.Close()
	var buf [8192]byte
	for {
		_, _, err := sock.receive(buf[:])
		switch {
		case err == nil, errors.Is(err, unix.ENOBUFS):
			changed()
		case ctx.Err() != nil:
			return nil
		default:
			return fmt.Errorf("watch links: %w", err)
		}
	}
}
