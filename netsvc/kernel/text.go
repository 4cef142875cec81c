package kernel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// linkTableBase keeps the routing tables of links away from the ones people number by hand.
const linkTableBase = 20000

// LinkTable is the number of a link's own routing table: packets with a source address of the link look there first.
func LinkTable(index int) int { return linkTableBase + index }

// Reader is what Text reads; both Kernel and the fake have it.
type Reader interface {
	Links() ([]Link, error)
	Addresses(index int) ([]Address, error)
	Routes(Protocol) ([]Route, error)
	Rules() ([]Rule, error)
	Sysctl(key string) (string, error)
	SaveTable(ctx context.Context, table string) (Table, error)
}

// TextOptions says what of the state to print beside links, addresses, routes and rules.
type TextOptions struct {
	// Sysctls are keys; "*" in one stands for each link's name.
	Sysctls []string
	// Tables are netfilter tables.
	Tables []string
}

// Text prints the state of the namespace in a form that is equal for equal states, whatever the numbers of links:
// links by name, everything sorted except rules within a chain. Tests compare it whole.
func Text(ctx context.Context, r Reader, o TextOptions) (string, error) {
	links, err := r.Links()
	if err != nil {
		return "", err
	}
	slices.SortFunc(links, func(a, b Link) int { return cmp.Compare(a.Name, b.Name) })
	p := &printer{names: map[int]string{}}
	for _, l := range links {
		p.names[l.Index] = l.Name
	}
	steps := []func() error{
		func() error { return p.links(r, links) },
		func() error { return p.routes(r) },
		func() error { return p.rules(r) },
		func() error { return p.sysctls(r, links, o.Sysctls) },
		func() error { return p.tables(ctx, r, o.Tables) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return "", err
		}
	}
	return p.text.String(), nil
}

type printer struct {
	text  strings.Builder
	names map[int]string
}

// sorted writes lines in order.
func (p *printer) sorted(lines []string) {
	slices.Sort(lines)
	for _, l := range lines {
		p.text.WriteString(l + "\n")
	}
}

func (p *printer) links(r Reader, links []Link) error {
	for _, l := range links {
		state := "down"
		if l.Up {
			state = "up"
		}
		fmt.Fprintf(&p.text, "link %s %s mtu %d %s\n", l.Name, l.MAC, l.MTU, state)
		addresses, err := r.Addresses(l.Index)
		if err != nil {
			return err
		}
		var lines []string
		for _, a := range addresses {
			scope := ""
			if a.LinkScope {
				scope = " scope link"
			}
			lines = append(lines, fmt.Sprintf("  address %s%s", a.Prefix, scope))
		}
		p.sorted(lines)
	}
	return nil
}

func (p *printer) routes(r Reader) error {
	var lines []string
	for _, protocol := range []Protocol{ProtocolLink, ProtocolRoute} {
		routes, err := r.Routes(protocol)
		if err != nil {
			return err
		}
		for _, route := range routes {
			line := fmt.Sprintf("route %s %s dev %s", p.table(route.Table), route.Destination, p.names[route.LinkIndex])
			if route.Gateway.IsValid() {
				line += " via " + route.Gateway.String()
			}
			if route.Source.IsValid() {
				line += " src " + route.Source.String()
			}
			lines = append(lines, fmt.Sprintf("%s metric %d proto %d", line, route.Metric, protocol))
		}
	}
	p.sorted(lines)
	return nil
}

func (p *printer) table(number int) string {
	if number == MainTable {
		return "main"
	}
	if name, ok := p.names[number-linkTableBase]; ok {
		return "of-" + name
	}
	return fmt.Sprint(number)
}

func (p *printer) rules(r Reader) error {
	rules, err := r.Rules()
	if err != nil {
		return err
	}
	var lines []string
	for _, rule := range rules {
		lines = append(lines, fmt.Sprintf("rule %d from %s lookup %s", rule.Priority, rule.Source, p.table(rule.Table)))
	}
	p.sorted(lines)
	return nil
}

func (p *printer) sysctls(r Reader, links []Link, keys []string) error {
	var lines []string
	for _, key := range keys {
		names := []string{""}
		if strings.Contains(key, "*") {
			names = names[:0]
			for _, l := range links {
				names = append(names, l.Name)
			}
		}
		for _, name := range names {
			key := strings.Replace(key, "*", name, 1)
			value, err := r.Sysctl(key)
			if err != nil {
				return err
			}
			lines = append(lines, fmt.Sprintf("sysctl %s = %s", key, value))
		}
	}
	p.sorted(lines)
	return nil
}

// tables prints the tables' chains; built-in ones only where they hold or decide something, for a kernel shows them
// or not depending on whether the table was ever used.
func (p *printer) tables(ctx context.Context, r Reader, names []string) error {
	for _, name := range names {
		t, err := r.SaveTable(ctx, name)
		if err != nil {
			return err
		}
		fmt.Fprintf(&p.text, "*%s\n", name)
		for _, chain := range slices.Sorted(maps.Keys(t.Chains)) {
			policy, builtin := t.Policies[chain]
			if !builtin {
				policy = "-"
			} else if policy == "ACCEPT" && len(t.Chains[chain]) == 0 {
				continue
			}
			fmt.Fprintf(&p.text, ":%s %s\n", chain, policy)
			for _, rule := range t.Chains[chain] {
				fmt.Fprintf(&p.text, "-A %s %s\n", chain, rule)
			}
		}
	}
	return nil
}

// LinkByMAC finds the link with a MAC address; ErrNoLink when none has it, an error when several do.
func LinkByMAC(links []Link, mac MAC) (Link, error) {
	i := slices.IndexFunc(links, func(l Link) bool { return l.MAC == mac })
	if i < 0 {
		return Link{}, fmt.Errorf("find link with mac %s: %w", mac, ErrNoLink)
	}
	if j := slices.IndexFunc(links[i+1:], func(l Link) bool { return l.MAC == mac }); j >= 0 {
		return Link{}, fmt.Errorf("find link with mac %s: both %s and %s have it: %w",
			mac, links[i].Name, links[i+1+j].Name, ErrAmbiguous)
	}
	return links[i], nil
}

// ErrAmbiguous is returned when several links answer one description.
var ErrAmbiguous = errors.New("not one link but several")
