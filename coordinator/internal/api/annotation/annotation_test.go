package annotation_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/annotation"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/api/group"
	"github.com/wispcloud/wisp/coordinator/internal/api/tag"
	"github.com/wispcloud/wisp/coordinator/internal/api/vm"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

func id(n byte) cloud.ID { return cloud.ID{0: 0xaa, 15: n} }

// world has a VM of a-user, one of b-user, and a host.
type world struct {
	*apitest.Cloud
	t *testing.T
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, Cloud: apitest.New(t, apitest.Config{
		Commands: slices.Concat(annotation.Commands(), tag.Commands()),
		Entities: slices.Concat(annotation.Entities(), vm.Entities(), group.Entities(), []api.Entity{api.FreeEntity("host", tables.Hosts)}),
	})}
	mine, theirs := w.Users["a-user"].Account, w.Users["b-user"].Account
	w.Update(func(tx *store.Tx) error {
		return errors.Join(
			tables.Zones.Put(tx, &cloud.Zone{ID: id(4), Name: "z1", Details: map[string]string{"dns.search.order": "example.org"}}),
			tables.VMs.Put(tx, &cloud.VM{
				ID: id(1), Name: "web", DisplayName: "Web", InstanceName: "i-1", AccountID: mine.ID, DomainID: mine.DomainID,
				Details: map[string]string{"cpuNumber": "2"},
			}),
			tables.VMs.Put(tx, &cloud.VM{ID: id(2), Name: "db", DisplayName: "DB", InstanceName: "i-2", AccountID: theirs.ID, DomainID: theirs.DomainID}),
			tables.Hosts.Put(tx, &cloud.Host{ID: id(3), Name: "h1"}),
		)
	})
	for n, name := range map[byte]string{1: "vm", 2: "foreign", 3: "host", 4: "zone"} {
		w.Name(id(n), name)
	}
	return w
}

func (w *world) golden(command string, a *apitest.Answer) {
	w.t.Helper()
	w.Golden(command, a)
	w.CheckSDK(command, a)
}

func (w *world) refuse(user string, code int, text, command string, params ...string) {
	w.t.Helper()
	if got, n := w.Call(user, command, params...).Error(); n != code || !strings.Contains(got, text) {
		w.t.Errorf("%s %v by %s: %d %s, want %d %s", command, params, user, n, got, code, text)
	}
}

// texts are the remarks that a user sees.
func (w *world) texts(user string, params ...string) string {
	w.t.Helper()
	var out []string
	rows, _ := w.Must(user, "listAnnotations", params...).Object["annotation"].([]any)
	for _, r := range rows {
		out = append(out, r.(map[string]any)["annotation"].(string))
	}
	return strings.Join(out, ",")
}

