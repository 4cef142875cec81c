package apply

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// networkOffering makes a network offering with its services and enables it.
func (a *Applier) networkOffering(ctx context.Context, o NetworkOffering) error {
	params := maps.Clone(o.Params)
	services := slices.Sorted(maps.Keys(o.Services))
	params["supportedservices"] = strings.Join(services, ",")
	for i, s := range services {
		params[fmt.Sprintf("serviceproviderlist[%d].service", i)] = s
		params[fmt.Sprintf("serviceproviderlist[%d].provider", i)] = o.Services[s]
	}
	i := 0
	for _, s := range slices.Sorted(maps.Keys(o.Capabilities)) {
		for _, c := range slices.Sorted(maps.Keys(o.Capabilities[s])) {
			params[fmt.Sprintf("servicecapabilitylist[%d].service", i)] = s
			params[fmt.Sprintf("servicecapabilitylist[%d].capabilitytype", i)] = c
			params[fmt.Sprintf("servicecapabilitylist[%d].capabilityvalue", i)] = o.Capabilities[s][c]
			i++
		}
	}
	row, err := a.ensure(ctx, networkOfferingKind, params, nil)
	if err != nil {
		return err
	}
	return a.state(ctx, "network offering "+params["name"], row, "state", "Enabled", "updateNetworkOffering")
}

// template registers a template and waits until it is ready.
func (a *Applier) template(ctx context.Context, p Params) error {
	row, err := a.ensure(ctx, templateKind, p, nil)
	if err != nil {
		return err
	}
	resolved, err := a.resolve(ctx, p)
	if err != nil {
		return err
	}
	zone := map[string]string{}
	if id := resolved["zoneid"]; id != "-1" {
		zone["zoneid"] = id
	}
	return a.poll(ctx, "template "+p["name"]+" to be downloaded", func(ctx context.Context) (bool, error) {
		if row.Text("isready") == "true" {
			return true, nil
		}
		if status := row.Text("status"); strings.Contains(strings.ToLower(status), "fail") {
			return false, fmt.Errorf("template %s: %s", p["name"], status)
		}
		found, err := a.find(ctx, templateKind, p, zone)
		if err == nil && found == nil {
			err = fmt.Errorf("template %s is gone", p["name"])
		}
		row = found
		return false, err
	})
}
