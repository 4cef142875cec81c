package compute

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Deployment is a new VM as it was asked for. References are resolved and checked for access by the caller.
type Deployment struct {
	Account  *cloud.Account
	Zone     *cloud.Zone
	Template *cloud.Template
	Offering *cloud.ServiceOffering
	// Networks in order; the first is the default one unless Nics say otherwise.
	Networks []NetworkRequest
	// Name is the host name asked for; empty gives one.
	Name, DisplayName, Group string
	UserData                 UserDataRequest
	KeyPairs                 []*cloud.SSHKeyPair
	// Affinity are groups of the account.
	Affinity []*cloud.AffinityGroup
	// By is the account that asks; Keyboard the layout of the console.
	By       cloud.ID
	Keyboard string
	// Host pins the first start.
	Host     cloud.ID
	Start    bool
	RootGiB  uint64
	DataDisk *DataDisk
	Details  map[string]string
	// Password is used instead of a random one, where the template takes passwords.
	Password string
}

// NetworkRequest is one network of a Deployment.
type NetworkRequest struct {
	Network *cloud.Network
	NICRequest
}

// DataDisk is a further volume.
type DataDisk struct {
	Offering *cloud.DiskOffering
	Bytes    uint64
}

// maxUserData is the most raw user-data that is kept, in bytes (CloudStack's vm.userdata.max.length).
const maxUserData = 32 << 10

// Deploy writes the rows of a new VM: the VM, its volumes and its NICs, counted against the account's limits. With
// d.Start the VM is left in Starting, without a host: StartStep chooses one.
//
// Errors: cloud.Invalid for values, cloud.LimitExceeded, cloud.NoCapacity for addresses, cloud.Unavailable for a zone or
// template that cannot be used now.
func (a *Area) Deploy(tx *store.Tx, d *Deployment) (*cloud.VM, error) {
	if err := errors.Join(mayRun(tx, d.Account.ID, d.Name), checkDeployable(tx, d)); err != nil {
		return nil, err
	}
	number, err := next(tx, "vm.number")
	if err != nil {
		return nil, err
	}
	vm := &cloud.VM{
		ID: tx.NewID(), AccountID: d.Account.ID, DomainID: d.Account.DomainID, ZoneID: d.Zone.ID,
		State: cloud.VMStopped, TemplateID: d.Template.ID, OfferingID: d.Offering.ID, OSTypeID: d.Template.OSTypeID,
		HA:       d.Offering.OfferHA,
		Keyboard: d.Keyboard, Created: tx.Now(), WantedHostID: d.Host, Details: d.Details, Number: number,
		Hypervisor: "KVM", PasswordEnabled: d.Template.PasswordEnabled,
		InstanceName: fmt.Sprintf("i-%d-%d-%s", d.Account.Number, number, instanceName.Text(tx)),
	}
	if err := setSize(vm, d.Offering, d.Details); err != nil {
		return nil, err
	}
	vm.Name, vm.DisplayName = d.Name, d.DisplayName
	if vm.Name == "" {
		vm.Name = "VM-" + vm.ID.String()
	}
	if vm.DisplayName == "" {
		vm.DisplayName = vm.Name
	}
	if err := a.setSecrets(tx, vm, d); err != nil {
		return nil, err
	}
	setKeys(vm, d.KeyPairs)
	if err := errors.Join(SetGroup(tx, vm, d.Group), SetAffinity(tx, vm, d.Affinity)); err != nil {
		return nil, err
	}
	vm.Uncounted = true
	if err := a.count(tx, vm, d.Start || !runningOnly.Bool(tx)); err != nil {
		return nil, err
	}
	if err := a.createVolumes(tx, vm, d); err != nil {
		return nil, err
	}
	for i, n := range d.Networks {
		if err := checkNameFree(tx, n.Network, vm.Name, vm.ID); err != nil {
			return nil, err
		}
		n.DeviceID = uint32(i)
		if _, err := a.Net.AllocateNIC(tx, vm, n.Network, n.NICRequest); err != nil {
			return nil, err
		}
	}
	if d.Start {
		vm.State, vm.StartEpoch = cloud.VMStarting, 1
	}
	return vm, tables.VMs.Put(tx, vm)
}

