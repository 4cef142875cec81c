package main

import (
	"context"
	"slices"
	"time"
)

// provisioner follows the leases: it takes the host name from them, reads
// metadata and asks for a password until there was an answer, and says once that
// the machine is ready.
type provisioner struct {
	g      *guest
	client *client
	woken  chan struct{}

	served   string // server and address of the lease the rest belongs to
	metadata bool   // an answer was read
	password bool   // asked and answered
	script   bool   // started in this boot
	ready    bool
	delay    time.Duration
	told     map[string]string // the last complaint about each thing

	readied chan struct{} // closed when ready
}

func newProvisioner(g *guest) *provisioner {
	return &provisioner{g: g, client: newClient(), woken: make(chan struct{}, 1), readied: make(chan struct{}), told: map[string]string{}}
}

// wake says that a lease or the ssh server changed. It carries no news.
func (p *provisioner) wake() {
	select {
	case p.woken <- struct{}{}:
	default:
	}
}

// complain shows an error unless it is the one shown last: a service that stays
// away must not fill the console.
func (p *provisioner) complain(what string, err error) {
	if p.told[what] != err.Error() {
		p.told[what] = err.Error()
		p.g.say.Printf("wisp-guest %s: %v", what, err)
	}
}

// waitReady returns when the machine is ready, or after a time.
func (p *provisioner) waitReady(limit time.Duration) {
	select {
	case <-p.readied:
	case <-time.After(limit):
	}
}

// waitForLease is how long a machine without a lease is silent about it.
const waitForLease = 20 * time.Second

func (p *provisioner) run() {
	timer := time.NewTimer(waitForLease)
	for {
		select {
		case <-p.woken:
		case <-timer.C:
		}
		timer.Reset(p.pass())
	}
}

// pass does what can be done now and returns when to look again.
func (p *provisioner) pass() time.Duration {
	leases := readLeases(runDir)
	p.g.facts.setLeases(leases)
	if len(leases) == 0 {
		return p.passWithoutLease()
	}
	first := leases[0]
	if id := first.Server + " " + first.ip(); id != p.served {
		p.served, p.metadata, p.password, p.delay = id, false, false, time.Second
	}
	p.takeHostname(leases)
	if !p.metadata {
		p.readMetadata(leases)
	}
	if !p.password {
		p.readPassword(first.Server)
	}
	p.sayReady(first.ip())
	if p.metadata && p.password {
		return time.Hour
	}
	p.delay = min(p.delay*2, time.Minute)
	return p.delay
}

// passWithoutLease serves networks that have router advertisements alone.
func (p *provisioner) passWithoutLease() time.Duration {
	if monotonic() < waitForLease {
		return waitForLease - monotonic()
	}
	if ip := globalIPv6(readCards()); ip != "" {
		p.sayReady(ip)
	} else if !p.ready {
		p.g.say.Printf("wisp-guest waiting for a DHCP lease")
	}
	return waitForLease
}

func (p *provisioner) takeHostname(leases []lease) {
	for _, l := range leases {
		if l.Hostname == "" {
			continue
		}
		if err := setHostname(l.Hostname); err != nil {
			p.g.say.Printf("wisp-guest %v", err)
			continue
		}
		p.g.facts.setNamed()
		return
	}
}

// sources are where metadata may be, in the order that CloudStack's own
// guest scripts try: the DHCP server, its DNS name, then the common address.
func sources(leases []lease) []string {
	var s []string
	for _, l := range leases {
		if l.Server != "" && !slices.Contains(s, l.Server) {
			s = append(s, l.Server)
		}
	}
	return append(s, dataServer, linkLocal)
}

func (p *provisioner) readMetadata(leases []lease) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	m, err := p.client.read(ctx, sources(leases))
	if err != nil {
		p.complain("read metadata", err)
		return
	}
	p.metadata = true
	n, err := installKeys("/root/.ssh/authorized_keys", m.Values["public-keys"])
	if err != nil {
		p.g.say.Printf("wisp-guest %v", err)
	}
	p.g.facts.setMetadata(m, n)
	if name := m.Values["local-hostname"]; name != "" && !p.g.facts.named() {
		if err := setHostname(name); err != nil {
			p.g.say.Printf("wisp-guest %v", err)
		}
	}
	if isScript(m.UserData) && !p.script {
		p.script = true
		go p.g.runUserScript(m.UserData)
	}
}

// readPassword sets root's password only when one was handed over. It is neither
// shown nor logged. If the confirmation gets lost, the same one is set again.
func (p *provisioner) readPassword(server string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	password, err := p.client.askPassword(ctx, server)
	if err != nil {
		p.complain("ask for password", err)
		return
	}
	if password != "" {
		if err := p.g.setRootPassword(password); err != nil {
			p.g.say.Printf("wisp-guest %v", err)
			return
		}
		p.g.facts.setPassword()
		if err := p.client.confirmPassword(ctx, server); err != nil {
			p.g.say.Printf("wisp-guest confirm password: %v", err)
			return
		}
	}
	p.password = true
}

// sayReady prints the line that tests and people wait for, once the machine is
// complete and one round of metadata and password was made.
func (p *provisioner) sayReady(ip string) {
	if p.ready || !p.g.facts.complete() {
		return
	}
	p.ready = true
	close(p.readied)
	s := p.g.facts.snapshot()
	source := s.Metadata.Source
	if source == "" {
		source = "none"
	}
	p.g.say.Printf("wisp-guest ready name=%s ip=%s metadata=%s seconds=%.1f", s.Name, ip, source, monotonic().Seconds())
}
