package cmdline

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	tests := []struct {
		name, line string
		want       Parameters
	}{
		{"nothing", "", Parameters{}},
		{"as the agent writes it", "console=ttyS0 quiet panic=5 wisp.root=/dev/vda\n", Parameters{Root: "/dev/vda"}},
		{"everything", "wisp.root=/dev/vdb2 wisp.hostname=r-7-VM wisp.debug=1", Parameters{"/dev/vdb2", "r-7-VM", true}},
		{"the last counts", "wisp.debug=1 wisp.root=/dev/vda wisp.debug=0 wisp.root=", Parameters{}},
		{"debug needs its 1", "wisp.debug", Parameters{}},
		{"debug with another value", "wisp.debug=yes", Parameters{}},
		{"quotes", `dyndbg="file a.c +p; wisp.debug=1" wisp.hostname="r 7"`, Parameters{Hostname: "r 7"}},
		{"a newer agent's parameter", "wisp.future=1 wisp.root=/dev/vda", Parameters{Root: "/dev/vda"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Parse(tt.line)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
