package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/wispcloud/wisp/packaging/api"
)

// testRouterFails flushes the router's firewall where the packet filter's program is taken away: the router still runs, its
// firewall cannot be mended, and the API says so until the program is back.
func (w *real) testRouterFails(t *testing.T) {
	h := w.routerHost(t)
	const program = "$(readlink -f $(command -v iptables-save))"
	await(t, 20*time.Second, "the router to be well", func(ctx context.Context) error { return w.checks(ctx, "SUCCESS", "false") })
	mustExec(t, h, "sh", "-c", "p="+program+"; cp $p /run/kept && mount --bind /bin/false $p && ip netns exec $(ls /run/netns) /run/kept iptables -F")
	broken := true
	defer func() {
		if broken {
			mustExec(t, h, "sh", "-c", "umount "+program)
		}
	}()
	began := time.Now()
	await(t, 20*time.Second, "the firewall to fail", func(ctx context.Context) error { return w.checks(ctx, "FAILED", "true") })
	t.Logf("a firewall that cannot be mended was told after %.1f s", time.Since(began).Seconds())
	mustExec(t, h, "sh", "-c", "umount "+program)
	broken = false
	await(t, 20*time.Second, "the router to be well again", func(ctx context.Context) error { return w.checks(ctx, "SUCCESS", "false") })
}

// checks compares how the router's firewall is with what the API says, in both of its ways.
func (w *real) checks(ctx context.Context, firewall, failed string) error {
	type check struct {
		Name    string `json:"checkname"`
		Status  string `json:"status"`
		Details string `json:"details"`
	}
	routers, err := api.List[struct {
		ID     string  `json:"id"`
		Checks []check `json:"healthcheckresults"`
	}](ctx, w.admin, "listRouters", "router", api.Params{"fetchhealthcheckresults": "true", "healthchecksfailed": failed})
	if err != nil || len(routers) != 1 {
		return fmt.Errorf("routers of which healthchecksfailed is %s: %v, %w", failed, routers, err)
	}
	var answer struct {
		Health struct {
			Checks []check `json:"healthchecks"`
		} `json:"routerhealthchecks"`
	}
	if err := w.admin.Call(ctx, "getRouterHealthCheckResults", api.Params{"routerid": routers[0].ID, "performfreshchecks": "true"}, &answer); err != nil {
		return err
	}
	for _, list := range [][]check{routers[0].Checks, answer.Health.Checks} {
		found := false
		for _, c := range list {
			found = found || c.Name == "firewall" && c.Status == firewall && (c.Details == "") == (firewall == "SUCCESS")
		}
		if !found {
			return fmt.Errorf("no firewall that is %s in %v", firewall, list)
		}
	}
	return nil
}
