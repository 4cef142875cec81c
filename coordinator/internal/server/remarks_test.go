package server

import (
	"maps"
	"slices"
	"testing"

	diff "github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// remarkable are the commands that list what can have remarks, with its kind.
var remarkable = map[string]string{
	"listVirtualMachines": "VM", "listVirtualMachinesMetrics": "VM", "listVolumes": "VOLUME", "listVolumesMetrics": "VOLUME",
	"listInstanceGroups": "INSTANCE_GROUP", "listSSHKeyPairs": "SSH_KEYPAIR", "listUserData": "USER_DATA", "listNetworks": "NETWORK",
	"listPublicIpAddresses": "PUBLIC_IP_ADDRESS", "listTemplates": "TEMPLATE", "listRouters": "VR", "listSystemVms": "VR",
	"listDomains": "DOMAIN", "listDomainChildren": "DOMAIN", "listServiceOfferings": "SERVICE_OFFERING", "listDiskOfferings": "DISK_OFFERING",
	"listNetworkOfferings": "NETWORK_OFFERING", "listZones": "ZONE", "listZonesMetrics": "ZONE", "listPods": "POD",
	"listClusters": "CLUSTER", "listClustersMetrics": "CLUSTER", "listHosts": "HOST", "listHostsMetrics": "HOST",
	"listStoragePools": "PRIMARY_STORAGE", "listStoragePoolsMetrics": "PRIMARY_STORAGE", "listImageStores": "SECONDARY_STORAGE",
}

// Every list of what can have remarks tells of each row what listAnnotations tells the caller: also after remarks have come
// and gone, and with those that only root admins see.
func TestListsTellOfRemarks(t *testing.T) {
	w := newWorld(t)
	mine, _ := w.estates()
	w.update(func(tx *store.Tx) error {
		if err := tables.Routers.Edit(tx, mine["foreigner"]["router"], func(r *cloud.Router) error { r.Placement = cloud.InVM; return nil }); err != nil {
			return err
		}
		if err := tables.Hosts.Edit(tx, mine["root"]["host"], func(h *cloud.Host) error { h.ResourceState = cloud.HostEnabled; return nil }); err != nil {
			return err
		}
		if err := tables.StoragePools.Put(tx, &cloud.StoragePool{ID: cloud.NameID("infrastructure", "storagepool"), ZoneID: mine["root"]["zone"], Name: "pool"}); err != nil {
			return err
		}
		return tables.ImageStores.Put(tx, &cloud.ImageStore{ID: cloud.NameID("infrastructure", "imagestore"), ZoneID: mine["root"]["zone"], Name: "store"})
	})
	var told []string
	for _, d := range w.registry.Describe(api.Everyone) {
		if c, _ := w.registry.Find(d.Name); c.Lists() && slices.ContainsFunc(d.Response, func(f api.FieldDescription) bool { return f.Name == "hasannotations" }) {
			told = append(told, d.Name)
		}
	}
	if d := diff.Diff(slices.Sorted(maps.Keys(remarkable)), told); d != "" {
		t.Fatalf("lists that tell of remarks (-want +got): %s", d)
	}
	none := w.remarked(t)
	put := func(adminsOnly bool) {
		w.update(func(tx *store.Tx) error {
			seen := map[string]bool{} // some are the rows of several lists
			for _, row := range w.remarkable("root") {
				if seen[row.id] {
					continue
				}
				seen[row.id] = true
				id, _ := cloud.ParseID(row.id)
				u := w.callers["root"]
				if err := tables.Annotations.Put(tx, &cloud.Annotation{
					ID: tx.NewID(), EntityType: remarkable[row.command], EntityID: id, Text: "x", UserID: u.ID, AccountID: u.AccountID, AdminsOnly: adminsOnly, Created: tx.Now(),
				}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	put(true)
	secret := w.remarked(t)
	put(false)
	open := w.remarked(t)
	w.update(func(tx *store.Tx) error {
		for id := range tables.Annotations.IDs(tx, "entity", nil) {
			if err := tables.Annotations.Delete(tx, id); err != nil {
				return err
			}
		}
		return nil
	})
	gone := w.remarked(t)
	for command, kind := range remarkable {
		owned := slices.Contains([]string{"VM", "VOLUME", "INSTANCE_GROUP", "SSH_KEYPAIR", "USER_DATA", "NETWORK", "PUBLIC_IP_ADDRESS", "TEMPLATE"}, kind)
		if secret["root"][command] == 0 || gone["root"][command] != 0 {
			t.Errorf("%s tells root of %d rows with remarks, and of %d when they are gone", command, secret["root"][command], gone["root"][command])
		}
		if kind != "VM" && none["user"][command]+secret["user"][command] != 0 || (open["user"][command] > 0) != owned {
			t.Errorf("%s tells a user of %d, %d, %d rows with remarks", command, none["user"][command], secret["user"][command], open["user"][command])
		}
	}
	if open["domain admin"]["listDomains"] == 0 || secret["domain admin"]["listDomains"] != 0 {
		t.Errorf("listDomains tells a domain's admin of %d and %d rows with remarks", open["domain admin"]["listDomains"], secret["domain admin"]["listDomains"])
	}
}

// remarkRow is a row of a list.
type remarkRow struct {
	command, id string
	has         any
}

// remarkable is whatever a caller sees of what can have remarks.
func (w *world) remarkable(caller string) (rows []remarkRow) {
	for command := range remarkable {
		c, _ := w.registry.Find(command)
		if c.Roles&rolesOf[caller] == 0 {
			continue
		}
		filter := "self"
		if caller == "root" {
			filter = "all"
		}
		a := w.must(caller, command, "listall", "true", "templatefilter", filter, "isrecursive", "true", "pagesize", "-1")
		for _, row := range a.list(c.Object) {
			id, _ := row["id"].(string)
			rows = append(rows, remarkRow{command, id, row["hasannotations"]})
		}
	}
	return rows
}

// remarked compares what lists tell with what listAnnotations tells, and counts rows with remarks by caller and command.
func (w *world) remarked(t *testing.T) map[string]map[string]int {
	t.Helper()
	counts := map[string]map[string]int{}
	for caller := range rolesOf {
		counts[caller] = map[string]int{}
		seen := map[any]bool{}
		for _, a := range w.must(caller, "listAnnotations", "pagesize", "-1").list("annotation") {
			seen[a["entityid"]] = true
		}
		for _, row := range w.remarkable(caller) {
			if row.has != seen[row.id] {
				t.Errorf("%s tells a %s hasannotations=%v of %s, listAnnotations %v", row.command, caller, row.has, row.id, seen[row.id])
			}
			if row.has == true {
				counts[caller][row.command]++
			}
		}
	}
	return counts
}
