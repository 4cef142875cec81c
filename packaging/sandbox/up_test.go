package sandbox

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wispcloud/wisp/packaging/api"
	"github.com/wispcloud/wisp/packaging/lab"
	"github.com/wispcloud/wisp/packaging/process"
)

// upDir makes the test binary run Up of the test's sandbox in the directory.
const upDir = "WISP_SANDBOX_TEST_DIR"

func TestMain(m *testing.M) {
	lab.Main()
	if dir := os.Getenv(upDir); dir != "" {
		if err := Up(context.Background(), testConfig(dir, os.Stdout)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// testConfig is for a sandbox beside the one that a developer may have.
func testConfig(dir string, out io.Writer) Config {
	cache, err := os.UserCacheDir()
	if err != nil {
		panic(err)
	}
	return Config{
		Dir: dir, Bin: filepath.Join(cache, "wisp-sandbox-test"), Declaration: "cloud.yaml", Out: out,
		Name: "tsbx", Mgmt: netip.MustParsePrefix("198.18.230.0/24"), Public: netip.MustParsePrefix("198.18.231.0/24"),
		PortOffset: 11000,
	}
}

// setUp builds the programs, and removes the sandbox when the test ends.
func setUp(t *testing.T) Config {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes namespaces and bridges")
	}
	cfg := testConfig(filepath.Join(t.TempDir(), "s"), io.Discard)
	build := exec.CommandContext(t.Context(), "make", "-C", "../..", "build", "BIN="+cfg.Bin)
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, text)
	}
	// Of a test that was killed, in another directory.
	if err := lab.Cleanup(t.Context(), cfg.Name); err != nil {
		t.Fatal(err)
	}
	killStray(t)
	t.Cleanup(func() {
		if err := Down(context.WithoutCancel(t.Context()), cfg); err != nil {
			t.Error(err)
		}
	})
	return cfg
}

// killStray ends coordinators of tests that were killed.
func killStray(t *testing.T) {
	t.Helper()
	err := process.KillAll(t.Context(), func(pid int) bool {
		args := process.Args(pid)
		return len(args) > 0 && filepath.Base(args[0]) == "wisp-coordinator" &&
			(strings.Contains(args[0], "/TestSandbox") || strings.Contains(args[0], "/TestKilledRun"))
	})
	if err != nil {
		t.Fatal(err)
	}
}

func up(t *testing.T, cfg Config) string {
	t.Helper()
	var out bytes.Buffer
	cfg.Out = &out
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := Up(ctx, cfg); err != nil {
		t.Fatalf("%s%v", out.String(), err)
	}
	t.Logf("\n%s", out.String())
	return out.String()
}

// helloVM is the VM as the API has it.
func helloVM(t *testing.T, cfg Config) (vm row, env map[string]string) {
	t.Helper()
	env, err := readEnv(filepath.Join(cfg.Dir, "env"))
	if err != nil {
		t.Fatal(err)
	}
	client := &api.Client{Endpoint: env[envEndpoint], Key: env[envKey], Secret: env[envSecret]}
	vms, err := api.List[row](t.Context(), client, "listVirtualMachines", "virtualmachine", api.Params{"name": helloName})
	if err != nil || len(vms) != 1 {
		t.Fatalf("VMs of the name: %v, %v", vms, err)
	}
	return vms[0], env
}

// checkGone lists what the machine has of a sandbox that was removed.
func checkGone(t *testing.T, cfg Config) {
	t.Helper()
	var left []string
	found, err := process.Find(func(pid int) bool {
		return strings.Contains(strings.Join(process.Args(pid), " "), cfg.Dir)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range found {
		left = append(left, fmt.Sprintf("process %d %q", p.PID, process.Args(p.PID)))
		p.Close()
	}
	if _, err := os.Stat(cfg.Dir); !errors.Is(err, os.ErrNotExist) {
		left = append(left, "directory "+cfg.Dir)
	}
	for _, args := range [][]string{{"-o", "link"}, {"rule"}, {"route", "show", "table", "all"}} {
		text, err := exec.CommandContext(t.Context(), "ip", args...).Output()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, cfg.Name+"-") || strings.Contains(line, "198.18.23") {
				left = append(left, strings.TrimSpace(line))
			}
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), cfg.Dir) {
		left = append(left, "mounts")
	}
	if len(left) > 0 {
		t.Errorf("left of the sandbox:\n%s", strings.Join(left, "\n"))
	}
}

