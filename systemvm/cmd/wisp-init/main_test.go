package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestModprobeArgs(t *testing.T) {
	type result struct {
		names []string
		quiet bool
	}
	tests := []struct {
		name string
		args []string
		want result
	}{
		{"the kernel", []string{"-q", "--", "net-pf-16-proto-12"}, result{[]string{"net-pf-16-proto-12"}, true}},
		{"iptables", []string{"-q", "ip_tables"}, result{[]string{"ip_tables"}, true}},
		{"a person", []string{"wireguard", "debug=1"}, result{[]string{"wireguard"}, false}},
		{"joined options", []string{"-aq", "a", "b"}, result{[]string{"a", "b"}, true}},
		{"a name like an option", []string{"--quiet", "--", "-q"}, result{[]string{"-q"}, true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got result
			got.names, got.quiet = modprobeArgs(tt.args)
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(result{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSettings(t *testing.T) {
	kib, err := memTotal("MemFree: 1 kB\nMemTotal:        131072 kB\n")
	if kib != 131072 || err != nil {
		t.Fatalf("memory %d, %v", kib, err)
	}
	if _, err := memTotal("MemFree: 1 kB\n"); err == nil {
		t.Error("no total, no error")
	}
	got := map[string]string{}
	for _, s := range settings(kib) {
		got[s.path] = s.value
	}
	want := map[string]string{
		"/proc/sys/kernel/modprobe": "/sbin/modprobe", "/proc/sys/kernel/panic": "5", "/proc/sys/kernel/panic_on_oops": "1",
		"/proc/sys/kernel/ctrl-alt-del": "0", "/proc/sys/kernel/printk": "4 4 1 7",
		"/sys/module/nf_conntrack/parameters/hashsize": "8192", "/proc/sys/net/netfilter/nf_conntrack_max": "16384",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
