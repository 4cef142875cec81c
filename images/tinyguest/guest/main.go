// Command wisp-guest is the init process of the tiny guest: a real, small Linux
// machine that uses a cloud's network services the way an ordinary guest does,
// and shows what it got.
//
// The parts whose independence matters are Debian's: udhcpc asks for leases,
// dropbear serves ssh, busybox is the shell and login, the kernel does router
// advertisements. This program starts and watches them, reads metadata, sets
// ssh keys and password, and serves the page. One static binary instead of
// scripts because it starts no process per step (each costs 5 to 10 ms under
// emulation), escapes what it shows, and cannot stop half-way.
//
// It uses the standard library alone: the image builder compiles it without
// any download.
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "init" && os.Getpid() == 1 {
		runInit()
		return
	}
	fmt.Fprintln(os.Stderr, "wisp-guest is the init process of this machine; see /usr/sbin/poweroff and /usr/sbin/reboot")
	os.Exit(2)
}