func checkDeployable(r store.Reader, d *Deployment) error {
	switch {
	case d.Zone.AllocationState != cloud.AllocationEnabled && !isRoot(r, d.By):
		return cloud.Errorf(cloud.Denied, "Cannot perform this operation, Zone is currently disabled: %s", d.Zone.ID)
	case d.Template.State != cloud.TemplateReady:
		return cloud.Errorf(cloud.Invalid, "Unable to use template %s: it is not ready yet", d.Template.ID)
	case d.Template.Type == cloud.TemplateSystem:
		return cloud.Errorf(cloud.Invalid, "Unable to use template %s: it is a system VM template", d.Template.ID)
	case d.Template.ISO:
		return cloud.Errorf(cloud.Invalid, "Unable to use template %s: deploying from an ISO is not supported", d.Template.ID)
	case len(d.Networks) == 0:
		return cloud.Errorf(cloud.Invalid, "Unable to deploy the VM: no network is given in networkids and the account has none in zone %s",
			d.Zone.Name)
	case len(d.Offering.ZoneIDs) > 0 && !slices.Contains(d.Offering.ZoneIDs, d.Zone.ID):
		return cloud.Errorf(cloud.Invalid, "Unable to use service offering %s in zone %s: it is restricted to other zones", d.Offering.ID, d.Zone.Name)
	}
	if d.Name != "" {
		if err := CheckHostname("name", d.Name); err != nil {
			return err
		}
	}
	return nil
}

// CheckHostname refuses what is no DNS label (RFC 1123: 1 to 63 letters, digits and hyphens, none at an end), and a
// name of digits alone, which resolvers take for an address.
func CheckHostname(parameter, name string) error {
	ok := len(name) >= 1 && len(name) <= 63 && name[0] != '-' && name[len(name)-1] != '-'
	digits := true
	for i := range len(name) {
		c := name[i]
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		digit := c >= '0' && c <= '9'
		ok = ok && (letter || digit || c == '-')
		digits = digits && digit
	}
	if !ok || digits {
		return cloud.Errorf(cloud.Invalid, "Invalid name %q in parameter %s: a VM name has 1 to 63 ASCII letters, digits and hyphens, "+
			"begins and ends with a letter or digit, and is no number", name, parameter)
	}
	return nil
}

// checkNameFree refuses a host name that another VM of the network has: DNS could not tell them apart.
func checkNameFree(r store.Reader, n *cloud.Network, name string, vm cloud.ID) error {
	nic, taken := tables.NICs.First(r, "name", store.K(n.ID, strings.ToLower(name)))
	if taken && nic.VMID != vm {
		return cloud.Errorf(cloud.Invalid, "The vm with hostName %s already exists in the network domain: %s; network=%s",
			name, n.NetworkDomain, n.Name)
	}
	return nil
}

func (a *Area) setSecrets(r store.Reader, vm *cloud.VM, d *Deployment) error {
	if err := a.SetUserData(r, vm, d.UserData); err != nil {
		return err
	}
	vnc, err := RandomPassword(8) // VNC authentication uses no more than eight characters (RFC 6143, 7.2.2)
	if err != nil {
		return err
	}
	vm.VNCPassword = a.Seal.Seal(vnc)
	if !d.Template.PasswordEnabled {
		return nil
	}
	return a.setPassword(vm, d.Password, d.By)
}

// setPassword gives the VM a new password, a random one when password is empty, to be handed out at its next boot.
// by is the account that asks for it.
func (a *Area) setPassword(vm *cloud.VM, password string, by cloud.ID) error {
	var err error
	if password == "" {
		if password, err = RandomPassword(12); err != nil {
			return err
		}
	}
	vm.PasswordEpoch++
	vm.PasswordBy = by
	vm.Password = a.Seal.Seal(password)
	return nil
}

// RandomPassword gives n characters that are easy to tell apart, about 5.7 bits each.
func RandomPassword(n int) (string, error) {
	const letters = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"
	b := make([]byte, n)
	for i := range b {
		k, err := rand.Int(rand.Reader, big.NewInt(int64(len(letters))))
		if err != nil {
			return "", fmt.Errorf("make a password: %w", err)
		}
		b[i] = letters[k.Int64()]
	}
	return string(b), nil
}