func TestRemarks(t *testing.T) {
	w := newWorld(t)
	mine, theirs, host := id(1).String(), id(2).String(), id(3).String()
	w.golden("addAnnotation", w.Must("a-user", "addAnnotation", "entitytype", "VM", "entityid", mine, "annotation", "mine"))
	w.Must("b-user", "addAnnotation", "entitytype", "vm", "entityid", theirs, "annotation", "theirs")
	w.Must("a-admin", "addAnnotation", "entitytype", "VM", "entityid", mine, "annotation", "of the admin")
	w.Must("root", "addAnnotation", "entitytype", "HOST", "entityid", host, "annotation", "broken fan")
	w.Must("root", "addAnnotation", "entitytype", "VM", "entityid", mine, "annotation", "secret", "adminsonly", "true")
	for _, x := range []struct {
		user   string
		params []string
		want   string
	}{
		{"a-user", nil, "of the admin,mine"},
		{"a-other", nil, ""},
		{"a-admin", nil, "of the admin,mine"},
		{"b-user", nil, "theirs"},
		{"root", nil, "secret,broken fan,of the admin,theirs,mine"},
		{"root", []string{"entitytype", "HOST"}, "broken fan"},
		{"root", []string{"entityid", mine}, "secret,of the admin,mine"},
		{"root", []string{"annotationfilter", "self"}, "secret,broken fan"},
		{"root", []string{"keyword", "FAN"}, "broken fan"},
		{"a-user", []string{"entityid", mine, "entitytype", "VM"}, "of the admin,mine"},
		{"a-user", []string{"annotationfilter", "self"}, "mine"},
		{"a-user", []string{"userid", w.Users["a-admin"].User.ID.String()}, "of the admin"},
	} {
		if got := w.texts(x.user, x.params...); got != x.want {
			t.Errorf("%s sees %q by %v, want %q", x.user, got, x.params, x.want)
		}
	}
	w.golden("listAnnotations", w.Must("root", "listAnnotations"))
	hidden := w.Must("root", "listAnnotations", "keyword", "secret").String("annotation.id")
	if got := w.texts("a-user", "id", hidden); got != "" {
		t.Errorf("by its id a remark for admins is told: %q", got)
	}
	w.golden("updateAnnotationVisibility", w.Must("root", "updateAnnotationVisibility", "id", hidden, "adminsonly", "false"))
	if got := w.texts("a-user", "id", hidden); got != "secret" {
		t.Errorf("shown to all it is %q", got)
	}
	for _, x := range [][]string{{"VM", theirs}, {"HOST", host}, {"VM", id(9).String()}, {"INSTANCE_GROUP", mine}} {
		w.refuse("a-user", 431, "entity does not exist", "addAnnotation", "entitytype", x[0], "entityid", x[1], "annotation", "x")
		w.refuse("a-user", 431, "entity does not exist", "listAnnotations", "entitytype", x[0], "entityid", x[1])
	}
	w.refuse("a-user", 431, `Invalid entity type "PLANET"`, "addAnnotation", "entitytype", "PLANET", "entityid", mine, "annotation", "x")
	w.refuse("a-admin", 531, "adminsonly", "addAnnotation", "entitytype", "VM", "entityid", mine, "annotation", "x", "adminsonly", "true")
	w.refuse("a-user", 432, "does not exist", "updateAnnotationVisibility", "id", hidden, "adminsonly", "true")
	w.refuse("a-user", 431, "entity does not exist", "removeAnnotation", "id", hidden)
	own := w.Must("a-user", "listAnnotations", "annotationfilter", "self").String("annotation.id")
	w.refuse("b-user", 431, "entity does not exist", "removeAnnotation", "id", own)
	w.golden("removeAnnotation", w.Must("a-user", "removeAnnotation", "id", own))
	w.Update(func(tx *store.Tx) error {
		for n := tables.Annotations.Count(tx, "entity", store.K(id(1))); n < 200; n++ {
			if err := tables.Annotations.Put(tx, &cloud.Annotation{ID: tx.NewID(), EntityType: "VM", EntityID: id(1)}); err != nil {
				return err
			}
		}
		return nil
	})
	w.refuse("a-user", 431, "200 remarks already, which is the most", "addAnnotation", "entitytype", "VM", "entityid", mine, "annotation", "x")
	// A VM that goes takes what was said of it along.
	w.Update(func(tx *store.Tx) error { return tables.VMs.Delete(tx, id(1)) })
	if got := w.texts("root"); got != "broken fan,theirs" {
		t.Errorf("after the VM has gone there is %q", got)
	}
}

// details are what a user sees of a kind of resources.
func (w *world) details(user string, params ...string) string {
	w.t.Helper()
	var out []string
	rows, _ := w.Must(user, "listResourceDetails", params...).Object["resourcedetail"].([]any)
	for _, r := range rows {
		m := r.(map[string]any)
		out = append(out, m["key"].(string)+"="+m["value"].(string))
	}
	return strings.Join(out, ",")
}

