package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// initEnv is the environment of a host's PID 1 and of all it starts. TMPDIR is
// there because /tmp is the machine's and read-only.
var initEnv = []string{
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	"HOME=/root", "LANG=C.UTF-8", "TMPDIR=/var/tmp",
}

// hostSpec is what a host's PID 1 reads from host.json.
type hostSpec struct {
	Name string `json:"name"`
	// Address is with prefix length.
	Address  string    `json:"address"`
	MAC      []string  `json:"mac"`
	MTU      int       `json:"mtu"`
	Mounts   []bind    `json:"mounts"`
	Services []service `json:"services"`
}

// bind is a file or directory from outside and where the host has it.
type bind struct {
	From string `json:"from"`
	To   string `json:"to"`
	// IfThere leaves it out where the machine has nothing at To.
	IfThere bool `json:"if_there,omitempty"`
}

// service is a process that PID 1 keeps running.
type service struct {
	Name string   `json:"name"`
	Argv []string `json:"argv"`
}

// privateDirs are a host's own; the name is that below the host's directory.
// All but run survive a power-off.
var privateDirs = []struct{ name, path string }{
	{"run", "/run"},
	{"etc-libvirt", "/etc/libvirt"},
	{"etc-wisp", "/etc/wisp"},
	{"var-lib-libvirt", "/var/lib/libvirt"},
	{"var-lib-wisp", "/var/lib/wisp"},
	{"var-cache-libvirt", "/var/cache/libvirt"},
	{"var-log-libvirt", "/var/log/libvirt"},
	{"var-tmp", "/var/tmp"},
}

