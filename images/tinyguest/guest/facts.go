package main

import (
	"encoding/hex"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// facts is what the guest knows about itself, for the page. All methods may be
// called at any time.
type facts struct {
	mu       sync.Mutex
	boots    int
	leases   []lease
	meta     metadata
	keys     int
	password bool
	isNamed  bool
	ssh      bool // the server has its keys
	prepared bool // the power button is watched, the root file system has its size
	script   string
}

func newFacts() *facts { return &facts{} }

// countBoot keeps the number of boots of this disk, so that a test can tell a
// machine that went on from one that was started again.
func (f *facts) countBoot() error {
	path := stateDir + "/boots"
	b, _ := os.ReadFile(path)
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	f.set(func() { f.boots = n + 1 })
	return writeFile(path, []byte(strconv.Itoa(n+1)+"\n"), 0o644)
}

func (f *facts) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *facts) setLeases(l []lease) { f.set(func() { f.leases = l }) }
func (f *facts) setPassword()        { f.set(func() { f.password = true }) }
func (f *facts) setNamed()           { f.set(func() { f.isNamed = true }) }
func (f *facts) setSSH()             { f.set(func() { f.ssh = true }) }
func (f *facts) setPrepared()        { f.set(func() { f.prepared = true }) }
func (f *facts) setScript(s string)  { f.set(func() { f.script = s }) }
func (f *facts) setMetadata(m metadata, keys int) {
	f.set(func() { f.meta, f.keys = m, keys })
}

func (f *facts) named() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.isNamed
}

// complete says that the machine's own part of getting ready is done.
func (f *facts) complete() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ssh && f.prepared
}

// info is the document /info.json.
type info struct {
	Name           string       `json:"name"`
	Interfaces     []card       `json:"interfaces"`
	Gateway4       string       `json:"gateway4"`
	Gateway6       string       `json:"gateway6"`
	DNS            []string     `json:"dns"`
	Search         string       `json:"search"`
	Leases         []lease      `json:"leases"`
	Metadata       metadataInfo `json:"metadata"`
	UserData       string       `json:"user_data"`        // if it is text
	UserDataBase64 []byte       `json:"user_data_base64"` // always
	Script         string       `json:"user_data_script"` // "", running, exit=N, signal=N
	SSHKeys        int          `json:"ssh_keys"`         // from metadata
	PasswordSet    bool         `json:"password_set"`     // one was handed over in this boot
	Boots          int          `json:"boots"`
	BootID         string       `json:"boot_id"`
	Uptime         float64      `json:"uptime_seconds"`
	Kernel         string       `json:"kernel"`
	Client         string       `json:"client"` // who asked, as the guest saw it
}

type metadataInfo struct {
	Source string            `json:"source"`
	Values map[string]string `json:"values"`
}

// snapshot reads the present state of the machine.
func (f *facts) snapshot() info {
	f.mu.Lock()
	i := info{
		Leases: f.leases, UserDataBase64: f.meta.UserData, Script: f.script, SSHKeys: f.keys,
		PasswordSet: f.password, Boots: f.boots,
		Metadata: metadataInfo{Source: f.meta.Source, Values: f.meta.Values},
	}
	f.mu.Unlock()
	if utf8.Valid(i.UserDataBase64) {
		i.UserData = string(i.UserDataBase64)
	}
	if i.Leases == nil {
		i.Leases = []lease{}
	}
	if i.Metadata.Values == nil {
		i.Metadata.Values = map[string]string{}
	}
	i.Name, _ = os.Hostname()
	i.Interfaces = readCards()
	i.Gateway4 = gateway4(readText("/proc/net/route"))
	i.Gateway6 = gateway6(readText("/proc/net/ipv6_route"))
	i.DNS, i.Search = resolver(readText("/etc/resolv.conf"))
	i.BootID = strings.TrimSpace(readText("/proc/sys/kernel/random/boot_id"))
	i.Kernel = strings.TrimSpace(readText("/proc/sys/kernel/osrelease"))
	i.Uptime = monotonic().Seconds()
	return i
}

func readText(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(b)
}

// gateway4 finds the default route of least metric in /proc/net/route, whose
// addresses are hexadecimal in the machine's byte order.
func gateway4(table string) string {
	best, found := 0, ""
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 8 || f[1] != "00000000" || f[7] != "00000000" {
			continue
		}
		b, err := hex.DecodeString(f[2])
		metric, merr := strconv.Atoi(f[6])
		if err != nil || merr != nil || len(b) != 4 || found != "" && metric >= best {
			continue
		}
		best, found = metric, net.IPv4(b[3], b[2], b[1], b[0]).String()
	}
	return found
}

// gateway6 finds the default route in /proc/net/ipv6_route: destination, prefix
// length, source, its length, next hop, metric and so on.
func gateway6(table string) string {
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 10 || strings.Trim(f[0], "0") != "" || f[1] != "00" || f[9] == "lo" {
			continue
		}
		if b, err := hex.DecodeString(f[4]); err == nil && len(b) == 16 && !net.IP(b).IsUnspecified() {
			return net.IP(b).String()
		}
	}
	return ""
}

func resolver(conf string) (servers []string, search string) {
	servers = []string{}
	for line := range strings.Lines(conf) {
		f := strings.Fields(line)
		switch {
		case len(f) == 2 && f[0] == "nameserver":
			servers = append(servers, f[1])
		case len(f) >= 2 && f[0] == "search":
			search = strings.Join(f[1:], " ")
		}
	}
	return servers, search
}
