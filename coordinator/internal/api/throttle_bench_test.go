package api_test

import (
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// BenchmarkThrottle is what counting adds to each call: the settings are read, and one lock is held.
func BenchmarkThrottle(b *testing.B) {
	c := apitest.New(b, apitest.Config{})
	throttle, now := api.NewThrottle(), c.Clock.Now()
	v := c.Settings.View(c.Read())
	for i := 0; b.Loop(); i++ {
		throttle.Count(cloud.ID{1, 14: byte(i >> 8), 15: byte(i)}, now, v)
	}
}
