package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/wispcloud/wisp/packaging/process"
)

// Links are made with ip(8), in batches: the test bed is not built with the
// code that is tested in it, and what it did can be read and typed.

// switchLog is the switch's standard error, below the lab's directory.
const switchLog = "switch.log"

// worstMetric loses against every other route to the same range.
const worstMetric = "4294967295"

// makeNetwork makes the switch, and with AttachRoot joins the machine to it.
func (l *Lab) makeNetwork(ctx context.Context) error {
	if l.cfg.AttachRoot {
		if err := l.guardRanges(ctx); err != nil {
			return err
		}
	}
	pid, err := l.startSwitch()
	if err != nil {
		return err
	}
	lines := []string{"link set lo up"}
	for _, bridge := range []string{"mgmt", "public"} {
		lines = append(lines,
			"link add "+bridge+" mtu "+strconv.Itoa(l.cfg.MTU)+" type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
			"link set "+bridge+" up")
	}
	if !l.cfg.AttachRoot {
		lines = append(lines,
			"addr add "+within(l.cfg.MgmtPrefix, 1)+" dev mgmt",
			"addr add "+within(l.cfg.PublicPrefix, 1)+" dev public")
	}
	if err := ip(ctx, l.switchNetwork(), lines...); err != nil {
		return fmt.Errorf("make switch: %w", err)
	}
	if l.cfg.AttachRoot {
		return l.attachRoot(ctx, pid)
	}
	return nil
}

// startSwitch starts the process that holds the switch's namespace.
func (l *Lab) startSwitch() (int, error) {
	log, err := os.Create(filepath.Join(l.cfg.Dir, switchLog))
	if err != nil {
		return 0, fmt.Errorf("start switch: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(self)
	cmd.Args = []string{roleSwitch, l.cfg.Dir}
	cmd.Dir = "/"
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Setsid: true}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start switch: %w", err)
	}
	l.children.Go(func() { _ = cmd.Wait() })
	return cmd.Process.Pid, nil
}

// switchNetwork is a path to the switch's namespace; one that does not exist
// when the switch is gone, lest a command runs in the machine's namespace.
func (l *Lab) switchNetwork() string {
	found, err := process.Find(process.HasArgs(roleSwitch, l.cfg.Dir))
	if err != nil || len(found) == 0 {
		return "/proc/0/ns/net"
	}
	defer func() {
		for _, p := range found {
			p.Close()
		}
	}()
	return fmt.Sprintf("/proc/%d/ns/net", found[0].PID)
}

// guardRanges is the first step of joining the machine: from here on a packet
// to the ranges that finds no link goes nowhere.
func (l *Lab) guardRanges(ctx context.Context) error {
	if err := checkFree(ctx, l.cfg); err != nil {
		return err
	}
	// Only now are such routes ours to remove: until here they would have been
	// another lab's.
	err := l.note(func(r *record) { r.Guarded = true })
	if err != nil {
		return err
	}
	for _, p := range []netip.Prefix{l.cfg.MgmtPrefix, l.cfg.PublicPrefix} {
		if err := ip(ctx, "", "route add unreachable "+p.String()+" metric "+worstMetric); err != nil {
			return fmt.Errorf("guard range %s: %w", p, err)
		}
	}
	return nil
}

// checkFree refuses ranges the machine has a route to: the lab would cut it off.
func checkFree(ctx context.Context, cfg Config) error {
	text, err := exec.CommandContext(ctx, "ip", "-4", "-j", "route", "show").Output()
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	var routes []struct {
		Dst string `json:"dst"`
		Dev string `json:"dev"`
	}
	if err := json.Unmarshal(text, &routes); err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		dst, err := netip.ParsePrefix(r.Dst)
		if err != nil {
			addr, err := netip.ParseAddr(r.Dst)
			if err != nil {
				continue // "default" reaches everything and is what the guard is against.
			}
			dst = netip.PrefixFrom(addr, addr.BitLen())
		}
		for _, p := range []netip.Prefix{cfg.MgmtPrefix, cfg.PublicPrefix} {
			if p.Overlaps(dst) {
				return fmt.Errorf("range %s is in use: this machine has a route to %s by %s", p, dst, r.Dev)
			}
		}
	}
	return nil
}

