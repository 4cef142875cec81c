package vm

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"reflect"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/compute"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

type updateParams struct {
	ID             cloud.ID          `api:"id,required" ref:"virtualmachine" doc:"the VM"`
	Name           string            `api:"name" since:"4.4" doc:"new host name; the VM must be stopped"`
	DisplayName    string            `api:"displayname" doc:"new name for people"`
	Group          *string           `api:"group" doc:"new instance group"`
	HA             *bool             `api:"haenable" doc:"restart it when it dies by itself"`
	OSTypeID       cloud.ID          `api:"ostypeid" ref:"ostype" doc:"new OS type; the VM must be stopped"`
	UserData       string            `api:"userdata" len:"1048576" doc:"new user-data, base64; read by the guest at its next boot"`
	UserDataID     cloud.ID          `api:"userdataid" ref:"userdata" since:"4.18" doc:"kept user-data instead of userdata"`
	UserDataValues map[string]string `api:"userdatadetails,map" since:"4.18" doc:"values of the variables of the user-data"`
	Details        map[string]string `api:"details,map" since:"4.4" doc:"new details, instead of the present ones"`
	DynamicScaling *bool             `api:"isdynamicallyscalable" since:"4.2" doc:"whether CPU and memory may change while it runs"`
}

func (h handlers) update() api.Command {
	return api.Command{
		Name: "updateVirtualMachine", Doc: "Changes what can be changed of a VM without moving it.", Roles: api.Everyone,
		Event: "VM.UPDATE", Entity: "VirtualMachine", Object: "virtualmachine",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *updateParams) (Answer, error) {
			vm, err := get(tx, p.ID)
			if err != nil {
				return Answer{}, err
			}
			c.Describe(vm.ID, "changing VM "+vm.DisplayName)
			if err := h.apply(tx, vm, p); err != nil {
				return Answer{}, err
			}
			return View(tx, vm, Viewer{Admin: c.IsRoot()}), tables.VMs.Put(tx, vm)
		}),
	}
}

func (h handlers) apply(tx *store.Tx, vm *cloud.VM, p *updateParams) error {
	stopped := vm.State == cloud.VMStopped
	if p.Name != "" && p.Name != vm.Name {
		if !stopped {
			return cloud.Errorf(cloud.Invalid, "Unable to change the name of VM %s: it is %s, and must be Stopped", vm.ID, vm.State)
		}
		if err := h.Area.Rename(tx, vm, p.Name); err != nil {
			return err
		}
	}
	if !p.OSTypeID.IsZero() && p.OSTypeID != vm.OSTypeID {
		if !stopped {
			return cloud.Errorf(cloud.Invalid, "Unable to change the OS type of VM %s: it is %s, and must be Stopped", vm.ID, vm.State)
		}
		vm.OSTypeID = p.OSTypeID
	}
	if p.DisplayName != "" {
		vm.DisplayName = p.DisplayName
	}
	if p.Group != nil {
		if err := compute.SetGroup(tx, vm, *p.Group); err != nil {
			return err
		}
	}
	if p.HA != nil {
		vm.HA = *p.HA
	}
	if p.DynamicScaling != nil {
		vm.DynamicScaling = *p.DynamicScaling
	}
	if p.Details != nil {
		vm.Details = p.Details
	}
	if p.UserData == "" && p.UserDataID.IsZero() {
		return nil
	}
	q, err := userData(tx, p.UserData, p.UserDataID, p.UserDataValues)
	if err != nil {
		return err
	}
	return h.Area.SetUserData(tx, vm, q)
}

type resetPasswordParams struct {
	ID       cloud.ID     `api:"id,required" ref:"virtualmachine" doc:"the VM"`
	Password cloud.Secret `api:"password" since:"4.19" doc:"password instead of a random one"`
}

func (h handlers) resetPassword() api.Command {
	return api.Command{
		Name: "resetPasswordForVirtualMachine", Doc: "Gives a stopped VM a new password, which its guest takes at the next start.",
		Roles: api.Everyone, Event: "VM.RESETPASSWORD", Entity: "VirtualMachine", Object: "virtualmachine",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *resetPasswordParams) (*api.Start, error) {
			vm, err := get(tx, p.ID)
			if err != nil {
				return nil, err
			}
			c.Describe(vm.ID, "resetting the password of VM "+vm.DisplayName)
			if err := h.Area.ResetPassword(tx, vm, string(p.Password), c.Account.ID); err != nil {
				return nil, err
			}
			return jobOf(vm, stopDeadline, args{Password: vm.PasswordEpoch}), nil
		}),
		Step:   func(*store.Tx, *job.State) (job.Outcome, error) { return job.Done(), nil },
		Answer: reflect.TypeFor[Answer](), Result: h.result,
	}
}

type passwordParams struct {
	ID cloud.ID `api:"id,required" ref:"virtualmachine" doc:"the VM"`
}

// PasswordAnswer is a password that only the owner of the VM's private key can read.
type PasswordAnswer struct {
	Encrypted string `json:"encryptedpassword" doc:"the password, encrypted with the VM's SSH public key (RSA, PKCS #1 v1.5), base64"`
}

func (h handlers) password() api.Command {
	return api.Command{
		Name: "getVMPassword", Doc: "Tells a VM's password, encrypted for the SSH key it was deployed with.", Roles: api.Everyone,
		Entity: "VirtualMachine", Object: "password",
		Run: api.Query(func(c *api.Call, p *passwordParams) (PasswordAnswer, error) {
			vm, err := get(c.Read, p.ID)
			if err != nil {
				return PasswordAnswer{}, err
			}
			plain, err := c.Seal.Open(vm.Password)
			if err != nil {
				return PasswordAnswer{}, err
			}
			if plain == "" || vm.PublicKey == "" {
				return PasswordAnswer{}, cloud.Errorf(cloud.Invalid, "No password for VM with id '%s' found. "+
					"It needs a template that takes passwords and an RSA SSH key pair.", vm.ID)
			}
			return encryptFor(vm.PublicKey, plain)
		}),
	}
}

func encryptFor(authorized, plain string) (PasswordAnswer, error) {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(strings.TrimSpace(authorized)))
	if err != nil {
		return PasswordAnswer{}, cloud.Errorf(cloud.Invalid, "The VM's SSH public key cannot be read: %w", err)
	}
	c, ok := key.(ssh.CryptoPublicKey)
	if !ok {
		return PasswordAnswer{}, cloud.Errorf(cloud.Invalid, "The VM's SSH key is of type %s; an RSA key is needed", key.Type())
	}
	pub, ok := c.CryptoPublicKey().(*rsa.PublicKey)
	if !ok {
		return PasswordAnswer{}, cloud.Errorf(cloud.Invalid, "The VM's SSH key is of type %s; an RSA key is needed", key.Type())
	}
	b, err := rsa.EncryptPKCS1v15(rand.Reader, pub, []byte(plain)) //nolint:staticcheck // clients decrypt so, with openssl rsautl
	if err != nil {
		return PasswordAnswer{}, cloud.Errorf(cloud.Internal, "encrypt the password: %w", err)
	}
	return PasswordAnswer{Encrypted: base64.StdEncoding.EncodeToString(b)}, nil
}
