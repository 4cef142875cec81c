package settings_test

import (
	"context"
	"testing"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/replica/replicatest"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

var (
	number = settings.Define(settings.Def{Name: "a.number", Type: settings.Integer, Default: "5", Min: -1, Max: 10})
	flag   = settings.Define(settings.Def{Name: "a.flag", Type: settings.Boolean, Default: "false"})
	ratio  = settings.Define(settings.Def{Name: "a.ratio", Type: settings.Float, Default: "0.5", Min: 0, Max: 1})
	choice = settings.Define(settings.Def{Name: "a.choice", Type: settings.String, Default: "x", Enum: []string{"x", "y"}})
	wait   = settings.Define(settings.Def{Name: "a.wait", Type: settings.Seconds, Default: "60"})
)

func TestCheck(t *testing.T) {
	for _, x := range []struct {
		def  *settings.Def
		good []string
		bad  []string
	}{
		{number, []string{"-1", "0", "10"}, []string{"", "-2", "11", "1.0", "x", "0x1", " 1"}},
		{flag, []string{"true", "FALSE"}, []string{"", "yes", "1"}},
		{ratio, []string{"0", "1", "0.25", "1e-3"}, []string{"", "1.1", "-0.1", "NaN", "Inf", "x"}},
		{choice, []string{"x", "y"}, []string{"", "X", "z"}},
		{wait, []string{"0", "1000000"}, []string{"1m", ""}},
	} {
		for _, v := range x.good {
			if err := x.def.Check(v); err != nil {
				t.Errorf("%s: %q is refused: %v", x.def.Name, v, err)
			}
		}
		for _, v := range x.bad {
			if err := x.def.Check(v); cloud.CodeOf(err) != cloud.Invalid {
				t.Errorf("%s: %q: %v", x.def.Name, v, err)
			}
		}
	}
}

func TestReadAndWrite(t *testing.T) {
	r := replicatest.Single(t, tables.Schema()...)
	g := settings.New([]*settings.Def{number, flag}, []*settings.Def{ratio, choice, wait})
	set := func(name, value string) error {
		return r.Update(context.Background(), func(tx *store.Tx) error { return g.Set(tx, name, value) })
	}
	view := func() settings.View { return g.View(r.DB().Current()) }
	if v := view(); v.Int("a.number") != 5 || v.Bool("a.flag") || v.Float("a.ratio") != 0.5 || v.String("a.choice") != "x" || v.Duration("a.wait") != time.Minute {
		t.Error("the defaults are not those defined")
	}
	for name, value := range map[string]string{"a.number": "7", "a.flag": "True", "a.ratio": "0.75", "a.choice": "y", "a.wait": "5"} {
		if err := set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	if v := view(); v.Int("a.number") != 7 || !v.Bool("a.flag") || v.Float("a.ratio") != 0.75 || v.String("a.choice") != "y" || v.Duration("a.wait") != 5*time.Second {
		t.Error("the values are not those set")
	}
	if err := set("a.number", "11"); cloud.CodeOf(err) != cloud.Invalid || view().Int("a.number") != 7 {
		t.Errorf("a bad value: %v, now %d", err, view().Int("a.number"))
	}
	if err := set("no.such", "1"); cloud.CodeOf(err) != cloud.Invalid {
		t.Errorf("a setting that is not defined: %v", err)
	}
	// Set back to its default nothing is stored, so that a later version may have another default.
	for _, d := range g.All() {
		if err := set(d.Name, d.Default); err != nil {
			t.Fatal(err)
		}
	}
	if n := tables.Settings.Len(r.DB().Current()); n != 0 {
		t.Errorf("%d rows are stored for defaults", n)
	}
	// A value that another version wrote and this one would refuse counts as the default.
	err := r.Update(context.Background(), func(tx *store.Tx) error {
		return tables.Settings.Put(tx, &cloud.Setting{ID: number.ID(), Name: number.Name, Value: "1000"})
	})
	if err != nil || view().Int("a.number") != 5 {
		t.Errorf("%v, %d", err, view().Int("a.number"))
	}
}

func TestMistakesInDefinitions(t *testing.T) {
	for name, f := range map[string]func(){
		"bad default": func() { settings.Define(settings.Def{Name: "x", Type: settings.Integer, Default: "x"}) },
		"no name":     func() { settings.Define(settings.Def{Default: "x"}) },
		"twice":       func() { settings.New([]*settings.Def{number}, []*settings.Def{number}) },
		"not defined": func() { settings.New().View(nil).Int("no.such") },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: accepted", name)
				}
			}()
			f()
		}()
	}
}

var (
	scoped = settings.Define(settings.Def{Name: "b.ratio", Type: settings.Float, Default: "1", Min: 0, Max: 10, Scopes: settings.Zone | settings.Cluster})
	secret = settings.Define(settings.Def{Name: "b.secret", Secret: true})
)

// The nearest row with a value decides, a value equal to the default counts, and what is set for a row goes with it.
func TestScopes(t *testing.T) {
	r := replicatest.Single(t, tables.Schema()...)
	g := settings.New([]*settings.Def{scoped, secret})
	zone, cluster := cloud.ID{1}, cloud.ID{2}
	want := func(say string, w float64) {
		t.Helper()
		if got := scoped.Float(r.DB().Current(), cluster, zone); got != w {
			t.Errorf("%s: %v, want %v", say, got, w)
		}
	}
	set := func(scope cloud.ID, v string) {
		t.Helper()
		if err := r.Update(context.Background(), func(tx *store.Tx) error { return g.SetFor(tx, scope, "b.ratio", v, nil) }); err != nil {
			t.Fatal(err)
		}
	}
	want("nothing set", 1)
	set(cloud.ID{}, "2")
	want("everywhere", 2)
	set(zone, "3")
	want("in the zone", 3)
	set(cluster, "1")
	want("in the cluster, the default", 1)
	if err := r.Update(context.Background(), func(tx *store.Tx) error { return settings.Forget(tx, cluster) }); err != nil {
		t.Fatal(err)
	}
	want("the cluster is gone", 3)
	if s := scoped.Scopes.String(); s != "Global,Zone,Cluster" {
		t.Errorf("scopes are %s", s)
	}
}

func TestSecretsAreSealed(t *testing.T) {
	r := replicatest.Single(t, tables.Schema()...)
	g := settings.New([]*settings.Def{scoped, secret})
	err := r.Update(context.Background(), func(tx *store.Tx) error {
		return g.SetFor(tx, cloud.ID{}, "b.secret", "hush", func(s string) cloud.Sealed { return cloud.Sealed("sealed " + s) })
	})
	if err != nil {
		t.Fatal(err)
	}
	if v := secret.Text(r.DB().Current()); v != "" {
		t.Errorf("the secret has a text: %q", v)
	}
	if v, ok := secret.Sealed(r.DB().Current()); !ok || string(v) != "sealed hush" {
		t.Errorf("sealed %q, %v", string(v), ok)
	}
	if err := r.Update(context.Background(), func(tx *store.Tx) error { return g.Set(tx, "b.secret", "open") }); err == nil {
		t.Error("a secret was stored without sealing")
	}
}
