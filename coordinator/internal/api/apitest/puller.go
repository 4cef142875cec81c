package apitest

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
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
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: PullersAtOnce}}
	for in.Scan() {
		number, u, _ := strings.Cut(in.Text(), " ")
		n, _ := strconv.Atoi(number)
		var all sync.WaitGroup
		for range PullersAtOnce {
			all.Go(func() {
				for range n / PullersAtOnce {
					if err := get(client, u); err != nil {
						_, _ = fmt.Fprintln(os.Stdout, "failed:", err)
						os.Exit(1)
					}
				}
			})
		}
		all.Wait()
		_, _ = fmt.Fprintln(os.Stdout, "done")
	}
}

func get(c *http.Client, u string) error {
	res, err := c.Get(u)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", res.Status)
	}
	_, err = io.Copy(io.Discard, res.Body)
	return err
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
func (p *Puller) Pull(n int, u string) {
	p.t.Helper()
	_, _ = fmt.Fprintln(p.in, n, u)
	if line, err := p.out.ReadString('\n'); line != "done\n" {
		p.t.Fatal(u, line, err)
	}
}