// install puts a host's files in place: those of the operating system anew at
// each power-on, data only the first time.
func (h *Host) install() error {
	for _, d := range privateDirs {
		if err := os.MkdirAll(filepath.Join(h.dir, d.name), 0o755); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(h.LogDir(), 0o700); err != nil {
		return err
	}
	if err := emptyDir(filepath.Join(h.dir, "run")); err != nil {
		return err
	}
	for _, d := range []string{"run/lock", "run/libvirt", "var-log-libvirt/qemu", "var-cache-libvirt/qemu", "var-tmp"} {
		if err := os.MkdirAll(filepath.Join(h.dir, d), 0o755); err != nil {
			return err
		}
	}
	files := h.files()
	for _, name := range []string{"passwd", "group"} {
		text, err := accounts(name)
		if err != nil {
			return err
		}
		files[name] = text
	}
	for path, text := range files {
		if err := os.WriteFile(filepath.Join(h.dir, path), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := h.installAgent(); err != nil {
		return err
	}
	if err := h.copyCapabilities(); err != nil {
		return err
	}
	spec, err := json.MarshalIndent(h.spec(), "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(h.dir, hostSpecFile), spec, 0o600)
}

// files are the host's configuration. Ownership and labels are off because
// libvirt would otherwise change the owner of shared files, a kernel in /boot
// among them, and a killed host never changes it back.
func (h *Host) files() map[string]string {
	id := fmt.Sprintf("77697370-6c61-4200-8000-%012x", h.info.Index)
	var hosts strings.Builder
	hosts.WriteString("127.0.0.1 localhost\n")
	for _, other := range h.lab.hosts {
		fmt.Fprintf(&hosts, "%s %s\n", other.info.IP, other.info.Name)
	}
	return map[string]string{
		"hosts":      hosts.String(),
		"hostname":   h.info.Name + "\n",
		"machine-id": strings.ReplaceAll(id, "-", "") + "\n",
		"etc-libvirt/libvirtd.conf": strings.Join([]string{
			`listen_tls = 0`, `listen_tcp = 1`, `listen_addr = "` + h.info.IP.String() + `"`,
			`auth_tcp = "none"`, `auth_unix_rw = "none"`, `auth_unix_ro = "none"`,
			`unix_sock_group = "root"`, `unix_sock_rw_perms = "0700"`,
			`host_uuid = "` + id + `"`, "",
		}, "\n"),
		"etc-libvirt/qemu.conf": strings.Join([]string{
			`user = "root"`, `group = "root"`, `dynamic_ownership = 0`, `remember_owner = 0`,
			`security_driver = "none"`,
			// A mount namespace per guest only costs time within a namespace.
			`namespaces = []`, `cgroup_controllers = []`,
			`migration_address = "` + h.info.IP.String() + `"`, `migration_host = "` + h.info.IP.String() + `"`,
			`vnc_listen = "` + h.info.IP.String() + `"`, "",
		}, "\n"),
	}
}

// accounts is the machine's list of users or groups, with libvirt's own added
// where a package of the machine did not: libvirt does not start without them,
// though qemu.conf names root.
func accounts(name string) (string, error) {
	text, err := os.ReadFile(filepath.Join("/etc", name))
	if err != nil {
		return "", err
	}
	line := map[string]string{
		"passwd": "libvirt-qemu:x:64055:64055:Libvirt QEMU:/nonexistent:/usr/sbin/nologin\n",
		"group":  "libvirt-qemu:x:64055:\n",
	}[name]
	if strings.Contains("\n"+string(text), "\nlibvirt-qemu:") {
		line = ""
	}
	return strings.TrimRight(string(text), "\n") + "\n" + line, nil
}

// installAgent writes the agent's configuration, readable by root only: it
// may hold a join token.
func (h *Host) installAgent() error {
	if h.lab.cfg.AgentConfig == nil {
		return nil
	}
	text, err := h.lab.cfg.AgentConfig(h.info)
	if err != nil {
		return fmt.Errorf("configure agent of %s: %w", h.info.Name, err)
	}
	return os.WriteFile(filepath.Join(h.dir, "etc-wisp", filepath.Base(agentConfigPath)), text, 0o600)
}

func (h *Host) spec() hostSpec {
	spec := hostSpec{
		Name: h.info.Name, Address: within(h.lab.cfg.MgmtPrefix, firstHost-1+h.info.Index),
		MAC: []string{h.mac(0), h.mac(1)}, MTU: h.lab.cfg.MTU,
		Services: []service{
			{Name: "virtlogd", Argv: []string{"virtlogd"}},
			{Name: "libvirtd", Argv: []string{"libvirtd", "--listen"}},
		},
	}
	for _, d := range privateDirs {
		spec.Mounts = append(spec.Mounts, bind{From: filepath.Join(h.dir, d.name), To: d.path})
	}
	for _, name := range []string{"hosts", "hostname", "machine-id", "passwd", "group"} {
		spec.Mounts = append(spec.Mounts, bind{From: filepath.Join(h.dir, name), To: "/etc/" + name, IfThere: true})
	}
	for _, dir := range h.lab.cfg.Shared {
		spec.Mounts = append(spec.Mounts, bind{From: dir, To: dir})
	}
	if h.lab.cfg.AgentBinary != "" {
		spec.Services = append(spec.Services, service{
			Name: "agent", Argv: append([]string{h.lab.cfg.AgentBinary}, h.lab.cfg.AgentArgs...),
		})
	}
	return spec
}

// emptyDir removes what is in a directory but not the directory.
func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// libvirt asks every QEMU binary what it can do, some seconds of work, and
// keeps the answers. They hold for all hosts of one machine.
func (h *Host) capabilities() string {
	return filepath.Join(h.dir, "var-cache-libvirt", "qemu", "capabilities")
}

// copyCapabilities gives the host the answers a host before it got. libvirt
// checks by itself whether they still hold.
func (h *Host) copyCapabilities() error {
	if _, err := os.Stat(h.capabilities()); err == nil {
		return nil
	}
	err := os.CopyFS(h.capabilities(), os.DirFS(filepath.Join(h.lab.cfg.CacheDir, "capabilities")))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// keepCapabilities keeps this host's answers for others. It is a cache: what
// goes wrong only costs time.
func (h *Host) keepCapabilities() {
	kept := filepath.Join(h.lab.cfg.CacheDir, "capabilities")
	if same, err := sameFiles(kept, h.capabilities()); err == nil && same {
		return
	}
	tmp := kept + "." + strconv.Itoa(os.Getpid()) + h.info.Name
	defer os.RemoveAll(tmp)
	err := os.MkdirAll(h.lab.cfg.CacheDir, 0o755)
	if err == nil {
		err = os.CopyFS(tmp, os.DirFS(h.capabilities()))
	}
	if err == nil {
		err = os.RemoveAll(kept)
	}
	if err == nil {
		err = os.Rename(tmp, kept)
	}
	if err != nil {
		h.lab.cfg.Log.Debug("capabilities not kept", "host", h.info.Name, "err", err)
	}
}

// sameFiles compares two flat directories byte by byte.
func sameFiles(a, b string) (bool, error) {
	in, err := os.ReadDir(a)
	if err != nil {
		return false, err
	}
	other, err := os.ReadDir(b)
	if err != nil || len(in) != len(other) {
		return false, err
	}
	for _, e := range in {
		left, err := os.ReadFile(filepath.Join(a, e.Name()))
		if err != nil {
			return false, err
		}
		right, err := os.ReadFile(filepath.Join(b, e.Name()))
		if err != nil || string(left) != string(right) {
			return false, err
		}
	}
	return true, nil
}