// DecodeUserData reads the userdata parameter: base64, standard or URL alphabet, padded or not. One client encodes it
// for URLs twice, hence a remaining "%3D".
func DecodeUserData(s string) ([]byte, error) {
	s = strings.NewReplacer("%3D", "=", "%3d", "=", "%2B", "+", "%2b", "+", "%2F", "/", "%2f", "/", " ", "+", "\n", "", "\r", "").Replace(s)
	s = strings.TrimRight(s, "=")
	s = strings.NewReplacer("-", "+", "_", "/").Replace(s)
	b, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil {
		return nil, cloud.Errorf(cloud.Invalid, "User data is not valid base64 (parameter userdata): %w", err)
	}
	return b, nil
}

func (a *Area) createVolumes(tx *store.Tx, vm *cloud.VM, d *Deployment) error {
	size := d.Template.SizeBytes
	if d.RootGiB > 0 {
		if d.RootGiB<<30 < size {
			return cloud.Errorf(cloud.Invalid, "Invalid rootdisksize %d: the template needs at least %d GiB", d.RootGiB, (size+1<<30-1)>>30)
		}
		size = d.RootGiB << 30
	} else if d.Offering.RootDiskGiB<<30 > size {
		size = d.Offering.RootDiskGiB << 30
	}
	root := &cloud.Volume{
		ID: tx.NewID(), Name: fmt.Sprintf("ROOT-%d", vm.Number), AccountID: vm.AccountID, DomainID: vm.DomainID,
		ZoneID: vm.ZoneID, VMID: vm.ID, Root: true, SizeBytes: size, TemplateID: d.Template.ID, OfferingID: d.Offering.ID,
		Created: tx.Now(), Attached: tx.Now(), SHA256: d.Template.SHA256,
	}
	volumes := []*cloud.Volume{root}
	if d.DataDisk != nil {
		volumes = append(volumes, &cloud.Volume{
			ID: tx.NewID(), Name: fmt.Sprintf("DATA-%d", vm.Number), AccountID: vm.AccountID, DomainID: vm.DomainID,
			ZoneID: vm.ZoneID, VMID: vm.ID, DeviceID: 1, SizeBytes: d.DataDisk.Bytes, OfferingID: d.DataDisk.Offering.ID,
			Created: tx.Now(), Attached: tx.Now(),
		})
	}
	for _, v := range volumes {
		if most := volumeMax.Int(tx); gib(v.SizeBytes) > most {
			return cloud.Errorf(cloud.Invalid, "Invalid size %d GiB of volume %s: %s allows at most %d GiB", gib(v.SizeBytes), v.Name, volumeMax.Name, most)
		}
		if err := a.countVolume(tx, v, 1); err != nil {
			return err
		}
		if err := tables.Volumes.Put(tx, v); err != nil {
			return err
		}
	}
	return nil
}

// CustomSize checks the size in GiB that was asked for with an offering of a free size.
func CustomSize(r store.Reader, gib uint64) error {
	if least, most := DiskSizes(r); gib < uint64(least) || gib > uint64(most) {
		return cloud.Errorf(cloud.Invalid, "Invalid size %d (GiB): with a customized disk offering it must be between %d and %d", gib, least, most)
	}
	return nil
}

// DiskSizes are the bounds of the sizes, in GiB, that may be asked for with an offering of a free size.
func DiskSizes(r store.Reader) (least, most int64) { return customMin.Int(r), customMax.Int(r) }

// gib is how primary storage is counted against limits: begun GiB.
func gib(bytes uint64) int64 { return int64((bytes + 1<<30 - 1) >> 30) }

// next hands out the next number of a sequence, from 1.
func next(tx *store.Tx, name string) (uint64, error) {
	s, ok := tables.Sequences.First(tx, "name", store.K(name))
	if !ok {
		s = &cloud.Sequence{ID: cloud.NameID("sequence", name), Name: name}
	}
	s.Last++
	return s.Last, tables.Sequences.Put(tx, s)
}

// VolumesOf lists a VM's volumes, the root disk first.
func VolumesOf(r store.Reader, vm cloud.ID) []*cloud.Volume {
	return slices.Collect(tables.Volumes.By(r, "vm", store.K(vm)))
}
