package domain

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/google/uuid"
)

// Stats implements Hypervisor with one call for all domains.
func (l *Libvirt) Stats(ctx context.Context) (map[string]Usage, error) {
	ctx, cancel := context.WithTimeout(ctx, askDeadline)
	defer cancel()
	const groups = libvirt.DomainStatsCPUTotal | libvirt.DomainStatsBalloon | libvirt.DomainStatsVCPU |
		libvirt.DomainStatsInterface | libvirt.DomainStatsBlock
	out := map[string]Usage{}
	err := l.ask.call(ctx, func(v *libvirt.Libvirt) error {
		records, err := v.ConnectGetAllDomainStats(nil, uint32(groups),
			uint32(libvirt.ConnectGetAllDomainsStatsRunning|libvirt.ConnectGetAllDomainsStatsNowait))
		if err != nil {
			return err
		}
		now := time.Now()
		for _, r := range records {
			id := uuid.UUID(r.Dom.UUID).String()
			l.mu.Lock()
			ours := l.live[id].ours
			l.mu.Unlock()
			if ours {
				u := readUsage(r.Params)
				u.MeasuredAt = now
				out[id] = u
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("measure domains: %w", err)
	}
	return out, nil
}

func readUsage(params []libvirt.TypedParam) Usage {
	var u Usage
	var available, unused uint64
	for _, p := range params {
		n, ok := number(p.Value)
		if !ok {
			continue
		}
		switch group, name, _ := strings.Cut(p.Field, "."); group {
		case "cpu":
			if name == "time" {
				u.CPUTime = time.Duration(n)
			}
		case "vcpu":
			if name == "current" {
				u.VCPUs = uint32(n)
			}
		case "balloon":
			switch name {
			case "available":
				available = n
			case "unused":
				unused = n
			case "rss":
				u.MemoryKiB = n
			}
		case "net":
			addSuffix(name, n, map[string]*uint64{"rx.bytes": &u.ReceiveBytes, "tx.bytes": &u.SendBytes})
		case "block":
			addSuffix(name, n, map[string]*uint64{
				"rd.bytes": &u.ReadBytes, "wr.bytes": &u.WriteBytes, "rd.reqs": &u.ReadOps, "wr.reqs": &u.WriteOps,
			})
		}
	}
	if available > 0 && unused <= available {
		u.MemoryKiB = available - unused
	}
	return u
}

// addSuffix sums "0.rd.bytes", "1.rd.bytes", ... into the counter for "rd.bytes".
func addSuffix(name string, n uint64, counters map[string]*uint64) {
	if _, rest, ok := strings.Cut(name, "."); ok {
		if c := counters[rest]; c != nil {
			*c += n
		}
	}
}

func number(v libvirt.TypedParamValue) (uint64, bool) {
	switch n := v.I.(type) {
	case int32:
		return uint64(max(n, 0)), true
	case uint32:
		return uint64(n), true
	case int64:
		return uint64(max(n, 0)), true
	case uint64:
		return n, true
	}
	return 0, false
}