// CVE-2025-59454: details of another tenant's resources are not told, nor those that are not for display.
func TestCVE_2025_59454_ResourceDetails(t *testing.T) {
	w := newWorld(t)
	mine, theirs, zone := id(1).String(), id(2).String(), id(4).String()
	add := func(kind, id string, more ...string) {
		t.Helper()
		w.Must("root", "addResourceDetail", append([]string{"resourcetype", kind, "resourceid", id}, more...)...)
	}
	a := w.Call("root", "addResourceDetail", "resourcetype", "UserVm", "resourceid", mine, "details[0].key", "rack", "details[0].value", "7")
	w.Golden("addResourceDetail-job", w.Job("root", a.String("jobid")))
	add("uservm", mine, "details[0].licence", "abc", "fordisplay", "false")
	add("UserVm", theirs, "details[0].rack", "8")
	add("Zone", zone, "details[0].room", "cellar")
	add("UserVm", mine, "details[0].rack", "9") // in the place of the other
	vms := []string{"resourcetype", "UserVm", "listall", "true"}
	for _, x := range []struct {
		user   string
		params []string
		want   string
	}{
		{"a-user", vms, "cpuNumber=2,rack=9"},
		{"a-user", []string{"resourcetype", "UserVm", "resourceid", mine}, "cpuNumber=2,rack=9"},
		{"a-user", append([]string{"fordisplay", "false"}, vms...), "cpuNumber=2,rack=9"},
		{"a-other", vms, ""},
		{"a-admin", vms, "cpuNumber=2,rack=9"},
		{"b-user", vms, "rack=8"},
		{"b-admin", vms, "rack=8"},
		{"root", vms, "cpuNumber=2,licence=abc,rack=9,rack=8"},
		{"root", append([]string{"fordisplay", "false"}, vms...), "licence=abc"},
		{"root", append([]string{"key", "rack", "value", "8"}, vms...), "rack=8"},
		{"root", append([]string{"keyword", "ABC"}, vms...), "licence=abc"},
		{"root", []string{"resourcetype", "Zone"}, "dns.search.order=example.org,room=cellar"},
		{"a-user", []string{"resourcetype", "Zone", "listall", "true"}, ""},
	} {
		if got := w.details(x.user, x.params...); got != x.want {
			t.Errorf("%s sees %q by %v, want %q", x.user, got, x.params, x.want)
		}
	}
	w.golden("listResourceDetails", w.Must("a-user", "listResourceDetails", "resourcetype", "UserVm", "resourceid", mine))
	for _, foreign := range []string{theirs, id(9).String()} {
		w.refuse("a-user", 431, "Invalid parameter resourceid value="+foreign+" due to incorrect long value format, or entity does not exist",
			"listResourceDetails", "resourcetype", "UserVm", "resourceid", foreign)
		w.refuse("a-user", 431, "entity does not exist", "listDetailOptions", "resourcetype", "UserVm", "resourceid", foreign)
	}
	w.refuse("a-user", 431, "entity does not exist", "listResourceDetails", "resourcetype", "Zone", "resourceid", zone)
	w.refuse("a-user", 431, "Invalid resource type", "listResourceDetails", "resourcetype", "Planet")
	w.refuse("a-admin", 432, "does not exist", "addResourceDetail", "resourcetype", "UserVm", "resourceid", mine, "details[0].k", "v")
	w.refuse("root", 431, "has the detail cpuNumber of its own", "addResourceDetail", "resourcetype", "UserVm", "resourceid", mine, "details[0].cpuNumber", "64")
	w.refuse("root", 431, "has no such detail", "removeResourceDetail", "resourcetype", "UserVm", "resourceid", mine, "key", "cpuNumber")
	a = w.Call("root", "removeResourceDetail", "resourcetype", "UserVm", "resourceid", mine, "key", "licence")
	w.Golden("removeResourceDetail-job", w.Job("root", a.String("jobid")))
	w.Must("root", "removeResourceDetail", "resourcetype", "UserVm", "resourceid", mine)
	if got := w.details("root", "resourcetype", "UserVm", "resourceid", mine); got != "cpuNumber=2" {
		t.Errorf("what is left is %q", got)
	}
	w.Update(func(tx *store.Tx) error { return tables.VMs.Delete(tx, id(2)) })
	if n := tables.ResourceDetails.Len(w.Read()); n != 1 { // the zone's
		t.Errorf("%d details are left", n)
	}
	w.golden("listDetailOptions", w.Must("a-user", "listDetailOptions", "resourcetype", "UserVm", "resourceid", mine))
	w.Golden("listDetailOptions-zone", w.Must("a-user", "listDetailOptions", "resourcetype", "Zone"))
}
