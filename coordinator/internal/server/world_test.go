package server

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/replica/replicatest"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// world is the whole program without its loops, so that rows stay as a test wrote them, with two domains beside each
// other. Its callers: "root"; "domain admin" and "user" of the first domain, which has "neighbour", too; "foreigner" of
// the second.
type world struct {
	*Server
	t       *testing.T
	web     http.Handler
	callers map[string]*cloud.User
}

func newWorld(t *testing.T) *world {
	t.Helper()
	s, err := Open(t.Context(), testConfig(t, "one"), "test", slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	replicatest.Wait(t, 20*time.Second, "the first rows", func() error { return s.bootstrap(t.Context()) })
	w := &world{s, t, s.handler(), map[string]*cloud.User{}}
	w.update(func(tx *store.Tx) error {
		root := identity.Root(tx)
		first, err := identity.CreateDomain(tx, root.ID, "first", "")
		if err != nil {
			return err
		}
		second, err := identity.CreateDomain(tx, root.ID, "second", "")
		if err != nil {
			return err
		}
		return errors.Join(
			w.person(tx, "root", cloud.RootAdminAccount, root), w.person(tx, "domain admin", cloud.DomainAdminAccount, first),
			w.person(tx, "user", cloud.UserAccount, first), w.person(tx, "neighbour", cloud.UserAccount, first),
			w.person(tx, "foreigner", cloud.UserAccount, second),
		)
	})
	return w
}

func (w *world) update(f func(tx *store.Tx) error) {
	w.t.Helper()
	if err := w.replica.Update(w.t.Context(), f); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) read() store.Reader { return w.replica.DB().Current() }

func (w *world) person(tx *store.Tx, name string, kind cloud.AccountType, d *cloud.Domain) error {
	a, err := identity.CreateAccount(tx, identity.AccountSpec{Name: name, Type: kind, DomainID: d.ID})
	if err != nil {
		return err
	}
	u, err := identity.CreateUser(tx, identity.UserSpec{
		AccountID: a.ID, Username: name, FirstName: name, LastName: "Test", Email: "test@example.org", PasswordHash: passwordHash,
	})
	if err != nil {
		return err
	}
	w.callers[name] = u
	return identity.SetKeys(tx, w.seal, u.ID, name+" key", cloud.Secret(name+" secret"))
}

// password is everybody's; hashing takes its time, so once.
const password = "correct horse"

var passwordHash = identity.HashPassword(password)

// answered is what a call got.
type answered struct {
	code     int
	raw      string
	envelope string
	object   map[string]any
}

// call makes a signed call.
func (w *world) call(caller, command string, params ...string) answered {
	w.t.Helper()
	v := url.Values{"command": {command}, "response": {"json"}, "apiKey": {caller + " key"}}
	for i := 0; i < len(params); i += 2 {
		v.Set(params[i], params[i+1])
	}
	v.Set("signature", api.Sign(v, cloud.Secret(caller+" secret")))
	return w.send(v)
}

// send posts a form.
func (w *world) send(v url.Values) answered {
	w.t.Helper()
	q := httptest.NewRequest(http.MethodPost, "/client/api", strings.NewReader(v.Encode()))
	q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res := httptest.NewRecorder()
	w.web.ServeHTTP(res, q)
	a := answered{code: res.Code, raw: res.Body.String()}
	var top map[string]map[string]any
	if err := json.Unmarshal(res.Body.Bytes(), &top); err != nil || len(top) != 1 {
		w.t.Fatalf("%s: no answer in an envelope: %v %s", v.Get("command"), err, a.raw)
	}
	for a.envelope, a.object = range top { //nolint:revive // the only one
	}
	return a
}

func (w *world) must(caller, command string, params ...string) answered {
	w.t.Helper()
	a := w.call(caller, command, params...)
	if a.code != http.StatusOK {
		w.t.Fatalf("%s by %s: %s", command, caller, a.raw)
	}
	return a
}

// list is the rows of a list.
func (a answered) list(key string) (rows []map[string]any) {
	all, _ := a.object[key].([]any)
	for _, x := range all {
		if m, ok := x.(map[string]any); ok {
			rows = append(rows, m)
		}
	}
	return rows
}

// text is errortext.
func (a answered) text() string {
	s, _ := a.object["errortext"].(string)
	return s
}

// estate is one row of everything that has an owner, by the name of its entity.
type estate map[string]cloud.ID

// infrastructure is one row of everything that has none.
func (w *world) infrastructure() estate {
	w.t.Helper()
	e := estate{}
	id := func(entity string) cloud.ID {
		e[entity] = cloud.NameID("infrastructure", entity)
		return e[entity]
	}
	w.update(func(tx *store.Tx) error {
		zone, pod, cluster, pn, sp := id("zone"), id("pod"), id("cluster"), id("physicalnetwork"), id("serviceprovider")
		for t := range tables.OSTypes.All(tx) {
			e["ostype"], e["oscategory"] = t.ID, t.CategoryID
			break
		}
		return errors.Join(
			tables.Roles.Put(tx, &cloud.Role{ID: id("role"), Name: "role"}),
			tables.Zones.Put(tx, &cloud.Zone{ID: zone, Name: "zone", AllocationState: cloud.AllocationEnabled, DNS1: netip.MustParseAddr("192.0.2.53")}),
			tables.Pods.Put(tx, &cloud.Pod{ID: pod, ZoneID: zone, Name: "pod"}),
			tables.Clusters.Put(tx, &cloud.Cluster{ID: cluster, ZoneID: zone, PodID: pod, Name: "cluster"}),
			tables.Hosts.Put(tx, &cloud.Host{ID: id("host"), ZoneID: zone, PodID: pod, ClusterID: cluster, Name: "host", Number: 1}),
			tables.VLANRanges.Put(tx, &cloud.VLANRange{ID: id("vlaniprange"), ZoneID: zone, PhysicalNetworkID: pn}),
			tables.PhysicalNetworks.Put(tx, &cloud.PhysicalNetwork{ID: pn, ZoneID: zone, Name: "physical"}),
			tables.ServiceProviders.Put(tx, &cloud.ServiceProvider{ID: sp, PhysicalNetworkID: pn, Name: "VirtualRouter"}),
			tables.ServiceOfferings.Put(tx, &cloud.ServiceOffering{ID: id("serviceoffering"), Name: "public", CPUs: 1, MemoryMiB: 64}),
			tables.DiskOfferings.Put(tx, &cloud.DiskOffering{ID: id("diskoffering"), Name: "public"}),
			tables.NetworkOfferings.Put(tx, &cloud.NetworkOffering{ID: id("networkoffering"), Name: "public", TrafficType: "Guest", State: cloud.OfferingEnabled}),
			tables.Templates.Put(tx, &cloud.Template{ID: id("template"), Name: "public", Public: true, State: cloud.TemplateReady, OSTypeID: e["ostype"]}),
		)
	})
	return e
}

// estateOf gives a caller one of everything, and a project that is empty. n tells estates apart where something is unique.
func (w *world) estateOf(caller string, n uint64, infra estate) estate {
	w.t.Helper()
	u := w.callers[caller]
	var project *cloud.Project
	w.update(func(tx *store.Tx) (err error) {
		owner, _ := tables.Accounts.Get(tx, u.AccountID)
		project, err = identity.CreateProject(tx, owner, "project of "+caller, "")
		return errors.Join(err, tables.ProjectInvitations.Put(tx, &cloud.ProjectInvitation{
			ID: cloud.NameID(caller, "projectinvitation"), ProjectID: project.ID, DomainID: u.DomainID, Email: "a@example.org",
		}), tables.CustomProjectRoles.Put(tx, &cloud.CustomProjectRole{
			ID: cloud.NameID(caller, "projectrole"), ProjectID: project.ID, Name: "role",
		}), tables.RolePermissions.Put(tx, &cloud.RolePermission{
			ID: cloud.NameID(caller, "projectrolepermission"), RoleID: cloud.NameID(caller, "projectrole"), Rule: "list*",
		}))
	})
	e := w.belongings(caller, holder{u.AccountID, u.DomainID, u.ID}, n, infra)
	e["account"], e["domain"], e["user"], e["project"] = u.AccountID, u.DomainID, u.ID, project.ID
	for _, entity := range []string{"projectinvitation", "projectrole", "projectrolepermission"} {
		e[entity] = cloud.NameID(caller, entity)
	}
	return e
}

// holder is whose rows are: an account's, or a project's, with a user who acts for it.
type holder struct{ account, domain, user cloud.ID }

// belongings gives an account one of everything that accounts own.
func (w *world) belongings(caller string, h holder, n uint64, infra estate) estate {
	w.t.Helper()
	a, d, zone := h.account, h.domain, infra["zone"]
	e := estate{}
	id := func(entity string) cloud.ID {
		e[entity] = cloud.NameID(caller, entity)
		return e[entity]
	}
	address := netip.AddrFrom4([4]byte{198, 18, byte(n >> 8), byte(n)})
	w.update(func(tx *store.Tx) error {
		net, vm, ip := id("network"), id("virtualmachine"), id("ipaddress")
		return errors.Join(
			tables.Networks.Put(tx, &cloud.Network{
				ID: net, Name: caller, AccountID: a, DomainID: d, ZoneID: zone, Number: n, OfferingID: infra["networkoffering"],
				PhysicalNetworkID: infra["physicalnetwork"], CIDR: netip.MustParsePrefix("10.1.1.0/24"), Gateway: netip.MustParseAddr("10.1.1.1"),
			}),
			tables.Routers.Put(tx, &cloud.Router{ID: id("router"), Name: "r-" + caller, NetworkID: net, AccountID: a, DomainID: d, ZoneID: zone}),
			tables.VMs.Put(tx, &cloud.VM{
				ID: vm, Name: "vm", InstanceName: "i-" + caller, AccountID: a, DomainID: d, ZoneID: zone, State: cloud.VMStopped,
				OfferingID: infra["serviceoffering"], TemplateID: infra["template"],
			}),
			tables.Volumes.Put(tx, &cloud.Volume{ID: id("volume"), Name: "ROOT", AccountID: a, DomainID: d, ZoneID: zone, VMID: vm, State: cloud.VolumeReady}),
			tables.PublicIPs.Put(tx, &cloud.PublicIP{
				ID: ip, Address: address, ZoneID: zone, State: cloud.IPAllocated, AccountID: a, DomainID: d, NetworkID: net,
			}),
			tables.FirewallRules.Put(tx, &cloud.FirewallRule{ID: id("firewallrule"), IPID: ip, NetworkID: net, AccountID: a, DomainID: d, Protocol: "tcp", State: cloud.RuleActive}),
			tables.FirewallRules.Put(tx, &cloud.FirewallRule{ID: id("egressfirewallrule"), NetworkID: net, AccountID: a, DomainID: d, Protocol: "tcp", State: cloud.RuleActive, Egress: true}),
			tables.PortForwardingRules.Put(tx, &cloud.PortForwardingRule{
				ID: id("portforwardingrule"), IPID: ip, NetworkID: net, AccountID: a, DomainID: d, Protocol: "tcp", VMID: vm, State: cloud.RuleActive,
			}),
			tables.PortForwardingRules.Put(tx, &cloud.PortForwardingRule{
				ID: id("ipforwardingrule"), IPID: ip, NetworkID: net, AccountID: a, DomainID: d, Protocol: "tcp", VMID: vm, State: cloud.RuleActive, Static: true,
			}),
			tables.Templates.Put(tx, &cloud.Template{ID: id("template"), Name: "private", AccountID: a, DomainID: d, State: cloud.TemplateReady, OSTypeID: infra["ostype"]}),
			tables.InstanceGroups.Put(tx, &cloud.InstanceGroup{ID: id("instancegroup"), Name: "group", AccountID: a, DomainID: d}),
			tables.AffinityGroups.Put(tx, &cloud.AffinityGroup{ID: id("affinitygroup"), Name: "group", AccountID: a, DomainID: d}),
			tables.UserDatas.Put(tx, &cloud.UserData{ID: id("userdata"), Name: "data", AccountID: a, DomainID: d}),
			tables.SSHKeyPairs.Put(tx, &cloud.SSHKeyPair{ID: id("sshkeypair"), Name: "key", AccountID: a, DomainID: d}),
			tables.Annotations.Put(tx, &cloud.Annotation{ID: id("annotation"), EntityType: "VM", EntityID: vm, Text: "text", UserID: h.user, AccountID: a, DomainID: d}),
			tables.ResourceDetails.Put(tx, &cloud.ResourceDetail{ID: cloud.NameID(caller, "detail"), ResourceType: "UserVm", ResourceID: vm, Key: "key", Value: caller}),
			tables.Jobs.Put(tx, &cloud.Job{ID: id("asyncjobs"), Command: "startVirtualMachine", UserID: h.user, AccountID: a, DomainID: d, Status: cloud.JobSucceeded, Result: w.seal.Seal(`{"success":true}`)}),
			tables.Events.Put(tx, &cloud.Event{ID: id("event"), Type: "VM.START", UserID: h.user, AccountID: a, DomainID: d, Created: tx.Now(), ResourceID: vm}),
			tables.Zones.Put(tx, &cloud.Zone{ID: id("zone"), Name: "zone of " + caller, DomainID: d, AllocationState: cloud.AllocationEnabled}),
			tables.ServiceOfferings.Put(tx, &cloud.ServiceOffering{ID: id("serviceoffering"), Name: "of " + caller, CPUs: 1, MemoryMiB: 64, DomainIDs: []cloud.ID{d}}),
			tables.DiskOfferings.Put(tx, &cloud.DiskOffering{ID: id("diskoffering"), Name: "of " + caller, DomainIDs: []cloud.ID{d}}),
			tables.NetworkOfferings.Put(tx, &cloud.NetworkOffering{ID: id("networkoffering"), Name: "of " + caller, TrafficType: "Guest", State: cloud.OfferingEnabled, DomainIDs: []cloud.ID{d}}),
			w.tagAll(tx, caller, e, a, d),
		)
	})
	return e
}

// tagAll puts a tag at everything that an account has; its value is the account's name in the test.
func (w *world) tagAll(tx *store.Tx, caller string, e estate, a, d cloud.ID) error {
	for entity, id := range e {
		err := tables.Tags.Put(tx, &cloud.Tag{
			ID: cloud.NameID(caller, "tag of "+entity), ResourceType: "UserVm", ResourceID: id, Key: "of", Value: caller, AccountID: a, DomainID: d,
		})
		if err != nil {
			return err
		}
	}
	return nil
}
