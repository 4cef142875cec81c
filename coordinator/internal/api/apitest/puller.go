package apitest

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// pulling, when set, makes this program the client of a Puller.
const pulling = "WISP_TEST_PULLER"

// PullersAtOnce is how many connections a Puller uses: with one, every server sleeps and is woken for each request.
const PullersAtOnce = 4

// Main is TestMain of packages that use a Puller.
func Main(m *testing.M) {
	if os.Getenv(pulling) == "" {
		os.Exit(m.Run())
	}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: PullersAtOnce, MaxConnsPerHost: PullersAtOnce}}
	for in.Scan() {
		var n, rate int
		var u string
		_, err := fmt.Sscan(in.Text(), &n, &rate, &u)
		if err != nil {
			fail(err)
		}
		var took []time.Duration
		if rate > 0 {
			took = paced(client, u, n, rate)
		} else {
			pull(client, u, n)
		}
		_, _ = fmt.Fprintln(os.Stdout, "done", took)
	}
}

func fail(err error) {
	_, _ = fmt.Fprintln(os.Stdout, "failed:", err)
	os.Exit(1)
}

// pull gets a page n times, each connection as fast as it can.
func pull(client *http.Client, u string, n int) {
	var all sync.WaitGroup
	for range PullersAtOnce {
		all.Go(func() {
			for range n / PullersAtOnce {
				get(client, u)
			}
		})
	}
	all.Wait()
}

// paced gets a page n times, rate times a second, whether those before are answered or not. It gives the median time to an
// answer from when it was due, and the 99th of a hundred.
func paced(client *http.Client, u string, n, rate int) []time.Duration {
	var all sync.WaitGroup
	took := make([]time.Duration, n)
	began := time.Now()
	for i := range n {
		due := began.Add(time.Duration(i) * time.Second / time.Duration(rate))
		time.Sleep(time.Until(due))
		all.Go(func() {
			get(client, u)
			took[i] = time.Since(due)
		})
	}
	all.Wait()
	slices.Sort(took)
	return []time.Duration{took[n/2], took[n*99/100]}
}

func get(c *http.Client, u string) {
	res, err := c.Get(u)
	if err != nil {
		fail(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		fail(fmt.Errorf("%s", res.Status))
	}
	if _, err = io.Copy(io.Discard, res.Body); err != nil {
		fail(err)
	}
}

// Puller makes another process get a page many times, so that the CPU of this one is a server's.
type Puller struct {
	t   testing.TB
	in  io.Writer
	out *bufio.Reader
}

// NewPuller starts the process, which ends with the test. The package needs Main.
func NewPuller(t testing.TB) *Puller {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), pulling+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = in.Close(), cmd.Wait() })
	return &Puller{t, in, bufio.NewReader(out)}
}

// Pull gets a page n times, and returns when it has all of them.
func (p *Puller) Pull(n int, u string) { p.order(n, 0, u) }

// Paced gets a page n times, so many times a second whether those before are answered or not. It gives the median time to an
// answer, and the 99th of a hundred, from when it was due.
func (p *Puller) Paced(n, rate int, u string) (p50, p99 time.Duration) {
	p.t.Helper()
	line := p.order(n, rate, u)
	times := strings.Fields(strings.Trim(line, "[]"))
	if len(times) == 2 {
		var err, err2 error
		p50, err = time.ParseDuration(times[0])
		p99, err2 = time.ParseDuration(times[1])
		if err == nil && err2 == nil {
			return p50, p99
		}
	}
	p.t.Fatalf("%s: %q", u, line)
	return 0, 0
}

func (p *Puller) order(n, rate int, u string) string {
	p.t.Helper()
	_, _ = fmt.Fprintln(p.in, n, rate, u)
	line, err := p.out.ReadString('\n')
	times, ok := strings.CutPrefix(strings.TrimSpace(line), "done ")
	if !ok {
		p.t.Fatal(u, line, err)
	}
	return times
}
