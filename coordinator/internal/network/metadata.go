package network

import (
	"maps"

	"github.com/wispcloud/wisp/coordinator/internal/alloc"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
	"github.com/wispcloud/wisp/proto/netspec"
)

// data is what a guest reads at latest/user-data and latest/meta-data, under the names of CloudStack's router. The name
// of the hypervisor host is left out: it is nothing for guests to know.
func (v *rendering) data(g guest) *netspec.GuestData {
	meta := maps.Clone(g.vm.UserDataDetails) // the variables of its user-data, for templates in it
	if meta == nil {
		meta = map[string]string{}
	}
	maps.Copy(meta, map[string]string{
		"availability-zone": v.zone.Name,
		"local-ipv4":        g.nic.IP.String(),
		"local-hostname":    g.vm.Name,
		"instance-id":       g.vm.ID.String(),
		"vm-id":             g.vm.ID.String(),
		"cloud-identifier":  "CloudStack-{" + v.zone.ID.String() + "}",
	})
	if o, ok := tables.ServiceOfferings.Get(v.r, g.vm.OfferingID); ok {
		meta["service-offering"] = o.Name
	}
	if len(v.public) > 0 && v.public[0].ip.SourceNAT {
		meta["public-ipv4"] = v.public[0].ip.Address.String()
		meta["public-hostname"] = v.public[0].ip.Address.String()
	}
	if g.vm.PublicKey != "" {
		meta["public-keys"] = g.vm.PublicKey
	}
	return &netspec.GuestData{
		Ip: g.nic.IP.String(), Mac: alloc.FormatMAC(g.nic.MAC), MetaData: meta, UserData: []byte(v.secret("user data", g.vm.ID, g.vm.UserData)),
	}
}

// password is what a guest is handed once: empty when it has taken the newest one.
func (v *rendering) password(g guest) *netspec.GuestPassword {
	p := &netspec.GuestPassword{Ip: g.nic.IP.String(), Mac: alloc.FormatMAC(g.nic.MAC), Epoch: g.vm.PasswordEpoch}
	if g.vm.PasswordTaken < g.vm.PasswordEpoch {
		p.Password = v.secret("password", g.vm.ID, g.vm.Password)
	}
	return p
}

func (v *rendering) secret(what string, vm cloud.ID, sealed cloud.Sealed) string {
	if len(sealed) == 0 {
		return ""
	}
	text, err := v.open.Open(sealed)
	if err != nil {
		v.log.Error("could not open a secret", "what", what, "vm", vm, "error", err)
	}
	return text
}
