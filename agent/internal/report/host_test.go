package report

import (
	"strings"
	"testing"
)

func TestMachine(t *testing.T) {
	m, err := ReadMachine()
	if err != nil {
		t.Fatal(err)
	}
	if m.Hostname == "" || m.Kernel == "" || m.CPUs == 0 || m.MemoryMiB == 0 {
		t.Errorf("%+v", m)
	}
	for range 2 {
		u, err := m.Usage()
		if err != nil {
			t.Fatal(err)
		}
		if u.GetCpuPercent() < 0 || u.GetCpuPercent() > 100 || u.GetMemoryUsedMib() > m.MemoryMiB {
			t.Errorf("%v", u)
		}
	}
}

// TestBootID: the same for as long as process 1 lives.
func TestBootID(t *testing.T) {
	first, err := BootID()
	if err != nil {
		t.Fatal(err)
	}
	second, err := BootID()
	if err != nil || first != second || strings.Count(first, "-") != 5 {
		t.Errorf("%q, then %q, %v", first, second, err)
	}
}
