package fake

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/wispcloud/wisp/netsvc/kernel"
)

type table kernel.Table

var builtins = map[string][]string{
	"filter": {"INPUT", "FORWARD", "OUTPUT"},
	"nat":    {"PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"},
	"mangle": {"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"},
}

func (k *Kernel) table(name string) *table {
	t, ok := k.tables[name]
	if !ok {
		t = &table{Policies: map[string]string{}, Chains: map[string][]string{}}
		for _, chain := range builtins[name] {
			t.Policies[chain] = "ACCEPT"
			t.Chains[chain] = nil
		}
		k.tables[name] = t
	}
	return t
}

func (t *table) copy() kernel.Table {
	c := kernel.Table{Policies: maps.Clone(t.Policies), Chains: map[string][]string{}}
	for name, rules := range t.Chains {
		c.Chains[name] = slices.Clone(rules)
	}
	return c
}

// ChangeChains makes the changes in order up to the first that fails, and of that one nothing: a rule may only jump to a
// chain that exists afterwards, a chain somebody jumps to cannot be removed, and a jump that is not there cannot be
// deleted.
func (k *Kernel) ChangeChains(_ context.Context, changes ...kernel.Change) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range changes {
		if err := k.changeChains(c); err != nil {
			return err
		}
	}
	return nil
}

func (k *Kernel) changeChains(c kernel.Change) error {
	next := table(k.table(c.Table).copy())
	if err := next.change(c); err != nil {
		return err
	}
	if err := k.changes(journal(c)); err != nil {
		return err
	}
	k.tables[c.Table] = &next
	k.generation++
	return nil
}

// journal is a line for each kind of change.
func journal(c kernel.Change) []string {
	var ops []string
	for _, j := range c.Unjump {
		ops = append(ops, fmt.Sprintf("unjump %s %s %s", c.Table, j.From, j.To))
	}
	if len(c.Policies)+len(c.Load)+len(c.Remove) > 0 {
		op := "load " + c.Table
		for _, chain := range c.Load {
			op += " " + chain.Name
		}
		ops = append(ops, op)
	}
	for _, j := range c.Jump {
		ops = append(ops, fmt.Sprintf("jump %s %s %s", c.Table, j.From, j.To))
	}
	return ops
}

func (t *table) change(c kernel.Change) error {
	for builtin, policy := range c.Policies {
		if _, ok := t.Policies[builtin]; !ok {
			return fmt.Errorf("set policy of %s: no such built-in chain", builtin)
		}
		t.Policies[builtin] = policy
	}
	for _, j := range c.Unjump {
		i := slices.Index(t.Chains[j.From], "-j "+j.To)
		if i < 0 {
			return fmt.Errorf("delete jump from %s to %s: not there", j.From, j.To)
		}
		t.Chains[j.From] = slices.Delete(t.Chains[j.From], i, i+1)
	}
	for _, chain := range c.Load {
		t.Chains[chain.Name] = slices.Clone(chain.Rules)
	}
	for _, j := range c.Jump {
		if _, ok := t.Policies[j.From]; !ok {
			return fmt.Errorf("jump from %s to %s: no such built-in chain", j.From, j.To)
		}
		t.Chains[j.From] = slices.Insert(t.Chains[j.From], 0, "-j "+j.To)
	}
	for _, name := range c.Remove {
		if _, ok := t.Policies[name]; ok {
			return fmt.Errorf("remove %s: built-in chain", name)
		}
		delete(t.Chains, name)
	}
	for name, rules := range t.Chains {
		for _, rule := range rules {
			if err := t.checkTarget(rule); err != nil {
				return fmt.Errorf("chain %s: rule %q: %w", name, rule, err)
			}
		}
	}
	return nil
}

var targets = []string{"ACCEPT", "DROP", "RETURN", "REJECT", "DNAT", "SNAT", "MASQUERADE", "MARK", "CONNMARK", "TCPMSS"}

func (t *table) checkTarget(rule string) error {
	words := strings.Fields(rule)
	i := slices.Index(words, "-j")
	if i < 0 || i+1 == len(words) || slices.Contains(targets, words[i+1]) {
		return nil
	}
	if _, ok := t.Chains[words[i+1]]; !ok {
		return fmt.Errorf("no chain or target %s", words[i+1])
	}
	return nil
}

// NetfilterGeneration counts the changes.
func (k *Kernel) NetfilterGeneration() (uint32, bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.generation, true, nil
}

// Flush empties a chain behind the services' back, as an operator's iptables -F would.
func (k *Kernel) Flush(table, chain string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.table(table).Chains[chain] = nil
	k.generation++
}
