package kernel

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Chain is one chain with its rules in iptables-save syntax, without the leading "-A NAME".
type Chain struct {
	Name  string
	Rules []string
}

// Change is one atomic change of a table.
type Change struct {
	Table string
	// Policies of built-in chains: ACCEPT or DROP.
	Policies map[string]string
	// Load chains are created or emptied, and filled.
	Load []Chain
	// Remove chains are emptied and deleted.
	Remove []string
	// Jump are inserted before all other rules of their built-in chains. The caller has seen that they are not there.
	Jump []Jump
	// Unjump are deleted. One that is not there fails the whole change.
	Unjump []Jump
}

// Jump is the rule of a built-in chain that sends everything to another chain.
type Jump struct{ From, To string }

// Empty says whether the change changes nothing.
func (c *Change) Empty() bool { return c.Size() == 0 }

// Size counts what the change changes.
func (c *Change) Size() int {
	return len(c.Policies) + len(c.Load) + len(c.Remove) + len(c.Jump) + len(c.Unjump)
}

// Table is what is in the kernel.
type Table struct {
	// Policies of the built-in chains.
	Policies map[string]string
	// Chains by name, built-in ones too.
	Chains map[string][]string
}

// iptables holds what is found out about the installed iptables once.
type iptables struct {
	once sync.Once
	nft  bool
	err  error
}

func (k *Kernel) iptables() (*iptables, error) {
	t := &k.ipt
	t.once.Do(func() {
		t.nft, t.err = isNFT()
	})
	if t.err != nil {
		return nil, fmt.Errorf("find iptables: %w", t.err)
	}
	return t, nil
}

// isNFT says whether the installed iptables is the one on nf_tables. Its path tells without starting it, on systems
// that choose by links; else its version does.
func isNFT() (bool, error) {
	path, err := exec.LookPath("iptables")
	if err != nil {
		return false, err
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		switch filepath.Base(target) {
		case "xtables-nft-multi":
			return true, nil
		case "xtables-legacy-multi":
			return false, nil
		}
	}
	version, err := exec.Command(path, "--version").Output()
	return bytes.Contains(version, []byte("nf_tables")), err
}

// ChangeChains makes changes with one iptables-restore --noflush: other chains and rules of their tables are not touched,
// and no packet meets a half-loaded chain, or one that nothing leads to yet. Each change is atomic; they are made in
// order, and the first that fails ends it.
func (k *Kernel) ChangeChains(ctx context.Context, changes ...Change) error {
	if _, err := k.iptables(); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "iptables-restore", "--wait", "10", "--noflush")
	var input bytes.Buffer
	var tables []string
	for _, c := range changes {
		writeRestore(&input, c)
		tables = append(tables, c.Table)
	}
	cmd.Stdin = &input
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("load chains of table %s: %w: %s", strings.Join(slices.Compact(tables), ", "), err, firstLine(stderr.String()))
	}
	return nil
}

// writeRestore writes a change as iptables-restore reads it.
func writeRestore(b *bytes.Buffer, c Change) {
	fmt.Fprintf(b, "*%s\n", c.Table)
	for _, builtin := range slices.Sorted(maps.Keys(c.Policies)) {
		fmt.Fprintf(b, ":%s %s [0:0]\n", builtin, c.Policies[builtin])
	}
	for _, chain := range c.Load {
		fmt.Fprintf(b, ":%s - [0:0]\n", chain.Name)
	}
	for _, name := range c.Remove {
		fmt.Fprintf(b, ":%s - [0:0]\n", name)
	}
	for _, j := range c.Unjump {
		fmt.Fprintf(b, "-D %s -j %s\n", j.From, j.To)
	}
	for _, chain := range c.Load {
		for _, rule := range chain.Rules {
			fmt.Fprintf(b, "-A %s %s\n", chain.Name, rule)
		}
	}
	for _, j := range c.Jump {
		fmt.Fprintf(b, "-I %s -j %s\n", j.From, j.To)
	}
	for _, name := range c.Remove {
		fmt.Fprintf(b, "-X %s\n", name)
	}
	b.WriteString("COMMIT\n")
}

// SaveTable reads a table back.
func (k *Kernel) SaveTable(ctx context.Context, table string) (Table, error) {
	if _, err := k.iptables(); err != nil {
		return Table{}, err
	}
	cmd := exec.CommandContext(ctx, "iptables-save", "-t", table)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return Table{}, fmt.Errorf("read table %s: %w: %s", table, err, firstLine(stderr.String()))
	}
	return parseSave(out), nil
}

func parseSave(out []byte) Table {
	t := Table{Policies: map[string]string{}, Chains: map[string][]string{}}
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if rest, ok := strings.CutPrefix(line, ":"); ok {
			name, rest, _ := strings.Cut(rest, " ")
			policy, _, _ := strings.Cut(rest, " ")
			t.Chains[name] = nil
			if policy != "-" {
				t.Policies[name] = policy
			}
		}
		if rest, ok := strings.CutPrefix(line, "-A "); ok {
			name, rule, _ := strings.Cut(rest, " ")
			t.Chains[name] = append(t.Chains[name], rule)
		}
	}
	return t
}

// FirstGeneration is the NetfilterGeneration of a namespace in which nobody has ever changed anything: all its tables are
// empty, and need not be read.
const FirstGeneration = 1

// NetfilterGeneration is a number that rises with every change of the namespace's nf_tables rules, whoever made it:
// while it stands still nothing needs to be read back. ok is false where iptables is the legacy one.
func (k *Kernel) NetfilterGeneration() (generation uint32, ok bool, err error) {
	ipt, err := k.iptables()
	if err != nil || !ipt.nft {
		return 0, false, err
	}
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETGEN, 0)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC})
	answers, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return 0, false, fmt.Errorf("read netfilter generation: %w", err)
	}
	for _, answer := range answers {
		if len(answer) < nl.SizeofNfgenmsg {
			continue
		}
		attrs, err := nl.ParseRouteAttr(answer[nl.SizeofNfgenmsg:])
		if err != nil {
			return 0, false, fmt.Errorf("read netfilter generation: %w", err)
		}
		for _, a := range attrs {
			if a.Attr.Type == unix.NFTA_GEN_ID && len(a.Value) >= 4 {
				return binary.BigEndian.Uint32(a.Value), true, nil
			}
		}
	}
	return 0, false, errors.New("read netfilter generation: the answer holds none")
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}
