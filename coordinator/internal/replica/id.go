package replica

import (
	"crypto/rand"
	"encoding/binary"
	"sync"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// NewIDSource makes UUIDs of version 7 (RFC 9562, 5.7): they sort by the time of
// their making, which keeps rows made together close together, and carry 62
// random bits. They rise strictly, also when the clock stands still or goes back.
func NewIDSource(now func() time.Time) func() cloud.ID {
	var mu sync.Mutex
	var last uint64
	return func() cloud.ID {
		mu.Lock()
		defer mu.Unlock()
		// Milliseconds and, in the 12 bits behind, their fraction (method 3 of 6.2).
		t := now()
		stamp := uint64(t.UnixMilli())<<12 | uint64(t.Nanosecond()%1e6)*4096/1e6
		if stamp <= last {
			stamp = last + 1
		}
		last = stamp
		var id cloud.ID
		binary.BigEndian.PutUint64(id[:8], stamp>>12<<16|7<<12|stamp&0xfff)
		rand.Read(id[8:]) // never fails (crypto/rand)
		id[8] = id[8]&0x3f | 0x80
		return id
	}
}
