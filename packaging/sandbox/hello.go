package sandbox

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/wispcloud/wisp/packaging/api"
)

// Names in the declaration that the VM hello is made of.
const (
	helloName     = "hello"
	helloNetwork  = "hello-net"
	helloOffering = "tiny"
	helloTemplate = "tiny"
	// helloPort of the public address leads to the guest's page.
	helloPort = "80"
	// helloSSH leads to its ssh server.
	helloSSH = "22"
)

// helloUserData is shown on the guest's page, so it came all the way.
const helloUserData = "hello from Wisp's metadata service\n"

// hello is the VM as the API has it.
type hello struct {
	id      string
	state   string
	host    string
	address string
}

func (h hello) url() string { return "http://" + h.address + "/" }

// named finds the one row of a list that has the name.
func (s *Sandbox) named(ctx context.Context, command, key, name string, params api.Params) (row, error) {
	all := api.Params{"name": name}
	for k, v := range params {
		all[k] = v
	}
	rows, err := api.List[row](ctx, s.api, command, key, all)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		if r.text("name") == name {
			return r, nil
		}
	}
	return nil, nil
}

// row is an object of the API.
type row map[string]any

func (r row) text(field string) string {
	if v, ok := r[field]; ok && v != nil {
		return fmt.Sprint(v)
	}
	return ""
}

// deployHello makes the VM and what leads to it; what is there stays.
func (s *Sandbox) deployHello(ctx context.Context) error {
	s.steps.lookAt(s.coordinatorLog()+" and "+s.lab.Host(1).LogDir()+"/agent.log", func() string { return s.lab.Host(1).Log("agent", 5) })
	vm, err := s.named(ctx, "listVirtualMachines", "virtualmachine", helloName, nil)
	if err != nil {
		return err
	}
	if vm == nil {
		s.changed = true
		if vm, err = s.createHello(ctx); err != nil {
			return err
		}
	}
	network, err := s.named(ctx, "listNetworks", "network", helloNetwork, nil)
	if err != nil {
		return err
	}
	address, err := s.publicAddress(ctx, network.text("id"))
	if err != nil {
		return err
	}
	for _, port := range []string{helloPort, helloSSH} {
		if err := s.forward(ctx, address, vm.text("id"), port); err != nil {
			return err
		}
	}
	s.hello = hello{id: vm.text("id"), state: vm.text("state"), host: vm.text("hostname"), address: address.text("ipaddress")}
	s.steps.say("%s on %s, port %s of %s leads to it", s.hello.state, s.hello.host, helloPort, s.hello.address)
	return nil
}

func (s *Sandbox) createHello(ctx context.Context) (row, error) {
	zone, err := s.named(ctx, "listZones", "zone", "sandbox", nil)
	if err != nil {
		return nil, err
	}
	offering, err := s.named(ctx, "listServiceOfferings", "serviceoffering", helloOffering, nil)
	if err != nil {
		return nil, err
	}
	template, err := s.named(ctx, "listTemplates", "template", helloTemplate, api.Params{"templatefilter": "all"})
	if err != nil {
		return nil, err
	}
	network, err := s.named(ctx, "listNetworks", "network", helloNetwork, nil)
	if err != nil {
		return nil, err
	}
	for name, r := range map[string]row{"zone": zone, "service offering": offering, "template": template, "network": network} {
		if r == nil {
			return nil, fmt.Errorf("deploy %s: the cloud has no %s of the declaration's name", helloName, name)
		}
	}
	if err := s.registerKey(ctx); err != nil {
		return nil, err
	}
	var result struct {
		VM row `json:"virtualmachine"`
	}
	err = s.api.Do(ctx, "deployVirtualMachine", api.Params{
		"name": helloName, "displayname": helloName, "zoneid": zone.text("id"), "serviceofferingid": offering.text("id"),
		"templateid": template.text("id"), "networkids": network.text("id"), "userdata": encode(helloUserData),
		"keypair": keyPairName,
	}, &result)
	return result.VM, err
}

// publicAddress is the network's first one beside the source NAT address, made
// if there is none.
func (s *Sandbox) publicAddress(ctx context.Context, network string) (row, error) {
	addresses, err := api.List[row](ctx, s.api, "listPublicIpAddresses", "publicipaddress", api.Params{"associatednetworkid": network})
	if err != nil {
		return nil, err
	}
	for _, a := range addresses {
		if a.text("issourcenat") != "true" {
			return a, nil
		}
	}
	var result struct {
		Address row `json:"ipaddress"`
	}
	if err := s.api.Do(ctx, "associateIpAddress", api.Params{"networkid": network}, &result); err != nil {
		return nil, err
	}
	return result.Address, nil
}

// forward opens a port of the address and leads it to the VM.
func (s *Sandbox) forward(ctx context.Context, address row, vm, port string) error {
	id := api.Params{"ipaddressid": address.text("id")}
	forwards, err := api.List[row](ctx, s.api, "listPortForwardingRules", "portforwardingrule", id)
	if err != nil {
		return err
	}
	if !anyPort(forwards, "publicport", port) {
		s.changed = true
		err := s.api.Do(ctx, "createPortForwardingRule", api.Params{
			"ipaddressid": address.text("id"), "virtualmachineid": vm, "protocol": "tcp",
			"publicport": port, "privateport": port, "openfirewall": "false", // Opened below, where a second run looks for it.
		}, nil)
		if err != nil {
			return err
		}
	}
	rules, err := api.List[row](ctx, s.api, "listFirewallRules", "firewallrule", id)
	if err != nil {
		return err
	}
	if anyPort(rules, "startport", port) {
		return nil
	}
	return s.api.Do(ctx, "createFirewallRule", api.Params{
		"ipaddressid": address.text("id"), "protocol": "tcp", "startport": port, "endport": port, "cidrlist": "0.0.0.0/0",
	}, nil)
}

func anyPort(rules []row, field, port string) bool {
	for _, r := range rules {
		if r.text(field) == port {
			return true
		}
	}
	return false
}

// awaitGuest asks for the guest's page from this machine until it comes, and
// checks that the guest read its user data.
func (s *Sandbox) awaitGuest(ctx context.Context) error {
	h := s.lab.Host(1)
	s.steps.lookAt(h.LogDir()+"/agent.log and "+h.Dir()+"/var-log-libvirt", func() string { return h.Log("agent", 5) })
	// An emulated guest boots in 4 s on an idle machine, and not every one is.
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		page, err := fetch(ctx, s.hello.url())
		if err == nil && !strings.Contains(html.UnescapeString(page), strings.TrimSpace(helloUserData)) {
			err = errors.New("its page does not show the user data")
		}
		if err == nil {
			break
		}
		if ctx.Err() == nil {
			last = err // Not that the time was up, but why it took so long.
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w (last: %w)", s.hello.url(), ctx.Err(), last)
		case <-tick.C:
		}
	}
	s.env[envHello] = s.hello.url()
	s.steps.say("%s", s.hello.url())
	return writeEnv(s.envPath(), s.env)
}

func fetch(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	// No proxy of the environment: the address is on this machine.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("HTTP status %s", resp.Status)
	}
	return string(text), nil
}
