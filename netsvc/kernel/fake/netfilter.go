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

// ChangeChains makes the change, or none of it: a rule may only jump to a chain that exists afterwards, and a chain
// somebody jumps to cannot be removed.
func (k *Kernel) ChangeChains(_ context.Context, c kernel.Change) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var names []string
	for _, chain := range c.Load {
		names = append(names, chain.Name)
	}
	if err := k.change("load %s %s", c.Table, strings.Join(names, " ")); err != nil {
		return err
	}
	next := table(k.table(c.Table).copy())
	for builtin, policy := range c.Policies {
		if _, ok := next.Policies[builtin]; !ok {
			return fmt.Errorf("set policy of %s: no such built-in chain", builtin)
		}
		next.Policies[builtin] = policy
	}
	for _, chain := range c.Load {
		next.Chains[chain.Name] = slices.Clone(chain.Rules)
	}
	for _, name := range c.Remove {
		if _, ok := next.Policies[name]; ok {
			return fmt.Errorf("remove %s: built-in chain", name)
		}
		delete(next.Chains, name)
	}
	for name, rules := range next.Chains {
		for _, rule := range rules {
			if err := next.checkTarget(rule); err != nil {
				return fmt.Errorf("chain %s: rule %q: %w", name, rule, err)
			}
		}
	}
	k.tables[c.Table] = &next
	k.generation++
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

// Jump inserts the jump.
func (k *Kernel) Jump(_ context.Context, table, from, to string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	t := k.table(table)
	rule := "-j " + to
	if _, ok := t.Chains[to]; !ok {
		return fmt.Errorf("jump from %s to %s: no such chain", from, to)
	}
	if err := k.change("jump %s %s %s", table, from, to); err != nil {
		return err
	}
	t.Chains[from] = slices.Insert(t.Chains[from], 0, rule)
	k.generation++
	return nil
}

// DeleteJump deletes the jump.
func (k *Kernel) DeleteJump(_ context.Context, table, from, to string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.change("unjump %s %s %s", table, from, to); err != nil {
		return err
	}
	t := k.table(table)
	t.Chains[from] = slices.DeleteFunc(t.Chains[from], func(r string) bool { return r == "-j "+to })
	k.generation++
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