// TestSandbox walks a sandbox through its life.
func TestSandbox(t *testing.T) {
	cfg := setUp(t)
	up(t, cfg)
	first, env := helloVM(t, cfg)
	if first.text("state") != "Running" {
		t.Errorf("hello is %s", first.text("state"))
	}
	if page, err := fetch(t.Context(), env[envHello]); err != nil || !strings.Contains(page, "<title>hello</title>") {
		t.Errorf("page of the guest: %v %.200q", err, page)
	}
	if info, err := os.Stat(filepath.Join(cfg.Dir, "env")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of env: %v %v", info, err)
	}
	for _, name := range []string{envEndpoint, envKey, envSecret, envPassword, envHello} {
		if env[name] == "" {
			t.Errorf("env holds no %s", name)
		}
	}
	checkLogin(t, cfg, first, env[envHello])
	client := &api.Client{Endpoint: env[envEndpoint]}
	if _, err := client.Login(t.Context(), "admin", env[envPassword]); err != nil {
		t.Errorf("log in with the password: %v", err)
	}

	if out := up(t, cfg); !strings.Contains(out, "nothing was changed") || !strings.Contains(out, " 0 changed,") {
		t.Error("a second run changed something")
	}
	again, _ := helloVM(t, cfg)
	if first.text("id") != again.text("id") || again.text("state") != "Running" {
		t.Errorf("after a second run: %v", again)
	}

	// Both gone: the run makes them again and keeps the VM.
	if err := process.KillAll(t.Context(), process.HasArgs(cfg.CoordinatorArgs()...)); err != nil {
		t.Fatal(err)
	}
	l, err := lab.Open(cfg.Name)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Host(1).PowerOff(t.Context()); err != nil {
		t.Fatal(err)
	}
	up(t, cfg)
	again, env = helloVM(t, cfg)
	if first.text("id") != again.text("id") {
		t.Errorf("after a power cut the VM is another: %v", again)
	}
	page, err := fetch(t.Context(), env[envHello])
	if boots := regexp.MustCompile(`boots<td>(\d+)`).FindStringSubmatch(page); err != nil || len(boots) != 2 || boots[1] != "2" {
		t.Errorf("the guest did not boot a second time: %v %q", err, boots)
	}

	other := cfg
	other.Hosts = 2
	if err := Up(t.Context(), other); err == nil || !strings.Contains(err.Error(), "has 1 hosts, not 2") {
		t.Errorf("another number of hosts: %v", err)
	}
	for range 2 { // The second time there is nothing to remove.
		if err := Down(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		checkGone(t, cfg)
	}
}

// checkLogin runs a program in the guest by ssh with the sandbox's key.
func checkLogin(t *testing.T, cfg Config, vm row, page string) {
	t.Helper()
	address := strings.Trim(strings.TrimPrefix(page, "http://"), "/")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := poll(ctx, "ssh to the guest", func() error {
		text, err := exec.CommandContext(ctx, "ssh", "-i", filepath.Join(cfg.Dir, "ssh-key"), "-o", "BatchMode=yes",
			"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "root@"+address, "hostname").CombinedOutput()
		if err != nil || strings.TrimSpace(string(text)) != vm.text("name") {
			return fmt.Errorf("%w: %q", err, text)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestKilledRun kills a run after each of its steps. Down removes what there
// is, and a new run goes on.
func TestKilledRun(t *testing.T) {
	cfg := setUp(t)
	for _, step := range []string{"network", "coordinator", "hosts", "cloud", "VM hello"} {
		t.Run(step, func(t *testing.T) {
			killAfter(t, cfg, step)
			if step == "cloud" {
				up(t, cfg)
			}
			if err := Down(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			checkGone(t, cfg)
		})
	}
}

// killAfter runs Up in another process and kills it when the step is done.
func killAfter(t *testing.T, cfg Config, step string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), upDir+"="+cfg.Dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var failure bytes.Buffer
	cmd.Stderr = &failure
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	seen := false
	for lines := bufio.NewScanner(out); !seen && lines.Scan(); {
		seen = strings.HasPrefix(lines.Text(), step+" ")
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
	if !seen {
		t.Fatalf("the run ended before step %q: %s", step, failure.String())
	}
}