func rootLinks(name string) (mgmt, public string) { return name + "-mgmt", name + "-pub" }

// attachRoot gives the machine a link into each bridge. What comes in by it is
// for the machine itself or unreachable, even if the machine forwards.
func (l *Lab) attachRoot(ctx context.Context, switchPID int) error {
	mgmt, public := rootLinks(l.cfg.Name)
	links := []struct {
		name, peer string
		prefix     netip.Prefix
	}{{mgmt, "mgmt", l.cfg.MgmtPrefix}, {public, "public", l.cfg.PublicPrefix}}
	for _, link := range links {
		err := ip(ctx, "",
			"rule add iif "+link.name+" pref 100 type unreachable",
			fmt.Sprintf("link add %s mtu %d type veth peer name root-%s mtu %d netns %d",
				link.name, l.cfg.MTU, link.peer, l.cfg.MTU, switchPID))
		if err == nil {
			err = ip(ctx, l.switchNetwork(), "link set root-"+link.peer+" master "+link.peer+" up")
		}
		if err == nil {
			// The ranges are IPv4; without this the machine would announce
			// itself with a link-local address.
			err = os.WriteFile("/proc/sys/net/ipv6/conf/"+link.name+"/disable_ipv6", []byte("1"), 0o644)
			if errors.Is(err, os.ErrNotExist) {
				err = nil // A kernel without IPv6.
			}
		}
		if err == nil {
			err = ip(ctx, "", "addr add "+within(link.prefix, 1)+" dev "+link.name, "link set "+link.name+" up")
		}
		if err != nil {
			return fmt.Errorf("attach machine to %s: %w", link.peer, err)
		}
	}
	return nil
}

// detachRoot undoes attachRoot, however far it came.
func detachRoot(ctx context.Context, r record) error {
	var errs []error
	mgmt, public := rootLinks(r.Name)
	for _, name := range []string{mgmt, public} {
		if _, err := os.Stat("/sys/class/net/" + name); err == nil {
			// The kernel may be removing it already with its peer's namespace.
			if err := ip(ctx, "", "link del "+name); err != nil && linkExists(name) {
				errs = append(errs, err)
			}
		}
		errs = append(errs, removeRule(ctx, name))
	}
	return errors.Join(errs...)
}

func linkExists(name string) bool {
	_, err := os.Stat("/sys/class/net/" + name)
	return err == nil
}

// removeRule deletes the rule for a link, of which there may be none.
func removeRule(ctx context.Context, link string) error {
	text, err := exec.CommandContext(ctx, "ip", "-4", "rule", "show").Output()
	if err != nil {
		return fmt.Errorf("list rules: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, " iif "+link+" ") {
			if err := ip(ctx, "", "rule del iif "+link+" pref 100 type unreachable"); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeUnreachable is the last step: the lab's links are gone.
func removeUnreachable(ctx context.Context, r record) error {
	for _, p := range []netip.Prefix{r.Mgmt, r.Public} {
		text, err := exec.CommandContext(ctx, "ip", "-4", "route", "show", "exact", p.String()).Output()
		if err != nil {
			return fmt.Errorf("list routes to %s: %w", p, err)
		}
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "unreachable ") && strings.Contains(line, "metric "+worstMetric) {
				if err := ip(ctx, "", "route del unreachable "+p.String()+" metric "+worstMetric); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// ip runs lines of ip(8), in the namespace at the path or in the own one. It
// stops at the first that fails.
func ip(ctx context.Context, namespace string, lines ...string) error {
	argv := []string{"ip", "-batch", "-"}
	if namespace != "" {
		argv = append([]string{"nsenter", "--net=" + namespace, "--"}, argv...)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run ip: %w: %s (in: %s)", err, strings.TrimSpace(string(text)), strings.Join(lines, "; "))
	}
	return nil
}
