package netrun

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wispcloud/wisp/proto/netspec"
	"github.com/wispcloud/wisp/proto/netspec/specio"
)

// serviceMode names the file that tells a simulated wisp-netsvc how to behave.
const serviceMode = "WISP_NETRUN_TEST_MODE"

func TestMain(m *testing.M) {
	if file := os.Getenv(serviceMode); file != "" {
		if err := simulate(file); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// simulate is a wisp-netsvc that applies everything at once, or misbehaves as the file says.
func simulate(file string) error {
	flags := flag.NewFlagSet("netsvc", flag.ContinueOnError)
	source := flags.String("spec-source", "", "")
	showVersion := flags.Bool("version", false, "")
	if err := flags.Parse(os.Args[1:]); err != nil {
		return err
	}
	mode := func() string {
		data, err := os.ReadFile(file)
		if err != nil {
			return "dies"
		}
		return string(data)
	}
	if *showVersion {
		// What stands on the disk says v1 unless a test has put another one there.
		if version, err := os.ReadFile(file + ".version"); err == nil {
			fmt.Println(string(version))
			return nil
		}
		fmt.Println("v1")
		return nil
	}
	if mode() == "dies" {
		return errors.New("told to die")
	}
	listener, err := net.Listen("unix", strings.TrimPrefix(*source, "unix:"))
	if err != nil {
		return err
	}
	version := mode()
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		r, w := specio.NewReader(conn), specio.NewWriter(conn)
		var held uint64
		for {
			in := &netspec.ToService{}
			if err := r.Read(in); err != nil {
				break
			}
			if in.GetShutdown() != nil {
				return nil
			}
			if a := in.GetApply(); a != nil {
				if a.GetGeneration() < held {
					reason := &netspec.Refusal{Generation: a.GetGeneration(), Reason: "older"}
					_ = w.Write(&netspec.FromService{Message: &netspec.FromService_Refusal{Refusal: reason}})
					continue
				}
				held = a.GetGeneration()
			}
			if mode() == "silent" {
				continue
			}
			o := &netspec.Observation{AppliedGeneration: held, TriedGeneration: held, Version: version}
			_ = w.Write(&netspec.FromService{Message: &netspec.FromService_Observation{Observation: o}})
		}
	}
}

type bench struct {
	t         *testing.T
	runner    *Runner
	config    Config
	mode      string
	namespace string
}

const network = "00000000-0000-4000-8000-000000000001"

func newBench(t *testing.T) *bench {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: enters network namespaces")
	}
	dir := t.TempDir()
	b := &bench{t: t, mode: filepath.Join(dir, "mode"), namespace: fmt.Sprintf("/proc/%d/ns/net", os.Getpid())}
	b.behave("v1")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "netsvc")
	script := fmt.Sprintf("#!/bin/sh\nGORACE=atexit_sleep_ms=0 %s=%s exec %s \"$@\"\n", serviceMode, b.mode, self)
	if err := os.WriteFile(binary, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	b.config = Config{
		Binary: binary, RunDir: filepath.Join(dir, "run"), LogDir: filepath.Join(dir, "log"), Changed: func() {},
		NamespacePath: func(string) string { return b.namespace }, Log: slog.New(slog.DiscardHandler),
		Silence: time.Second, CheckEvery: 100 * time.Millisecond,
	}
	b.restart()
	t.Cleanup(func() {
		b.runner.Close()
		// Whatever a failed test left.
		records, err := filepath.Glob(filepath.Join(b.config.RunDir, "*.pid"))
		if err != nil {
			t.Error(err)
		}
		for _, r := range records {
			if err := killRecorded(r); err != nil {
				t.Error(err)
			}
		}
	})
	return b
}

// restart is a new agent.
func (b *bench) restart() {
	b.t.Helper()
	if b.runner != nil {
		b.runner.Close()
	}
	var err error
	if b.runner, err = New(b.config); err != nil {
		b.t.Fatal(err)
	}
}

// behave changes how services behave, those that run too.
func (b *bench) behave(mode string) {
	b.t.Helper()
	if err := os.WriteFile(b.mode+".new", []byte(mode), 0o600); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Rename(b.mode+".new", b.mode); err != nil {
		b.t.Fatal(err)
	}
}

