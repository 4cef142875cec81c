package apply

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/wispcloud/wisp/coordinator/cmd/wisp/internal/client"
)

// API is what apply needs of the cloud.
type API interface {
	Run(ctx context.Context, command string, params map[string]string) (client.Object, error)
	List(ctx context.Context, command, object string, params map[string]string) ([]client.Object, error)
}

// Applier makes a declaration true.
type Applier struct {
	API API
	// Out is told each change, a line each.
	Out io.Writer
	// Wait is how long to wait for what comes from outside: hosts whose agents have not joined yet, templates that are
	// being downloaded.
	Wait time.Duration

	changed, unchanged int
}

// Apply makes f true and says how many objects were changed and how many were as declared.
func (a *Applier) Apply(ctx context.Context, f *File) (changed, unchanged int, err error) {
	for _, name := range slices.Sorted(maps.Keys(f.Settings)) {
		if err := a.setting(ctx, name, f.Settings[name]); err != nil {
			return a.changed, a.unchanged, err
		}
	}
	for _, z := range f.Zones {
		if err := a.zone(ctx, z); err != nil {
			return a.changed, a.unchanged, err
		}
	}
	for _, step := range []struct {
		kind kind
		rows []Params
	}{
		{serviceOffering, f.ServiceOfferings}, {diskOffering, f.DiskOfferings}, {sshKeyPair, f.SSHKeyPairs},
	} {
		for _, p := range step.rows {
			if _, err := a.ensure(ctx, step.kind, p, nil); err != nil {
				return a.changed, a.unchanged, err
			}
		}
	}
	for _, o := range f.NetworkOfferings {
		if err := a.networkOffering(ctx, o); err != nil {
			return a.changed, a.unchanged, err
		}
	}
	for _, t := range f.Templates {
		if err := a.template(ctx, t); err != nil {
			return a.changed, a.unchanged, err
		}
	}
	for _, n := range f.Networks {
		if _, err := a.ensure(ctx, network, n, nil); err != nil {
			return a.changed, a.unchanged, err
		}
	}
	return a.changed, a.unchanged, nil
}

// kind says how one sort of object is found, made and changed.
type kind struct {
	noun           string
	list, object   string
	filter         map[string]string // parameters of every list
	create, update string
	// key are the fields that tell objects of one parent apart.
	key []string
	// fields are the declared fields that update takes; each maps to the field of the answer it is compared with.
	fields map[string]string
}

var (
	zone = kind{
		noun: "zone", list: "listZones", object: "zone", create: "createZone", update: "updateZone", key: []string{"name"},
		fields: same("dns1", "dns2", "internaldns1", "internaldns2", "guestcidraddress", "localstorageenabled"),
	}
	physicalNetwork = kind{
		noun: "physical network", list: "listPhysicalNetworks", object: "physicalnetwork", create: "createPhysicalNetwork",
		update: "updatePhysicalNetwork", key: []string{"name"}, fields: same("vlan"),
	}
	trafficType = kind{
		noun: "traffic type", list: "listTrafficTypes", object: "traffictype", create: "addTrafficType", key: []string{"traffictype"},
	}
	publicRange = kind{
		noun: "public range", list: "listVlanIpRanges", object: "vlaniprange", create: "createVlanIpRange", key: []string{"startip", "endip"},
		filter: map[string]string{"forvirtualnetwork": "true"},
	}
	pod     = kind{noun: "pod", list: "listPods", object: "pod", create: "createPod", key: []string{"name"}}
	cluster = kind{
		noun: "cluster", list: "listClusters", object: "cluster", create: "addCluster", key: []string{"clustername=name"},
	}
	storagePool = kind{
		noun: "storage pool", list: "listStoragePools", object: "storagepool", create: "createStoragePool", key: []string{"name"},
	}
	secondaryStorage = kind{
		noun: "secondary storage", list: "listImageStores", object: "imagestore", create: "addSecondaryStorage", key: []string{"url"},
	}
	serviceOffering = kind{
		noun: "service offering", list: "listServiceOfferings", object: "serviceoffering", create: "createServiceOffering", key: []string{"name"},
	}
	diskOffering = kind{
		noun: "disk offering", list: "listDiskOfferings", object: "diskoffering", create: "createDiskOffering", key: []string{"name"},
	}
	networkOfferingKind = kind{
		noun: "network offering", list: "listNetworkOfferings", object: "networkoffering", create: "createNetworkOffering",
		update: "updateNetworkOffering", key: []string{"name"}, fields: same("displaytext"),
	}
	templateKind = kind{
		noun: "template", list: "listTemplates", object: "template", create: "registerTemplate", key: []string{"name"},
		filter: map[string]string{"templatefilter": "all", "listall": "true"},
	}
	network = kind{
		noun: "network", list: "listNetworks", object: "network", create: "createNetwork", key: []string{"name"},
		filter: map[string]string{"listall": "true"},
	}
	sshKeyPair = kind{
		noun: "SSH key pair", list: "listSSHKeyPairs", object: "sshkeypair", create: "registerSSHKeyPair", key: []string{"name"},
	}
)

