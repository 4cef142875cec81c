package reconcile

import (
	"context"
	"maps"
	"time"

	"github.com/wispcloud/wisp/agent/internal/desired"
	"github.com/wispcloud/wisp/agent/internal/fabric"
	"github.com/wispcloud/wisp/agent/internal/netrun"
	"github.com/wispcloud/wisp/proto/hostspec"
	"github.com/wispcloud/wisp/proto/netspec"
)

func (l *Loop) passNetwork(ctx context.Context) time.Duration {
	s := l.Desired()
	if s == nil {
		return 0
	}
	want := fabric.Want{Keep: map[string]bool{}, Taps: map[string]fabric.Tap{}}
	want.Ready, want.Running = map[string]bool{}, l.config.Services.Present()
	for _, n := range s.Networks {
		want.Networks = append(want.Networks, n)
		if spec := n.GetServices(); spec != nil {
			st := l.config.Services.Status(netrun.Instance(n.GetId(), n.GetIncarnation()))
			want.Ready[n.GetId()] = st.Applied && st.Observation.GetAppliedGeneration() >= spec.GetGeneration()
		}
	}
	for _, vm := range s.VMs {
		for _, nic := range vm.GetNics() {
			want.Taps[fabric.TapName(nic.GetId())] = fabric.Tap{NetworkID: nic.GetNetworkId(), MAC: nic.GetMac()}
		}
	}
	wantAppliances(s, &want)
	held, problems := map[string]bool{}, map[string]bool{}
	for key := range s.Problems {
		if key.Kind == desired.Network {
			held[key.ID], problems[key.ID] = true, true
		}
	}
	want.Unsure, want.Used = l.holdUsed(s, want.Running, held)
	// What goes keeps its links until its services have ended in order.
	for id := range held {
		want.Keep[id] = true
	}
	for id := range want.Running {
		if network := netrun.NetworkOf(id); s.Networks[network].GetServices() == nil {
			want.Keep[network] = true
		}
	}
	begin := time.Now()
	results, err := l.config.Fabric.Apply(ctx, want)
	if ctx.Err() != nil {
		return 0
	}
	replacing := false
	for _, r := range results {
		replacing = replacing || len(r.Instances) > 1
	}
	l.replacing.Store(replacing)
	services := instances(s, results, want.Running)
	l.config.Services.Apply(services, held)
	ending := 0
	for id := range want.Running {
		if services[id] == nil && !want.Keep[netrun.NetworkOf(id)] {
			ending++
		}
	}
	for id := range l.past {
		if _, wanted := s.Networks[id]; !wanted && !want.Keep[id] && err == nil {
			delete(l.past, id)
		}
	}
	removing := len(want.Keep)+ending > len(problems) || want.Unsure || l.strays(s, want.Used)
	if l.removing.Swap(removing) != removing {
		l.config.Changed()
	}
	if l.putNetworks(results, err, s.Generation, begin) {
		l.compute.poke()
		l.config.Changed()
	}
	if len(want.Keep)+ending > len(held) {
		return 200 * time.Millisecond
	}
	return 0
}

// wantAppliances adds the NICs of system VMs.
func wantAppliances(s *desired.State, want *fabric.Want) {
	for _, v := range s.SystemVMs {
		a := fabric.Appliance{ID: v.GetId()}
		for _, nic := range v.GetNics() {
			unplugged := v.GetStandby() && nic.GetTraffic() != desired.TrafficControl
			if nic.GetTraffic() == desired.TrafficGuest {
				// Without its address: two machines may have it, and what an appliance sends is not a guest's.
				want.Taps[fabric.TapName(nic.GetId())] = fabric.Tap{NetworkID: nic.GetNetworkId(), Unplugged: unplugged}
				continue
			}
			a.Ports = append(a.Ports, fabric.PortOf(nic, unplugged))
		}
		want.Appliances = append(want.Appliances, a)
	}
}

// instances that shall have services, with their specs. Where the fabric could not say which, none of those that run is
// taken away.
func instances(s *desired.State, results map[string]fabric.Result, running map[string]bool) map[string]*netspec.NetSpec {
	services := map[string]*netspec.NetSpec{}
	for id, n := range s.Networks {
		if n.GetServices() == nil {
			continue
		}
		services[netrun.Instance(id, n.GetIncarnation())] = n.GetServices()
		r, looked := results[id]
		for _, instance := range r.Instances {
			services[instance] = n.GetServices()
		}
		for instance := range running {
			if !looked && netrun.NetworkOf(instance) == id {
				services[instance] = n.GetServices()
			}
		}
	}
	return services
}

// holdUsed adds the networks that left the spec while a domain still has a link in them, and all of them until domains
// were looked at, which is what unsure says. used are the bridges that domains have links in. Of networks that an earlier agent
// made it is not known which bridge is whose: their services are held while a domain has a link in a bridge of none.
func (l *Loop) holdUsed(s *desired.State, running, held map[string]bool) (unsure bool, used map[string]bool) {
	b := l.board
	b.mu.Lock()
	defer b.mu.Unlock()
	unsure, used = !b.looked || b.computeAt < s.Generation, map[string]bool{}
	for _, d := range b.seen {
		for _, name := range d.Bridges {
			used[name] = true
		}
	}
	gone := l.known(s)
	for id, n := range gone {
		if unsure || used[fabric.BridgeName(n)] {
			held[id] = true
		}
	}
	stray := l.strays(s, used)
	for id := range running {
		network := netrun.NetworkOf(id)
		if s.Networks[network] == nil && gone[network] == nil && (unsure || stray) {
			held[network] = true
		}
	}
	return unsure, used
}

// strays tells whether a bridge of a guest network is used that no network of the spec has.
func (l *Loop) strays(s *desired.State, used map[string]bool) bool {
	wanted := map[string]bool{}
	for _, n := range s.Networks {
		wanted[fabric.BridgeName(n)] = true
	}
	for name := range used {
		if !wanted[name] && fabric.OwnBridge(name) {
			return true
		}
	}
	return false
}

// known are networks this loop made that left the spec, remembered until they are removed.
func (l *Loop) known(s *desired.State) map[string]*hostspec.Network {
	for id, n := range s.Networks {
		l.past[id] = n
	}
	gone := map[string]*hostspec.Network{}
	for id, n := range l.past {
		if _, wanted := s.Networks[id]; !wanted {
			gone[id] = n
		}
	}
	return gone
}

func (l *Loop) putNetworks(results map[string]fabric.Result, err error, generation uint64, begin time.Time) (changed bool) {
	b := l.board
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil && text(b.networkErr) != text(err) {
		l.log.Error("network pass is incomplete", "error", err)
	}
	changed = text(b.networkErr) != text(err) || len(results) != len(b.networks)
	for id, r := range results {
		old, ok := b.networks[id]
		changed = changed || !ok || text(old.Err) != text(r.Err) || old.Repairs != r.Repairs || old.Serving != r.Serving || !maps.Equal(old.Absent, r.Absent)
	}
	b.networkErr = err
	if results != nil {
		changed = changed || b.networkAt != generation
		b.networks, b.networkAt, b.networkLooked = results, generation, begin
		for id := range results {
			b.networkSince(id) // the patience with the services of several networks passes at one time
		}
		for id := range b.since {
			if _, ok := results[id]; !ok {
				delete(b.since, id)
			}
		}
	}
	return changed
}