// upgrade puts another binary on the disk, under a running agent.
func (b *bench) upgrade(version string) {
	b.t.Helper()
	b.behave(version)
	if err := os.WriteFile(b.mode+".version", []byte(version), 0o600); err != nil {
		b.t.Fatal(err)
	}
	script, err := os.ReadFile(b.config.Binary)
	if err == nil {
		err = os.WriteFile(b.config.Binary+".new", append(script, "# "+version+"\n"...), 0o700)
	}
	if err == nil {
		err = os.Rename(b.config.Binary+".new", b.config.Binary)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) want(generation uint64) {
	b.runner.Apply(map[string]*netspec.NetSpec{network: {NetworkId: network, Generation: generation}}, nil)
}

// await waits for a status and returns it.
func (b *bench) await(what string, ok func(Status) bool) Status {
	b.t.Helper()
	var s Status
	poll(b.t, what, func() (bool, any) {
		s = b.runner.Status(network)
		return ok(s), s
	})
	return s
}

// poll waits until ok says so; what ok saw last is told when it never does.
func poll(t *testing.T, what string, ok func() (bool, any)) {
	t.Helper()
	deadline, tick := time.After(10*time.Second), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for {
		done, saw := ok()
		if done {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s: saw last %+v", what, saw)
		case <-tick.C:
		}
	}
}

func (b *bench) applied(generation uint64) Status {
	b.t.Helper()
	return b.await(fmt.Sprintf("generation %d", generation), func(s Status) bool {
		return s.Applied && s.Answering && s.Observation.GetAppliedGeneration() == generation
	})
}

func alive(pid int) bool {
	_, err := startTime(pid)
	return err == nil
}

func TestServes(t *testing.T) {
	b := newBench(t)
	b.want(1)
	first := b.applied(1)
	b.want(2)
	if got := b.applied(2); got.PID != first.PID || got.Restarts != 0 {
		t.Errorf("a new spec made process %d out of %d, %d restarts", got.PID, first.PID, got.Restarts)
	}
	// The process is nobody's child for long and in a session of its own.
	if session, err := syscall.Getpgid(first.PID); err != nil || session != first.PID {
		t.Errorf("process group %d, %v; want its own", session, err)
	}
}

func TestAdopts(t *testing.T) {
	b := newBench(t)
	b.want(1)
	first := b.applied(1)
	b.restart()
	b.want(1)
	if got := b.applied(1); got.PID != first.PID {
		t.Errorf("process %d, want the old one %d", got.PID, first.PID)
	}
}

func TestReplaces(t *testing.T) {
	tests := []struct {
		name string
		harm func(b *bench, pid int)
	}{
		{"killed", func(b *bench, pid int) { _ = syscall.Kill(pid, syscall.SIGKILL) }},
		{"stopped", func(b *bench, pid int) { _ = syscall.Kill(pid, syscall.SIGSTOP) }},
		{"silent", func(b *bench, _ int) {
			b.behave("silent")
			time.AfterFunc(1500*time.Millisecond, func() { b.behave("v1") })
		}},
		{"socket deleted", func(b *bench, pid int) {
			_ = os.Remove(filepath.Join(b.config.RunDir, network+".sock"))
			b.restart()
			b.want(1)
		}},
		{"another version", func(b *bench, _ int) {
			b.upgrade("v2")
		}},
		{"refuses", func(b *bench, _ int) {
			b.want(9)
			b.applied(9)
			b.want(1)
		}},
		{"a restart is asked for", func(b *bench, _ int) {
			b.runner.Apply(map[string]*netspec.NetSpec{network: {NetworkId: network, Generation: 2, Restarts: 1}}, nil)
		}},
		{"another namespace", func(b *bench, _ int) {
			cmd := exec.Command("unshare", "--net", "sleep", "60")
			if err := cmd.Start(); err != nil {
				b.t.Fatal(err)
			}
			b.t.Cleanup(func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			})
			path := fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)
			mine, err := os.Stat(b.namespace)
			if err != nil {
				b.t.Fatal(err)
			}
			// unshare is in its own namespace a moment after it was started.
			poll(b.t, "new namespace", func() (bool, any) {
				theirs, err := os.Stat(path)
				return err == nil && !os.SameFile(mine, theirs), err
			})
			b.runner.Close()
			b.namespace = path
			b.restart()
			b.want(1)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			b.want(1)
			first := b.applied(1)
			begin := time.Now()
			tt.harm(b, first.PID)
			got := b.await("another process", func(s Status) bool { return s.Applied && s.PID != 0 && s.PID != first.PID })
			t.Logf("served again after %.2f s", time.Since(begin).Seconds())
			if alive(first.PID) {
				t.Errorf("the old process %d is there beside %d", first.PID, got.PID)
			}
		})
	}
}

func TestRemoves(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		t.Run(fmt.Sprintf("restarted %t", restarted), func(t *testing.T) {
			b := newBench(t)
			b.want(1)
			pid := b.applied(1).PID
			if restarted {
				b.restart()
			}
			poll(t, "removal", func() (bool, any) {
				b.runner.Apply(nil, nil)
				return len(b.runner.Present()) == 0, b.runner.Status(network)
			})
			if alive(pid) {
				t.Error("the process is there")
			}
			left, err := os.ReadDir(b.config.RunDir)
			if err != nil || len(left) != 0 {
				t.Errorf("left over: %v, %v", left, err)
			}
		})
	}
}

func TestKept(t *testing.T) {
	b := newBench(t)
	b.want(1)
	pid := b.applied(1).PID
	b.runner.Apply(nil, map[string]bool{network: true})
	b.restart()
	b.runner.Apply(nil, map[string]bool{network: true})
	b.await("adopted", func(s Status) bool { return s.PID == pid })
}

// TestBrokenBinary: the reason is told, and it heals by itself.
func TestBrokenBinary(t *testing.T) {
	b := newBench(t)
	b.behave("dies")
	b.want(1)
	b.await("the reason", func(s Status) bool { return s.Err != nil && strings.Contains(s.Err.Error(), "ended at once") })
	b.behave("v1")
	b.applied(1)
}

// TestWaitsForNamespace: without a namespace nothing is started, and nothing is reported as broken for long.
func TestWaitsForNamespace(t *testing.T) {
	b := newBench(t)
	path := b.namespace
	b.runner.Close()
	b.namespace = filepath.Join(t.TempDir(), "none")
	b.restart()
	b.want(1)
	b.await("waiting", func(s Status) bool { return errors.Is(s.Err, errNoNamespace) })
	if err := os.Symlink(path, b.namespace); err != nil {
		t.Fatal(err)
	}
	b.applied(1)
}

// TestStaleRecord: a process id that belongs to somebody else by now is not killed.
func TestStaleRecord(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	record := filepath.Join(t.TempDir(), "x.pid")
	if err := os.WriteFile(record, fmt.Appendf(nil, "%d 1\n", cmd.Process.Pid), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := killRecorded(record); err != nil {
		t.Fatal(err)
	}
	if !alive(cmd.Process.Pid) {
		t.Error("a process of somebody else was killed")
	}
	if _, err := os.Stat(record); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the record is still there: %v", err)
	}
}
