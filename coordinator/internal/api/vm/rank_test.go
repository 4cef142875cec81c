package vm_test

import (
	"encoding/json"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// A page that is taken from an index shows what a page shows that looks at every row: the same rows in the same order,
// and the same count, for everybody, with VMs in every state. details=all asks for everything, too, but is not ranked.
func TestRankedPagesAreTheSame(t *testing.T) {
	w := newWorld(t)
	w.fill(40)
	n := 0
	w.Update(func(tx *store.Tx) error {
		for v := range tables.VMs.All(tx) {
			states := []cloud.VMState{cloud.VMRunning, cloud.VMStopped, cloud.VMDestroyed, cloud.VMExpunging, cloud.VMError}
			v.State = states[n%len(states)]
			if n%3 == 0 {
				other := w.Users["b-user"].Account
				v.AccountID, v.DomainID = other.ID, other.DomainID
			}
			if n++; n%7 == 0 {
				v.HostID = cloud.ID{}
			}
			if err := tables.VMs.Put(tx, v); err != nil {
				return err
			}
		}
		return nil
	})
	shown := 0
	for _, user := range []string{"root", "a-user", "b-user", "a-admin", "b-admin", "a-other"} {
		for _, listall := range []string{"true", "false"} {
			for page := 1; page <= 7; page++ {
				params := []string{"listall", listall, "page", strconv.Itoa(page), "pagesize", "7"}
				fast := w.Must(user, "listVirtualMachines", params...)
				slow := w.Must(user, "listVirtualMachines", append(params, "details", "all")...)
				if d := cmp.Diff(string(slow.Raw), string(fast.Raw)); d != "" {
					t.Fatalf("%s listall=%s page %d (-every row +index):\n%s", user, listall, page, d)
				}
				var rows []any
				if b, err := json.Marshal(fast.Object["virtualmachine"]); err == nil {
					_ = json.Unmarshal(b, &rows)
				}
				shown += len(rows)
			}
		}
	}
	if shown < 100 {
		t.Errorf("only %d rows were compared", shown)
	}
}
