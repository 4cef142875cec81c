// Package cmdline reads what the host says to a system VM before any channel is open: the kernel's command line.
//
// There is little of it on purpose: everything a system VM shall do comes as a spec over the virtio-serial port, so
// that a changed wish never needs a boot.
package cmdline

import "strings"

// Parameters are ours on the command line; the rest is the kernel's.
type Parameters struct {
	// Root is the device of the root file system ("/dev/vda"); empty to look for the disk whose checksum fits.
	Root string
	// Hostname to take; empty for the default.
	Hostname string
	// Debug offers a shell on the serial console, because the host's operator asked for it.
	Debug bool
}

// Parse reads a command line as /proc/cmdline shows it. Of a repeated parameter the last counts, as with the kernel's
// own. Unknown ones are left alone: the agent may be newer than the image.
func Parse(line string) Parameters {
	var p Parameters
	for _, word := range words(line) {
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "wisp.root":
			p.Root = value
		case "wisp.hostname":
			p.Hostname = value
		case "wisp.debug":
			p.Debug = value == "1"
		}
	}
	return p
}

// words splits at blanks outside double quotes and drops the quotes (kernel documentation,
// admin-guide/kernel-parameters.rst).
func words(line string) []string {
	quoted := false
	fields := strings.FieldsFunc(line, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return !quoted && (r == ' ' || r == '\n' || r == '\t')
	})
	for i, f := range fields {
		fields[i] = strings.ReplaceAll(f, `"`, "")
	}
	return fields
}
