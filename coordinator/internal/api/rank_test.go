package api_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/address"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/api/event"
	"github.com/wispcloud/wisp/coordinator/internal/api/network"
	"github.com/wispcloud/wisp/coordinator/internal/api/volume"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

var listed = flag.Int("rows", 100_000, "rows that the lists of the benchmark are taken from")

// lists are the commands that take pages from an index, each with a filter that every row passes and that is not taken
// from an index.
var lists = []struct{ command, object, filter, value string }{
	{"listVolumes", "volume", "zoneid", cloud.NameID("zone", "z").String()},
	{"listNetworks", "network", "zoneid", cloud.NameID("zone", "z").String()},
	{"listPublicIpAddresses", "publicipaddress", "zoneid", cloud.NameID("zone", "z").String()},
	{"listEvents", "event", "startdate", "2000-01-01"},
}

// strangers are the entities that parameters of lists refer to, and that these tests have no rows of, but for one zone.
func strangers() (out []api.Entity) {
	for _, name := range []string{"zone", "virtualmachine", "pod", "cluster", "host", "storagepool", "diskoffering", "physicalnetwork", "vlaniprange"} {
		out = append(out, api.Entity{Name: name, Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) { return api.Owner{}, tables.Zones.Has(r, id) }})
	}
	return out
}

func listWorld(t testing.TB) *apitest.Cloud {
	c := apitest.New(t, apitest.Config{
		Entities: slices.Concat(volume.Entities(), network.Entities(), address.Entities(), event.Entities(), strangers()),
		Make: func(*seal.Keeper) []api.Command {
			all := slices.Concat(volume.Commands(), network.Commands(network.Deps{}), address.Commands(address.Deps{}), event.Commands())
			return slices.DeleteFunc(all, func(k api.Command) bool {
				return !slices.ContainsFunc(lists, func(l struct{ command, object, filter, value string }) bool { return l.command == k.Name })
			})
		},
	})
	c.Update(func(tx *store.Tx) error {
		err := tables.Zones.Put(tx, &cloud.Zone{ID: cloud.NameID("zone", "z"), Name: "z"})
		for i := range byte(3) {
			err = errors.Join(err, tables.Projects.Put(tx, &cloud.Project{ID: cloud.ID{1, i}, Name: fmt.Sprint("p", i), AccountID: cloud.ID{2, i}, DomainID: c.Users["a-user"].Account.DomainID}))
		}
		return err
	})
	return c
}

// fillLists makes n rows of each kind: one in seven of a project, the others of a-user and, with b, of b-user.
func fillLists(c *apitest.Cloud, n int, b bool) {
	rng := rand.New(rand.NewPCG(1, 2))
	zone := cloud.NameID("zone", "z")
	for from := 0; from < n; from += 5000 {
		c.Update(func(tx *store.Tx) error {
			for i := from; i < min(n, from+5000); i++ {
				owner := c.Users["a-user"].Account
				account := owner.ID
				switch {
				case i%7 == 0:
					account = cloud.ID{2, byte(rng.IntN(3))}
				case b && rng.IntN(4) == 0: // in a domain below that of a-user
					owner = c.Users["x-user"].Account
					account = owner.ID
				case b && rng.IntN(3) == 0:
					owner = c.Users["b-user"].Account
					account = owner.ID
				}
				at := tx.Now().Add(-time.Duration(rng.IntN(n)) * time.Millisecond) // what is older than events are kept goes meanwhile
				v := &cloud.Volume{
					ID: tx.NewID(), Name: fmt.Sprintf("disk-%d", rng.IntN(n)), AccountID: account, DomainID: owner.DomainID, ZoneID: zone,
					State: cloud.VolumeReady, SizeBytes: 1 << 30,
				}
				if b && rng.IntN(4) == 0 {
					v.State = cloud.VolumeExpunging
				}
				ip := &cloud.PublicIP{
					ID: tx.NewID(), Address: netip.AddrFrom4([4]byte{20, byte(i >> 16), byte(i >> 8), byte(i)}), ZoneID: zone, AccountID: account,
					DomainID: owner.DomainID, State: cloud.IPAllocated, Allocated: at,
				}
				if b && rng.IntN(4) == 0 {
					ip.State, ip.AccountID, ip.DomainID = cloud.IPFree, cloud.ID{}, cloud.ID{}
				}
				err := errors.Join(
					tables.Volumes.Put(tx, v), tables.PublicIPs.Put(tx, ip),
					tables.Networks.Put(tx, &cloud.Network{
						ID: tx.NewID(), Name: fmt.Sprint("net-", i), AccountID: account, DomainID: owner.DomainID, ZoneID: zone, Number: uint64(i + 1), Created: at,
					}),
					tables.Events.Put(tx, &cloud.Event{
						ID: tx.NewID(), Type: "VM.START", Description: "what happened", AccountID: account, DomainID: owner.DomainID, Created: at,
						Archived: b && rng.IntN(4) == 0,
					}),
				)
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// A page that is taken from an index is the page that looking at every row gives, for everybody, with rows of projects,
// hidden, archived and free ones between them.
func TestPagesFromIndexes(t *testing.T) {
	c := listWorld(t)
	fillLists(c, 80, true)
	rows := 0
	for _, l := range lists {
		for _, user := range []string{"root", "a-user", "b-user", "a-admin"} {
			for _, listall := range []string{"true", "false"} {
				for page := 1; page <= 12; page++ {
					params := []string{"listall", listall, "page", strconv.Itoa(page), "pagesize", "7"}
					if l.command == "listEvents" && page%2 == 0 {
						params = append(params, "archived", "true", "page", strconv.Itoa(page/2))
						params = append(params[:2], params[4:]...)
					}
					fast := c.Must(user, l.command, params...)
					slow := c.Must(user, l.command, append(params, l.filter, l.value)...)
					if d := cmp.Diff(string(slow.Raw), string(fast.Raw)); d != "" {
						t.Fatalf("%s by %s listall=%s page %d (-every row +index):\n%s", l.command, user, listall, page, d)
					}
					if some, ok := fast.Object[l.object].([]any); ok {
						rows += len(some)
					}
				}
			}
		}
	}
	if rows < 300 {
		t.Errorf("only %d rows were compared", rows)
	}
}

// BenchmarkLists is goal P2 for other kinds than VMs: the CPU of a signed page of 500 from the middle of -rows, for root and
// for a user, with rows of projects among them.
func BenchmarkLists(b *testing.B) {
	c := listWorld(b)
	fillLists(c, *listed, false)
	for _, l := range lists {
		for _, user := range []string{"root", "a-admin", "a-user"} {
			u := signedURL(c, user, "command", l.command, "listall", "true", "page", strconv.Itoa(*listed/1200), "pagesize", "500")
			b.Run(l.command+"/"+user, func(b *testing.B) {
				w := &sink{h: http.Header{}}
				began, n := cpu(), 0
				for b.Loop() {
					clear(w.h)
					c.Server.ServeHTTP(w, httptest.NewRequest(http.MethodGet, u, nil))
					n++
				}
				b.ReportMetric(float64((cpu()-began).Microseconds())/float64(n), "cpu-us/op")
				b.SetBytes(int64(w.n / n))
			})
		}
	}
}
