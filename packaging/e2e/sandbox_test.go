package e2e

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/wispcloud/wisp/packaging/api"
	"github.com/wispcloud/wisp/packaging/lab"
	"github.com/wispcloud/wisp/packaging/process"
	"github.com/wispcloud/wisp/packaging/sandbox"
)

// real is a sandbox of two hosts with real guests, beside any that a developer may have.
type real struct {
	cfg   sandbox.Config
	lab   *lab.Lab
	env   map[string]string
	admin *api.Client
	key   ssh.Signer
	ids   map[string]string // zone, template, network, and service offerings by name
	// coordinator is how its process is found.
	coordinator []string
}

// newReal makes the sandbox, and removes it when the test ends, however it ends. change may be nil.
func newReal(t *testing.T, change func(*sandbox.Config)) *real {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes namespaces, bridges and guests")
	}
	bin := filepath.Join(t.TempDir(), "bin")
	build := exec.CommandContext(t.Context(), "make", "-C", "../..", "build", "BIN="+bin)
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, text)
	}
	// Packages and images are those of the images' own tests.
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	w := &real{ids: map[string]string{}, cfg: sandbox.Config{
		Images: filepath.Join(cache, "wisp", "images"),
		Dir:    filepath.Join(t.TempDir(), "s"), Bin: bin, Declaration: "../sandbox/cloud.yaml", Hosts: 2, Out: t.Output(),
		Name: "te2e", Mgmt: netip.MustParsePrefix("198.18.220.0/24"), Public: netip.MustParsePrefix("198.18.221.0/24"), PortOffset: 12000,
	}}
	if change != nil {
		change(&w.cfg)
	}
	w.coordinator = w.cfg.CoordinatorArgs()
	if err := lab.Cleanup(t.Context(), w.cfg.Name); err != nil { // of a run that was killed
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			w.showLogs(t)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := sandbox.Down(ctx, w.cfg); err != nil {
			t.Error(err)
		}
	})
	if err := sandbox.Up(t.Context(), w.cfg); err != nil {
		t.Fatal(err)
	}
	if w.lab, err = lab.Open(w.cfg.Name); err != nil {
		t.Fatal(err)
	}
	w.env = readEnv(t, filepath.Join(w.cfg.Dir, "env"))
	w.admin = &api.Client{Endpoint: w.env["CLOUDSTACK_ENDPOINT"], Key: w.env["CLOUDSTACK_KEY"], Secret: w.env["CLOUDSTACK_SECRET"]}
	w.lookUp(t)
	return w
}

func (w *real) showLogs(t *testing.T) {
	t.Helper()
	if b, err := os.ReadFile(filepath.Join(w.cfg.Dir, "coordinator.log")); err == nil {
		lines := strings.Split(string(b), "\n")
		t.Logf("coordinator:\n%s", strings.Join(lines[max(0, len(lines)-25):], "\n"))
	}
	if w.lab != nil {
		for _, h := range w.lab.Hosts() {
			t.Logf("agent of %s:\n%s", h.Name(), h.Log("agent", 25))
		}
	}
}

func readEnv(t *testing.T, path string) map[string]string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	for line := range strings.Lines(string(b)) {
		name, value, ok := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "export ")), "=")
		if ok && !strings.HasPrefix(line, "#") {
			env[name] = strings.Trim(value, "'")
		}
	}
	return env
}

type named struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// lookUp finds the ids of what cloud.yaml declares, and registers an SSH key.
func (w *real) lookUp(t *testing.T) {
	t.Helper()
	for _, look := range []struct {
		command, object string
		more            api.Params
	}{
		{"listZones", "zone", nil},
		{"listTemplates", "template", api.Params{"templatefilter": "all"}},
		{"listServiceOfferings", "serviceoffering", nil},
		{"listNetworks", "network", nil},
		{"listHosts", "host", api.Params{"type": "Routing"}},
	} {
		rows, err := api.List[named](t.Context(), w.admin, look.command, look.object, look.more)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			w.ids[look.object+" "+r.Name] = r.ID
		}
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if w.key, err = ssh.NewSignerFromKey(private); err != nil {
		t.Fatal(err)
	}
	authorized, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	w.do(t, "registerSSHKeyPair", api.Params{"name": "e2e", "publickey": string(ssh.MarshalAuthorizedKey(authorized))}, nil)
}

// do runs a command and waits for its job.
func (w *real) do(t *testing.T, command string, params api.Params, result any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := w.admin.Do(ctx, command, params, result); err != nil {
		t.Fatal(err)
	}
}

