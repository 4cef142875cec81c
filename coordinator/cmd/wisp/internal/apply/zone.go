package apply

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/wispcloud/wisp/coordinator/cmd/wisp/internal/client"
)

// zone makes a zone and all that is in it, and enables it last.
func (a *Applier) zone(ctx context.Context, z Zone) error {
	params := maps.Clone(z.Params)
	state := params["allocationstate"]
	delete(params, "allocationstate")
	row, err := a.ensure(ctx, zone, params, nil)
	if err != nil {
		return err
	}
	if err := a.zoneContent(ctx, z, map[string]string{"zoneid": row.Text("id")}); err != nil {
		return fmt.Errorf("zone %s: %w", params["name"], err)
	}
	if state == "" {
		state = "Enabled"
	}
	return a.state(ctx, "zone "+params["name"], row, "allocationstate", state, "updateZone")
}

func (a *Applier) zoneContent(ctx context.Context, z Zone, in map[string]string) error {
	for _, n := range z.PhysicalNetworks {
		if err := a.physicalNetwork(ctx, n, in); err != nil {
			return err
		}
	}
	for _, r := range z.PublicIPRanges {
		r = maps.Clone(r)
		r["forvirtualnetwork"] = "true"
		if _, err := a.ensure(ctx, publicRange, r, in); err != nil {
			return err
		}
	}
	for _, p := range z.Pods {
		if err := a.pod(ctx, p, in); err != nil {
			return err
		}
	}
	for _, s := range z.SecondaryStorage {
		if _, err := a.ensure(ctx, secondaryStorage, s, in); err != nil {
			return err
		}
	}
	for _, s := range z.StoragePools {
		if _, err := a.ensure(ctx, storagePool, s, in); err != nil {
			return err
		}
	}
	return nil
}

// state brings an object's state field to want.
func (a *Applier) state(ctx context.Context, label string, row client.Object, field, want, update string) error {
	if strings.EqualFold(row.Text(field), want) {
		return nil
	}
	if _, err := a.API.Run(ctx, update, map[string]string{"id": row.Text("id"), field: want}); err != nil {
		return err
	}
	a.say("changed " + label + " (" + field + "=" + want + ")")
	return nil
}

func (a *Applier) physicalNetwork(ctx context.Context, n PhysicalNetwork, in map[string]string) error {
	row, err := a.ensure(ctx, physicalNetwork, n.Params, in)
	if err != nil {
		return err
	}
	id := row.Text("id")
	under := map[string]string{"physicalnetworkid": id}
	for _, t := range n.TrafficTypes {
		if _, err := a.ensure(ctx, trafficType, t, under); err != nil {
			return fmt.Errorf("physical network %s: %w", n.Params["name"], err)
		}
	}
	if err := a.state(ctx, "physical network "+n.Params["name"], client.Object{"id": id, "state": row["state"]}, "state", "Enabled",
		"updatePhysicalNetwork"); err != nil {
		return err
	}
	for _, p := range n.Providers {
		if err := a.provider(ctx, p, under); err != nil {
			return fmt.Errorf("physical network %s: provider %s: %w", n.Params["name"], p, err)
		}
	}
	return nil
}

// provider enables a network service provider and its element.
func (a *Applier) provider(ctx context.Context, name string, under map[string]string) error {
	rows, err := a.API.List(ctx, "listNetworkServiceProviders", "networkserviceprovider", under)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(rows, func(o client.Object) bool { return o.Text("name") == name })
	if i < 0 {
		return fmt.Errorf("it does not exist on this physical network")
	}
	if strings.EqualFold(rows[i].Text("state"), "Enabled") {
		a.unchanged++
		return nil
	}
	elements, err := a.API.List(ctx, "listVirtualRouterElements", "virtualrouterelement", map[string]string{"nspid": rows[i].Text("id")})
	if err != nil {
		return err
	}
	for _, e := range elements {
		if e.Text("enabled") == "true" {
			continue
		}
		if _, err := a.API.Run(ctx, "configureVirtualRouterElement", map[string]string{"id": e.Text("id"), "enabled": "true"}); err != nil {
			return err
		}
	}
	return a.state(ctx, "provider "+name, rows[i], "state", "Enabled", "updateNetworkServiceProvider")
}

func (a *Applier) pod(ctx context.Context, p Pod, in map[string]string) error {
	row, err := a.ensure(ctx, pod, p.Params, in)
	if err != nil {
		return err
	}
	in = map[string]string{"zoneid": in["zoneid"], "podid": row.Text("id")}
	for _, c := range p.Clusters {
		if err := a.cluster(ctx, c, in); err != nil {
			return fmt.Errorf("pod %s: %w", p.Params["name"], err)
		}
	}
	return nil
}

func (a *Applier) cluster(ctx context.Context, c Cluster, in map[string]string) error {
	params := maps.Clone(c.Params)
	if params["hypervisor"] == "" {
		params["hypervisor"] = "KVM"
	}
	if params["clustertype"] == "" {
		params["clustertype"] = "CloudManaged"
	}
	row, err := a.ensure(ctx, cluster, params, in)
	if err != nil {
		return err
	}
	in = map[string]string{"zoneid": in["zoneid"], "podid": in["podid"], "clusterid": row.Text("id")}
	for _, h := range c.Hosts {
		if err := a.host(ctx, h, in); err != nil {
			return fmt.Errorf("cluster %s: host %s: %w", params["clustername"], h["name"], err)
		}
	}
	for _, s := range c.StoragePools {
		if _, err := a.ensure(ctx, storagePool, s, in); err != nil {
			return err
		}
	}
	return nil
}

// host adopts a host whose agent has joined, or joins while apply waits, and waits until it is up.
func (a *Applier) host(ctx context.Context, p Params, in map[string]string) error {
	name := p["name"]
	if name == "" {
		return fmt.Errorf("a host needs the field name")
	}
	look := func(ctx context.Context) (client.Object, error) {
		rows, err := a.API.List(ctx, "listHosts", "host", map[string]string{"name": name})
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(rows, func(o client.Object) bool { return o.Text("name") == name })
		if i < 0 {
			return nil, nil
		}
		return rows[i], nil
	}
	adopted := false
	return a.poll(ctx, "host "+name+" to join and come up", func(ctx context.Context) (bool, error) {
		row, err := look(ctx)
		if err != nil || row == nil {
			return false, err
		}
		if row.Text("clusterid") == "" {
			params := map[string]string{"url": "http://" + name, "username": "root", "password": "-", "hypervisor": "KVM"}
			maps.Copy(params, in)
			for k, v := range p {
				if k != "name" {
					params[k] = v
				}
			}
			if _, err := a.API.Run(ctx, "addHost", params); err != nil {
				return false, err
			}
			a.say("created host " + name)
			adopted = true
			return false, nil
		}
		up := row.Text("state") == "Up"
		if up && !adopted {
			a.unchanged++
		}
		return up, nil
	})
}
