package hostlink

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/wispcloud/wisp/proto/hostlink"
	"github.com/wispcloud/wisp/proto/hostspec"
	"github.com/wispcloud/wisp/proto/peerlink"
)

// TestInbox walks through the orders in which news of two links of one host can meet.
func TestInbox(t *testing.T) {
	hello := func(link string) *peerlink.HostReport {
		return &peerlink.HostReport{HostId: "h", Link: link, Hello: &hostlink.Hello{AgentVersion: link}}
	}
	seen := func(link, boot string) *peerlink.HostReport {
		return &peerlink.HostReport{HostId: "h", Link: link, Observation: &hostspec.HostObservation{BootId: boot}}
	}
	closed := func(link string) *peerlink.HostReport {
		return &peerlink.HostReport{HostId: "h", Link: link, Closed: true}
	}
	both := hello("n/2")
	both.Observation = seen("n/2", "b").Observation
	newest := seen("n/2", "b")
	ended := seen("n/2", "b")
	ended.Closed = true
	for name, c := range map[string]struct {
		put  []*peerlink.HostReport
		back []*peerlink.HostReport // that could not be delivered
		want *peerlink.HostReport
	}{
		"opened and seen":                       {[]*peerlink.HostReport{hello("n/2"), seen("n/2", "a"), seen("n/2", "b")}, nil, both},
		"the newest counts":                     {[]*peerlink.HostReport{seen("n/2", "a"), seen("n/2", "b")}, nil, newest},
		"seen and ended":                        {[]*peerlink.HostReport{seen("n/2", "b"), closed("n/2")}, nil, ended},
		"a newer link replaces":                 {[]*peerlink.HostReport{seen("n/1", "a"), hello("n/2"), seen("n/2", "b")}, nil, both},
		"the older ends after the newer opened": {[]*peerlink.HostReport{hello("n/2"), closed("n/1"), seen("n/2", "b")}, nil, both},
		"the older ends after the newer's opening was delivered": {[]*peerlink.HostReport{closed("n/1"), seen("n/2", "b")}, nil, newest},
		"the older speaks late":                                  {[]*peerlink.HostReport{seen("n/2", "b"), seen("n/1", "a")}, nil, newest},
		"not delivered":                                          {nil, []*peerlink.HostReport{both}, both},
		"not delivered, and newer came in":                       {[]*peerlink.HostReport{seen("n/2", "b")}, []*peerlink.HostReport{hello("n/2")}, both},
		"not delivered, and the older ended":                     {[]*peerlink.HostReport{closed("n/1")}, []*peerlink.HostReport{both}, both},
		"not delivered, and it was replaced":                     {[]*peerlink.HostReport{both}, []*peerlink.HostReport{closed("n/1")}, both},
	} {
		b := newInbox()
		for _, n := range c.put {
			b.put(n)
		}
		b.back(c.back)
		got := b.take(10)
		if diff := cmp.Diff([]*peerlink.HostReport{c.want}, got, protocmp.Transform()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
