// Command wisp-init is the first process of a system VM. It goes by two names:
//
//   - /init, in the initial root file system, as process 1: loads the drivers of the root disk, proves that the disk is
//     whole, makes it the root, loads the other drivers, starts wisp-netsvc and keeps it running, collects orphans, and
//     switches the machine off when the host asks by the power button.
//   - /sbin/modprobe, on the root disk: what the kernel and iptables call for a module.
//
// What the image must hold stands in the room's DESIGN.md.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// version is set at build time: -ldflags "-X main.version=...".
var version = "devel"

func main() {
	switch name := filepath.Base(os.Args[0]); {
	case name == "modprobe":
		os.Exit(modprobe(os.Args[1:]))
	case len(os.Args) == 2 && (os.Args[1] == "-version" || os.Args[1] == "--version"):
		fmt.Println(version)
	case os.Getpid() != 1:
		fmt.Fprintln(os.Stderr, "wisp-init: this is the first process of a system VM and runs as nothing else")
		os.Exit(2)
	default:
		firstProcess()
	}
}
