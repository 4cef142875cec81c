package cloud_test

import (
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

func TestControlState(t *testing.T) {
	for _, x := range []struct {
		status cloud.HostStatus
		state  cloud.ResourceState
		want   string
	}{
		{cloud.HostUp, cloud.HostEnabled, "Enabled"},
		{cloud.HostConnecting, cloud.HostEnabled, "Enabled"},
		{cloud.HostUp, cloud.HostDisabled, "Disabled"},
		{cloud.HostUp, cloud.HostDegraded, "Disabled"},
		{cloud.HostUp, cloud.HostPrepareForMaintenance, "Maintenance"},
		{cloud.HostUp, cloud.HostErrorInMaintenance, "Maintenance"},
		{cloud.HostUp, cloud.HostMaintenance, "Maintenance"},
		{cloud.HostDisconnected, cloud.HostEnabled, "Offline"},
		{cloud.HostAlert, cloud.HostEnabled, "Offline"},
		{cloud.HostDown, cloud.HostMaintenance, "Offline"},
	} {
		h := &cloud.Host{Status: x.status, ResourceState: x.state}
		if got := h.ControlState(); got != x.want {
			t.Errorf("a host that is %s and %s: %s, want %s", x.status, x.state, got, x.want)
		}
	}
}
