package tag_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/apitest"
	"github.com/wispcloud/wisp/coordinator/internal/api/project"
	"github.com/wispcloud/wisp/coordinator/internal/api/tag"
	"github.com/wispcloud/wisp/coordinator/internal/api/volume"
	"github.com/wispcloud/wisp/coordinator/internal/api/zone"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// world is a cloud with volumes: of a-user one and two, of b-user foreign; and a zone.
type world struct {
	*apitest.Cloud
	t *testing.T
}

func id(name string) cloud.ID { return cloud.NameID("test", name) }

func newWorld(t *testing.T) *world {
	w := &world{t: t}
	nothing := func(store.Reader, cloud.ID) (api.Owner, bool) { return api.Owner{}, false }
	var entities []api.Entity
	for _, name := range []string{"virtualmachine", "host", "pod", "storagepool", "diskoffering", "serviceoffering", "cluster", "network", "snapshot"} {
		entities = append(entities, api.Entity{Name: name, Lookup: nothing})
	}
	w.Cloud = apitest.New(t, apitest.Config{
		Commands: slices.Concat(tag.Commands(), volume.Commands(), project.Commands(project.Deps{Owned: func() []identity.Owned { return nil }})),
		Entities: slices.Concat(entities, volume.Entities(), zone.Entities(), project.Entities()),
	})
	w.Update(func(tx *store.Tx) error {
		for name, user := range map[string]string{"one": "a-user", "two": "a-user", "foreign": "b-user"} {
			a := w.Users[user].Account
			v := &cloud.Volume{ID: id(name), Name: name, AccountID: a.ID, DomainID: a.DomainID, State: cloud.VolumeReady}
			if err := tables.Volumes.Put(tx, v); err != nil {
				return err
			}
			w.Name(v.ID, name)
		}
		return tables.Zones.Put(tx, &cloud.Zone{ID: id("zone"), Name: "zone"})
	})
	return w
}

// tagged calls createTags for volumes; tags are "key=value".
func (w *world) tagged(user, command string, names string, tags ...string) *apitest.Answer {
	w.t.Helper()
	var ids []string
	for _, n := range strings.Fields(names) {
		ids = append(ids, id(n).String())
	}
	params := []string{"resourcetype", "volume", "resourceids", strings.Join(ids, ",")}
	for i, t := range tags {
		key, value, has := strings.Cut(t, "=")
		params = append(params, "tags["+strconv.Itoa(i)+"].key", key)
		if has {
			params = append(params, "tags["+strconv.Itoa(i)+"].value", value)
		}
	}
	return w.Call(user, command, params...)
}

func (w *world) run(user, command, names string, tags ...string) {
	w.t.Helper()
	a := w.tagged(user, command, names, tags...)
	if a.Status != 200 {
		w.t.Fatalf("%s: %s", command, a.Raw)
	}
	if j := w.Job(user, a.String("jobid")); j.Get("jobresult.success") != true {
		w.t.Fatalf("%s: %s", command, j.Raw)
	}
}

