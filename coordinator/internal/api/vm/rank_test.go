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
// and the same count, for everybody, with VMs in every state and of projects. hypervisor= names the only one, but is not
// ranked.
func TestRankedPagesAreTheSame(t *testing.T) {
	w := newWorld(t)
	w.fill(40)
	n := 0
	w.Update(func(tx *store.Tx) error {
		var err error
		for i := byte(30); i < 32; i++ { // 32 is an account, but not that of a project
			err = errors.Join(err, tables.Projects.Put(tx, &cloud.Project{ID: id(i + 10), Name: fmt.Sprint("p", i), AccountID: id(i), DomainID: w.Users["a-user"].Account.DomainID}))
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
			if n%5 == 1 {
				below := w.Users["x-user"].Account
				v.AccountID, v.DomainID = below.ID, below.DomainID
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
					slow := w.Must(user, "listVirtualMachines", append(params, "hypervisor", "kvm")...)
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
	w.rowByRow()
}

// rowByRow compares pages of an admin of domains, and of root with what has an index, with what the rows themselves say.
func (w *world) rowByRow() {
	w.t.Helper()
	ofProject := map[cloud.ID]bool{}
	for p := range tables.Projects.All(w.Read()) {
		ofProject[p.AccountID] = true
	}
	a, x := w.Users["a-user"].Account.DomainID, w.Users["x-user"].Account.DomainID
	for _, l := range []struct {
		user   string
		params []string
		shown  func(v *cloud.VM) bool
	}{
		{"a-admin", nil, func(v *cloud.VM) bool { return v.DomainID == a || v.DomainID == x }},
		{"a-admin", []string{"state", "Running"}, func(v *cloud.VM) bool {
			return (v.DomainID == a || v.DomainID == x) && v.State == cloud.VMRunning
		}},
		{"root", []string{"domainid", x.String()}, func(v *cloud.VM) bool { return v.DomainID == x }},
		{"root", []string{"hostid", id(33).String()}, func(v *cloud.VM) bool { return v.HostID == id(33) }},
		{"root", []string{"zoneid", w.zone}, func(*cloud.VM) bool { return true }},
		{"root", []string{"networkid", w.network}, func(v *cloud.VM) bool {
			return tables.NICs.Count(w.Read(), "vm", store.K(v.ID)) > 0
		}},
	} {
		var want, got []string
		for v := range tables.VMs.All(w.Read()) {
			if !ofProject[v.AccountID] && (v.State != cloud.VMExpunging || l.user == "root") && l.shown(v) {
				want = append(want, v.ID.String())
			}
		}
		for page := 1; page <= 10; page++ {
			answer := w.Must(l.user, "listVirtualMachines", append([]string{"listall", "true", "page", strconv.Itoa(page), "pagesize", "5"}, l.params...)...)
			rows, _ := answer.Object["virtualmachine"].([]any)
			for _, r := range rows {
				row, _ := r.(map[string]any)
				got = append(got, fmt.Sprint(row["id"]))
			}
			if count, _ := answer.Object["count"].(float64); int(count) != len(want) {
				w.t.Errorf("%s %v page %d: count %v, not %d", l.user, l.params, page, count, len(want))
			}
		}
		if d := cmp.Diff(want, got); d != "" || len(want) < 3 {
			w.t.Errorf("%s %v (-rows +pages):\n%s", l.user, l.params, d)
		}
	}
}
