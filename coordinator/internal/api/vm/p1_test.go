package vm_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/api/vm"
)

func TestMain(m *testing.M) { apitest.Main(m) }

func body(t *testing.T, u string) []byte {
	t.Helper()
	res, err := http.Get(u)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatal(res.Status, err)
	}
	return b
}

// startNginx serves a directory with one process; it gives the address and that process's CPU. "" where there is no nginx.
func startNginx(t *testing.T, dir string) (base string, cpu func() time.Duration) {
	program, err := exec.LookPath("nginx")
	if err != nil {
		return "", nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	conf := "daemon off; master_process off; pid " + dir + "/pid; error_log stderr crit; events {}\n" +
		"http { access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; default_type application/json;\n"
	for _, name := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		conf += name + "_temp_path " + dir + "/" + name + ";\n"
	}
	conf += "server { listen " + addr + "; root " + dir + "; } }\n"
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-p", dir, "-c", filepath.Join(dir, "nginx.conf"))
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	deadline, tick := time.After(30*time.Second), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
			break
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("nginx does not answer: %s", &log)
		}
	}
	return "http://" + addr, func() time.Duration {
		// The first figure is nanoseconds on a CPU (Documentation/scheduler/sched-stats.rst).
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(string(b), " ")
		n, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return time.Duration(n)
	}
}

// TestPageBesideNginx prints the ratios of goal P1: the server's CPU for a signed page of 500 VMs, to that of nginx sending
// the same bytes from a file, and to that of a plain server that makes them with encoding/json, in turns, over loopback. The
// bounds are loose: machines are noisy. The figure of the goal is that of -vms 100000.
func TestPageBesideNginx(t *testing.T) {
	if testing.Short() || raced {
		t.Skip("a measurement")
	}
	n := 2000
	flag.Visit(func(f *flag.Flag) {
		if f.Name == "vms" {
			n = *vms
		}
	})
	w := newWorld(t)
	w.fill(n)
	u := w.Users["root"]
	v := url.Values{
		"command": {"listVirtualMachines"}, "response": {"json"}, "listall": {"true"}, "page": {strconv.Itoa(n / 1000)}, "pagesize": {"500"},
		"apiKey": {u.APIKey},
	}
	v.Set("signature", api.Sign(v, u.Secret))
	page := w.URL + "?" + v.Encode()
	want := body(t, page)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "page"), want, 0o600); err != nil {
		t.Fatal(err)
	}
	type answer struct {
		Response struct {
			Count int `json:"count"`
			VMs   []struct {
				vm.Answer
			} `json:"virtualmachine"`
		} `json:"listvirtualmachinesresponse"`
	}
	var rows answer
	if err := json.Unmarshal(want, &rows); err != nil || len(rows.Response.VMs) != 500 {
		t.Fatal(len(rows.Response.VMs), err)
	}
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		b, _ := json.Marshal(rows)
		_, _ = w.Write(b)
	}))
	defer plain.Close()
	// What this server answers is joined first.
	joined := httptest.NewServer(w.Server)
	defer joined.Close()
	base, nginxCPU := startNginx(t, dir)
	servers := []struct {
		name, url string
		cpu       func() time.Duration
		took      []time.Duration
	}{{"wisp", page, cpu, nil}, {"encoding/json", plain.URL, cpu, nil}, {"joined", joined.URL + "?" + v.Encode(), cpu, nil}, {"nginx", base + "/page", nginxCPU, nil}}
	if base == "" {
		servers = servers[:3]
	}
	client := apitest.NewPuller(t)
	rounds, each := 5, 40
	if n > 2000 {
		rounds, each = 9, 80
	}
	for round := range rounds + 1 {
		for i := range servers {
			s := &servers[i]
			runtime.GC() // each pays for its own
			before := s.cpu()
			client.Pull(each, s.url)
			if round > 0 { // the first one warms up
				s.took = append(s.took, s.cpu()-before)
			}
		}
	}
	for _, s := range servers {
		// encoding/json leaves no ids out, so it sends a little more: the same rows.
		got := body(t, s.url)
		if s.name == "encoding/json" {
			var again answer
			if err := json.Unmarshal(got, &again); err != nil || !reflect.DeepEqual(again, rows) {
				t.Errorf("%s sends other rows: %v", s.name, err)
			}
		} else if !bytes.Equal(got, want) {
			t.Errorf("%s sends %d other bytes than the %d of the page", s.name, len(got), len(want))
		}
	}
	us := func(i int) float64 {
		took := slices.Sorted(slices.Values(servers[i].took))
		return float64(took[len(took)/2].Nanoseconds()) / 1e3 / float64(each)
	}
	t.Logf("P1: page of 500 of %d VMs, %d bytes: %.0f us of CPU, joined before it is sent %.0f; encoding/json %.0f, ratio 1/%.1f", n, len(want), us(0),
		us(2), us(1), us(1)/us(0))
	if us(0) > us(1)/1.5 {
		t.Errorf("a page costs %.0f us of CPU, with encoding/json %.0f", us(0), us(1))
	}
	if base == "" {
		t.Log("nginx is not installed (Debian: nginx-light), so there is no ratio to it")
		return
	}
	t.Logf("P1: nginx %.0f us, ratio %.2f", us(3), us(0)/us(3))
	if us(0) > 6*us(3) {
		t.Errorf("a page costs %.1f times what nginx takes", us(0)/us(3))
	}
}