func same(fields ...string) map[string]string {
	m := map[string]string{}
	for _, f := range fields {
		m[f] = f
	}
	return m
}

// find looks for the object that p declares; parent are parameters that name its parent.
func (a *Applier) find(ctx context.Context, k kind, p Params, parent map[string]string) (client.Object, error) {
	params := maps.Clone(k.filter)
	if params == nil {
		params = map[string]string{}
	}
	maps.Copy(params, parent)
	rows, err := a.API.List(ctx, k.list, k.object, params)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		if matches(k, p, row) {
			return row, nil
		}
	}
	return nil, nil
}

func matches(k kind, p Params, row client.Object) bool {
	for _, key := range k.key {
		param, field, renamed := strings.Cut(key, "=")
		if !renamed {
			field = param
		}
		if !strings.EqualFold(p[param], row.Text(field)) {
			return false
		}
	}
	return true
}

// label is how an object is called in messages.
func (k kind) label(p Params) string {
	var parts []string
	for _, key := range k.key {
		param, _, _ := strings.Cut(key, "=")
		parts = append(parts, p[param])
	}
	return k.noun + " " + strings.Join(parts, "-")
}

// ensure makes the object where it is missing and changes it where it differs; it gives the object as it then is.
func (a *Applier) ensure(ctx context.Context, k kind, p Params, parent map[string]string) (client.Object, error) {
	p, err := a.resolve(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.label(p), err)
	}
	for _, key := range k.key {
		if param, _, _ := strings.Cut(key, "="); p[param] == "" {
			return nil, fmt.Errorf("a %s needs the field %s", k.noun, param)
		}
	}
	scope := maps.Clone(parent)
	if id := p["zoneid"]; id != "" && id != "-1" && scope == nil {
		scope = map[string]string{"zoneid": id}
	}
	row, err := a.find(ctx, k, p, scope)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.label(p), err)
	}
	if row != nil {
		return row, a.change(ctx, k, p, row)
	}
	params := maps.Clone(map[string]string(p))
	maps.Copy(params, parent)
	made, err := a.API.Run(ctx, k.create, params)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.label(p), err)
	}
	a.say("created " + k.label(p))
	return made.Inner(), nil
}

// change updates what differs.
func (a *Applier) change(ctx context.Context, k kind, p Params, row client.Object) error {
	params := map[string]string{}
	for param, field := range k.fields {
		if want, declared := p[param]; declared && want != row.Text(field) {
			params[param] = want
		}
	}
	if len(params) == 0 {
		a.unchanged++
		return nil
	}
	names := slices.Sorted(maps.Keys(params))
	params["id"] = row.Text("id")
	if _, err := a.API.Run(ctx, k.update, params); err != nil {
		return fmt.Errorf("%s: %w", k.label(p), err)
	}
	a.say("changed " + k.label(p) + " (" + strings.Join(names, ", ") + ")")
	return nil
}

func (a *Applier) say(line string) {
	a.changed++
	_, _ = fmt.Fprintln(a.Out, line)
}

// reference is a parameter that may be given by name.
type reference struct {
	param, list, object, field string
}

var references = map[string]reference{
	"zone":            {"zoneid", "listZones", "zone", "name"},
	"ostype":          {"ostypeid", "listOsTypes", "ostype", "description"},
	"networkoffering": {"networkofferingid", "listNetworkOfferings", "networkoffering", "name"},
}

// resolve turns names into ids.
func (a *Applier) resolve(ctx context.Context, p Params) (Params, error) {
	out := maps.Clone(p)
	for name, ref := range references {
		want, given := out[name]
		if !given {
			continue
		}
		delete(out, name)
		rows, err := a.API.List(ctx, ref.list, ref.object, nil)
		if err != nil {
			return out, err
		}
		i := slices.IndexFunc(rows, func(o client.Object) bool { return o.Text(ref.field) == want })
		if i < 0 {
			return out, fmt.Errorf("%s %q does not exist", name, want)
		}
		out[ref.param] = rows[i].Text("id")
	}
	return out, nil
}

func (a *Applier) setting(ctx context.Context, name, value string) error {
	rows, err := a.API.List(ctx, "listConfigurations", "configuration", map[string]string{"name": name})
	if err != nil {
		return fmt.Errorf("setting %s: %w", name, err)
	}
	i := slices.IndexFunc(rows, func(o client.Object) bool { return o.Text("name") == name })
	if i < 0 {
		return fmt.Errorf("setting %s does not exist", name)
	}
	if rows[i].Text("value") == value {
		a.unchanged++
		return nil
	}
	if _, err := a.API.Run(ctx, "updateConfiguration", map[string]string{"name": name, "value": value}); err != nil {
		return fmt.Errorf("setting %s: %w", name, err)
	}
	a.say("changed setting " + name)
	return nil
}

// poll asks until done says so or Wait is over; what is what was waited for.
func (a *Applier) poll(ctx context.Context, what string, done func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, a.Wait, errors.New("it did not come in time"))
	defer cancel()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := done(ctx)
		if err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s for %s: %w", what, a.Wait, context.Cause(ctx))
		case <-tick.C:
		}
	}
}
