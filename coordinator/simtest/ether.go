package simtest

import (
	"fmt"
	"slices"
	"sync"
)

// ether knows who is heard with which MAC address on all hosts of a site, at every moment. No address may be heard twice:
// two routers of one network have the same ones.
type ether struct {
	mu      sync.Mutex
	heard   map[string][]string // MAC -> "host: who"
	doubles []string
}

func (e *ether) hear(mac, who string, on bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !on {
		e.heard[mac] = slices.DeleteFunc(e.heard[mac], func(s string) bool { return s == who })
		return
	}
	e.heard[mac] = append(e.heard[mac], who)
	if all := e.heard[mac]; len(all) > 1 {
		e.doubles = append(e.doubles, fmt.Sprintf("%s is heard twice: %q", mac, all))
	}
}

// sources of a MAC address now.
func (e *ether) sources(mac string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.heard[mac])
}
