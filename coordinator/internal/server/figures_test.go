package server

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	diff "github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/api/management"
)

// What the kernel tells is read as it is meant, whatever the program is called.
func TestReadMachine(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"loadavg":              "0.50 1.25 2.00 3/700 1234\n",
		"stat":                 "cpu  100 20 30 4000 5 6 7 8 0 0\ncpu0 1 2 3 4\nintr 5\nbtime 1700000000\n",
		"meminfo":              "MemTotal:       16000 kB\nMemFree:         1000 kB\nMemAvailable:    8000 kB\n",
		"sys/kernel/osrelease": "6.1.0-test\n",
		"self/status":          "Name:\twisp\nVmSize:\t  2000 kB\nVmRSS:\t  300 kB\nThreads:\t9\n",
		"self/stat":            "77 (a ) b) S 1 77 77 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 12345 2048000 75 1 1\n",
		"release":              "NAME=\"Test\"\nPRETTY_NAME=\"Test Linux 1\"\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := &management.Figures{}
	readMachine(got, dir, filepath.Join(dir, "release"))
	booted := time.Unix(1700000000, 0)
	want := &management.Figures{
		Kernel: "6.1.0-test", OS: "Test Linux 1", Load: [3]float64{0.5, 1.25, 2}, Cycles: [3]int64{120, 30, 4000}, Booted: booted,
		Started: booted.Add(123450 * time.Millisecond), ProcessCPU: 3, Threads: 9, Resident: 300 << 10, Virtual: 2000 << 10, Memory: 16000 << 10, MemoryFree: 8000 << 10,
	}
	if d := diff.Diff(want, got); d != "" {
		t.Error(d)
	}
	readMachine(&management.Figures{}, filepath.Join(dir, "nowhere"), "nowhere") // and nothing of it is needed
}
