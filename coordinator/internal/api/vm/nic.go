package vm

import (
	"encoding/base64"
	"fmt"
	"iter"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

type nicParams struct {
	api.ListParams
	VMID      cloud.ID `api:"virtualmachineid,required" ref:"virtualmachine" doc:"the VM"`
	NetworkID cloud.ID `api:"networkid" ref:"network,use" doc:"NICs in this network"`
	NICID     cloud.ID `api:"nicid" doc:"this NIC only"`
}

func nics() api.Command {
	return api.Command{
		Name: "listNics", Doc: "Lists the NICs of a VM.", Since: "4.2", Roles: api.Everyone, Object: "nic",
		Run: api.List(api.Lister[nicParams, cloud.NIC, NICAnswer]{
			Rows: func(c *api.Call, p *nicParams) (iter.Seq[*cloud.NIC], error) {
				return func(yield func(*cloud.NIC) bool) {
					for nic := range tables.NICs.By(c.Read, "vm", store.K(p.VMID)) {
						if (p.NetworkID.IsZero() || p.NetworkID == nic.NetworkID) && (p.NICID.IsZero() || p.NICID == nic.ID) && !yield(nic) {
							return
						}
					}
				}, nil
			},
			View: func(c *api.Call, nic *cloud.NIC) NICAnswer { return viewNIC(c.Read, nic) },
		}),
	}
}

// UserDataAnswer is what a VM was deployed with.
type UserDataAnswer struct {
	VMID     cloud.ID `json:"virtualmachineid" doc:"the VM"`
	UserData string   `json:"userdata" doc:"its user-data, base64; empty when it has none"`
}

type userDataParams struct {
	VMID cloud.ID `api:"virtualmachineid,required" ref:"virtualmachine" doc:"the VM"`
}

func (h handlers) userData() api.Command {
	return api.Command{
		Name: "getVirtualMachineUserData", Doc: "Tells the user-data of a VM.", Since: "4.4", Roles: api.Everyone, Object: "virtualmachineuserdata",
		Run: api.Query(func(c *api.Call, p *userDataParams) (UserDataAnswer, error) {
			vm, err := get(c.Read, p.VMID)
			if err != nil {
				return UserDataAnswer{}, err
			}
			text, err := c.Seal.Open(vm.UserData)
			if err != nil {
				return UserDataAnswer{}, fmt.Errorf("open the user-data of VM %s: %w", vm.ID, err)
			}
			return UserDataAnswer{VMID: vm.ID, UserData: base64.StdEncoding.EncodeToString([]byte(text))}, nil
		}),
	}
}
