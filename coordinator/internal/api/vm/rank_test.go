package vm_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// A page that is taken from an index shows what a page shows that looks at every row: the same rows in the same order,
// and the same count, for everybody, with VMs in every state and of projects. zoneid= names the only
// zone, but is not ranked.
func TestRankedPagesAreTheSame(t *testing.T) {
	w := newWorld(t)
	w.fill(40)
	n := 0
	w.Update(func(tx *store.Tx) error {
		var err error
		for i := byte(30); i < 32; i++ { // 32 is an account, but not that of a project
			err = errors.Join(err, tables.Projects.Put(tx, &cloud.Project{ID: id(i + 10), Name: fmt.Sprint("p", i), AccountID: id(i)}))
		}
		return err
	})
	w.Update(func(tx *store.Tx) error {
		for v := range tables.VMs.All(tx) {
			states := []cloud.VMState{cloud.VMRunning, cloud.VMStopped, cloud.VMDestroyed, cloud.VMExpunging, cloud.VMError}
			v.State = states[n%len(states)]
			if n%3 == 0 {
				other := w.Users["b-user"].Account
				v.AccountID, v.DomainID = other.ID, other.DomainID
			}
			if n%4 == 0 {
				v.AccountID, v.DomainID = id(byte(30+n%3)), w.Users["a-user"].Account.DomainID
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
		for _, state := range []string{"", "Running", "present", "Destroyed"} {
			for _, listall := range []string{"true", "false"} {
				for page := 1; page <= 7; page++ {
					params := []string{"listall", listall, "page", strconv.Itoa(page), "pagesize", "7", "state", state}
					fast := w.Must(user, "listVirtualMachines", params...)
					slow := w.Must(user, "listVirtualMachines", append(params, "zoneid", w.zone)...)
					if d := cmp.Diff(string(slow.Raw), string(fast.Raw)); d != "" {
						t.Fatalf("%s listall=%s state=%s page %d (-every row +index):\n%s", user, listall, state, page, d)
					}
					var rows []any
					if b, err := json.Marshal(fast.Object["virtualmachine"]); err == nil {
						_ = json.Unmarshal(b, &rows)
					}
					shown += len(rows)
				}
			}
		}
	}
	if shown < 100 {
		t.Errorf("only %d rows were compared", shown)
	}
}