// guest is a VM that is reached by ssh and HTTP through a public address.
type guest struct {
	w        *real
	id, name string
	public   string // address
	ip       string // in the network
}

// deploy makes a VM on a host, with the test's key, and opens ssh and HTTP to it.
func (w *real) deploy(t *testing.T, name, offering, host string) *guest {
	t.Helper()
	var made struct {
		VM vm `json:"virtualmachine"`
	}
	w.do(t, "deployVirtualMachine", api.Params{
		"name": name, "zoneid": w.ids["zone sandbox"], "templateid": w.ids["template tiny"], "networkids": w.ids["network hello-net"],
		"serviceofferingid": w.ids["serviceoffering "+offering], "hostid": w.ids["host "+host], "keypair": "e2e",
		"userdata": base64.StdEncoding.EncodeToString([]byte("user data of " + name)),
	}, &made)
	g := &guest{w: w, id: made.VM.ID, name: name, ip: made.VM.NICs[0].IP}
	if made.VM.Host != host {
		t.Errorf("%s was asked for on %s and runs on %s", name, host, made.VM.Host)
	}
	var ip struct {
		Address struct {
			ID string `json:"id"`
			IP string `json:"ipaddress"`
		} `json:"ipaddress"`
	}
	w.do(t, "associateIpAddress", api.Params{"networkid": w.ids["network hello-net"]}, &ip)
	g.public = ip.Address.IP
	for _, port := range []string{"22", "80"} {
		w.do(t, "createPortForwardingRule", api.Params{
			"ipaddressid": ip.Address.ID, "protocol": "tcp", "publicport": port, "privateport": port, "virtualmachineid": g.id,
		}, nil)
	}
	await(t, time.Minute, name+" to answer", g.answers)
	return g
}

// answers asks the guest's page through its public address.
func (g *guest) answers(ctx context.Context) error {
	page, err := fetch(ctx, "http://"+g.public+"/name")
	if err == nil && strings.TrimSpace(page) != g.name {
		err = fmt.Errorf("%s answers as %q", g.public, page)
	}
	return err
}

func fetch(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	// One connection per question: an old one may be of a guest that is gone.
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, resp.Status)
	}
	return string(b), err
}

// run runs a shell command in the guest.
func (g *guest) run(ctx context.Context, command string) (string, error) {
	client, err := g.login(ctx, 30*time.Second)
	if err != nil {
		return "", err
	}
	defer func() { _ = client.Close() }()
	session, err := client.NewSession()
	if err != nil {
		return "", err
	}
	out, err := session.CombinedOutput(command)
	if err != nil {
		err = fmt.Errorf("%s in %s: %w: %s", command, g.name, err, out)
	}
	return string(out), err
}

// login opens a connection of ssh that ends by itself after life.
func (g *guest) login(ctx context.Context, life time.Duration) (*ssh.Client, error) {
	d := net.Dialer{Timeout: 2 * time.Second}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(g.public, "22"))
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(life))
	c, channels, requests, err := ssh.NewClientConn(conn, g.public, &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(g.w.key)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), //nolint:gosec // a guest that this test has just made
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("ssh to %s: %w", g.name, err), conn.Close())
	}
	return ssh.NewClient(c, channels, requests), nil
}

// must is run that fails the test.
func (g *guest) must(t *testing.T, command string) string {
	t.Helper()
	out, err := g.run(t.Context(), command)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// state is the VM's as the API has it.
func (g *guest) state(ctx context.Context) (string, error) {
	vms, err := api.List[vm](ctx, g.w.admin, "listVirtualMachines", "virtualmachine", api.Params{"id": g.id})
	if err != nil || len(vms) != 1 {
		return "", fmt.Errorf("VMs of the id: %v, %w", vms, err)
	}
	return vms[0].State, nil
}

func (g *guest) awaitState(t *testing.T, d time.Duration, want string) {
	t.Helper()
	await(t, d, g.name+" to be "+want, func(ctx context.Context) error {
		got, err := g.state(ctx)
		if err == nil && got != want {
			err = fmt.Errorf("it is %s", got)
		}
		return err
	})
}

func (w *real) killCoordinator(t *testing.T) {
	t.Helper()
	if err := process.KillAll(t.Context(), process.HasArgs(w.coordinator...)); err != nil {
		t.Fatal(err)
	}
}

// startCoordinator starts it as the sandbox did.
func (w *real) startCoordinator(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(w.cfg.Dir, "coordinator.log"), os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(w.coordinator[0], w.coordinator[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = cmd.Wait() }()
	await(t, 20*time.Second, "the coordinator to serve", func(ctx context.Context) error {
		return w.admin.Call(ctx, "listZones", nil, nil)
	})
}