// names are the volumes that a list shows.
func (w *world) names(user string, params ...string) string {
	w.t.Helper()
	a := w.Must(user, "listVolumes", params...)
	var out []string
	rows, _ := a.Object["volume"].([]any)
	for i := range rows {
		out = append(out, a.String("volume."+strconv.Itoa(i)+".name"))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestAnswers(t *testing.T) {
	w := newWorld(t)
	a := w.tagged("a-user", "createTags", "one two", "city=Bern", "color=red")
	w.Golden("createTags", w.Job("a-user", a.String("jobid")))
	list := w.Must("a-user", "listTags")
	w.Golden("listTags", list)
	w.CheckSDK("listTags", list)
	volumes := w.Must("a-user", "listVolumes", "id", id("one").String())
	w.CheckSDK("listVolumes", volumes)
	if d := cmp.Diff("Bern", volumes.String("volume.tags.0.value")); d != "" {
		t.Error(d)
	}
	a = w.tagged("a-user", "deleteTags", "one two", "city")
	w.Golden("deleteTags", w.Job("a-user", a.String("jobid")))
	types := map[string]int{}
	for e := range tables.Events.All(w.Read()) {
		types[e.Type]++
	}
	if types["CREATE_TAGS"] < 2 || types["DELETE_TAGS"] < 2 {
		t.Errorf("events %v, want the beginning and the end of each", types)
	}
}

func TestFilters(t *testing.T) {
	w := newWorld(t)
	w.run("a-user", "createTags", "one two", "city=Bern")
	w.run("a-user", "createTags", "one", "color=red")
	w.run("b-user", "createTags", "foreign", "city=Bern")
	for _, x := range []struct {
		user, params, want string
	}{
		{"a-user", "tags[0].key=city tags[0].value=Bern", "one two"},
		{"a-user", "tags[0].key=city tags[0].value=Basel", ""},
		{"a-user", "tags[0].key=color tags[0].value=red", "one"},
		{"a-user", "tags[0].key=color tags[0].value=red tags[1].key=city tags[1].value=Basel", "one"},
		{"a-user", "tags[0].key=color tags[0].value=red keyword=two", ""},
		{"root", "listall=true tags[0].key=city tags[0].value=Bern", "foreign one two"},
		{"a-admin", "listall=true tags[0].key=city tags[0].value=Bern", "one two"},
		{"b-admin", "listall=true tags[0].key=color tags[0].value=red", ""},
	} {
		if got := w.names(x.user, pairs(x.params)...); got != x.want {
			t.Errorf("%s %s: %q, want %q", x.user, x.params, got, x.want)
		}
	}
	for _, x := range []struct {
		user, params string
		want         any // count
	}{
		{"a-user", "", 3.0},
		{"a-user", "key=city", 2.0},
		{"a-user", "value=red", 1.0},
		{"a-user", "keyword=re", 1.0},
		{"a-user", "resourcetype=Volume", 3.0},
		{"a-user", "resourcetype=Project", nil},
		{"a-user", "customer=nobody", nil},
		{"a-user", "resourceid=" + id("one").String(), 2.0},
		{"a-user", "resourceid=" + id("foreign").String(), nil},
		{"a-user", "listall=true", 3.0},
		{"root", "", nil},
		{"root", "listall=true", 4.0},
		{"root", "resourceid=" + id("foreign").String(), 1.0},
		{"a-admin", "listall=true", 3.0},
		{"a-user", "page=2 pagesize=2", 3.0},
		{"a-user", "projectid=-1", nil},
	} {
		if a := w.Must(x.user, "listTags", pairs(x.params)...); a.Object["count"] != x.want {
			t.Errorf("%s %s: %v tags, want %v", x.user, x.params, a.Object["count"], x.want)
		}
	}
}

func pairs(text string) (out []string) {
	for _, p := range strings.Fields(text) {
		name, value, _ := strings.Cut(p, "=")
		out = append(out, name, value)
	}
	return out
}

// Another's resource reads like one that nobody has, and gets no tag; so does infrastructure, for all but root admins.
func TestWhoMayTag(t *testing.T) {
	w := newWorld(t)
	for _, x := range []struct{ user, kind, id string }{
		{"a-user", "Volume", id("foreign").String()},
		{"a-admin", "Volume", id("foreign").String()},
		{"a-user", "Volume", id("nobody's").String()},
		{"a-user", "UserVm", id("one").String()},
		{"a-user", "Zone", id("zone").String()},
		{"a-admin", "Zone", id("zone").String()},
		{"b-user", "Volume", id("one").String() + "," + id("foreign").String()},
	} {
		for _, command := range []string{"createTags", "deleteTags"} {
			text, code := w.Call(x.user, command, "resourcetype", x.kind, "resourceids", x.id, "tags[0].key", "k", "tags[0].value", "v").Error()
			first, _, _ := strings.Cut(x.id, ",")
			if code != 431 || text != "Invalid parameter resourceids value="+first+" due to incorrect long value format, or entity does not exist" {
				t.Errorf("%s of %s %s by %s: %d %s", command, x.kind, x.id, x.user, code, text)
			}
		}
	}
	if n := tables.Tags.Len(w.Read()); n != 0 {
		t.Fatalf("refused calls left %d tags", n)
	}
	w.Must("root", "createTags", "resourcetype", "Zone", "resourceids", id("zone").String(), "tags[0].key", "k", "tags[0].value", "v")
	w.run("root", "createTags", "foreign", "k=v")
	w.run("a-admin", "createTags", "one", "k=v")
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	w.run("a-user", "createTags", "one", "k=v")
	for _, x := range []struct {
		command, names, tag, want string
	}{
		{"createTags", "one", "k=w", "Tag k already exists for resource type Volume"},
		{"createTags", "two", "k=", "is either null or empty"},
		{"createTags", "two", "=v", "for parameter tags"},
		{"createTags", "two", "k=" + strings.Repeat("x", 256), "at most 255 bytes"},
		{"createTags", "two one", "k=v", "already exists"}, // and two gets none
		{"deleteTags", "one", "k=w", "Unable to find any tags"},
		{"deleteTags", "two", "k", "Unable to find any tags"},
	} {
		if text, code := w.tagged("a-user", x.command, x.names, x.tag).Error(); code != 431 || !strings.Contains(text, x.want) {
			t.Errorf("%s %s %s: %d %s, want %s", x.command, x.names, x.tag, code, text, x.want)
		}
	}
	if text, code := w.Call("a-user", "createTags", "resourcetype", "Cloud", "resourceids", id("one").String(), "tags[0].key", "k", "tags[0].value", "v").Error(); code != 431 || !strings.Contains(text, "accepted are UserVm, Volume") {
		t.Errorf("an unknown kind: %d %s", code, text)
	}
	if text, code := w.Call("a-user", "deleteTags", "resourcetype", "Volume", "resourceids", ",").Error(); code != 431 {
		t.Errorf("no resources: %d %s", code, text)
	}
	if n := tables.Tags.Len(w.Read()); n != 1 {
		t.Errorf("%d tags, want the first one", n)
	}
}

// A tag goes with its resource, and a key alone takes any value away.
func TestTagsGo(t *testing.T) {
	w := newWorld(t)
	w.run("a-user", "createTags", "one two", "a=1", "b=2")
	w.run("a-user", "deleteTags", "one", "a", "b=2")
	w.run("a-user", "deleteTags", "two", "a=1")
	w.Update(func(tx *store.Tx) error { return tables.Volumes.Delete(tx, id("two")) })
	if n := tables.Tags.Len(w.Read()); n != 0 {
		t.Errorf("%d tags are left", n)
	}
}

// What a project owns has its tags in the project.
func TestProjectTags(t *testing.T) {
	w := newWorld(t)
	p := w.Must("a-user", "createProject", "name", "p", "displaytext", "x").String("project.id")
	w.Must("a-user", "createTags", "resourcetype", "Project", "resourceids", p, "tags[0].key", "k", "tags[0].value", "v")
	a := w.Must("a-user", "listTags", "projectid", p)
	if got := []any{a.Get("tag.account"), a.Get("tag.project"), a.Get("tag.resourcetype")}; !slices.Equal(got, []any{nil, "p", "Project"}) {
		t.Errorf("%v", got)
	}
	for user, want := range map[string]any{"a-user": 1.0, "b-user": nil} {
		if a := w.Must(user, "listProjects", "tags[0].key", "k", "tags[0].value", "v"); a.Object["count"] != want {
			t.Errorf("%s: %s", user, a.Raw)
		}
	}
}
