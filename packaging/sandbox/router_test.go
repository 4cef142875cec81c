package sandbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wispcloud/wisp/images/systemvm"
)

func TestRouter(t *testing.T) {
	if _, err := (Config{Router: "container"}).withDefaults(); err == nil || !strings.Contains(err.Error(), "want host or vm") {
		t.Errorf("unknown place: %v", err)
	}
	host, err := Config{Dir: t.TempDir()}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	if host.Router != RouterOnHost {
		t.Errorf("default is %q", host.Router)
	}
	vm := host
	vm.Router = RouterInVM
	if err := vm.checkRouter(); err != nil {
		t.Errorf("a new sandbox: %v", err)
	}
	if err := vm.keepRouter(); err != nil {
		t.Fatal(err)
	}
	if err := vm.checkRouter(); err != nil {
		t.Errorf("the same again: %v", err)
	}
	if err := host.checkRouter(); err == nil || !strings.Contains(err.Error(), "keep it with ROUTER=vm") {
		t.Errorf("another place: %v", err)
	}
}

func TestPlan(t *testing.T) {
	common := []string{"network", "coordinator", "admin keys", "acceleration", "hosts", "cloud"}
	for router, want := range map[string]string{
		RouterOnHost: "guest image|" + strings.Join(common, "|") + "|VM hello|guest answers",
		RouterInVM:   "guest image|router image|" + strings.Join(common, "|") + "|router in VM|VM hello|its router|guest answers",
	} {
		var names []string
		for _, s := range (&Sandbox{cfg: Config{Router: router}}).plan() {
			names = append(names, s.name)
		}
		if diff := cmp.Diff(want, strings.Join(names, "|")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", router, diff)
		}
	}
}

// TestKeptSystemVM: an image that is not whole is none.
func TestKeptSystemVM(t *testing.T) {
	dir := t.TempDir()
	none := func(when string) {
		t.Helper()
		if m, err := keptSystemVM(dir); err != nil || m != nil {
			t.Errorf("%s: %v, %v", when, m, err)
		}
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	none("empty")
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	file := func(name string) string { return `{"name":"` + name + `","size":0,"sha256":"` + empty + `"}` }
	write(systemvm.ManifestFile("1.2"), `{"version":"1.2","bundle":`+file(systemvm.BundleFile("1.2"))+`,"disk":`+file(systemvm.DiskFile("1.2"))+`}`)
	none("files are missing")
	write(systemvm.BundleFile("1.2"), "")
	write(systemvm.DiskFile("1.2"), "")
	m, err := keptSystemVM(dir)
	if err != nil || m == nil || m.Version != "1.2" {
		t.Fatalf("whole: %v, %v", m, err)
	}
	write(systemvm.BundleFile("1.2"), "x")
	none("damaged")
}
