// Command bare is the first process of a machine that does nothing else: it says
// that user space is reached, and switches off.
package main

import (
	"fmt"
	"syscall"
)

func main() {
	fmt.Print("bare: user space\r\n")
	if err := syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Print("bare: ", err, "\r\n")
	}
}
