package storage

import (
	"slices"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Formats that KVM hosts take. SYSTEMVM is the set of files that system VMs boot from, in a tar.
var Formats = []string{"QCOW2", "RAW", cloud.FormatSystemVM}

// Registration describes a template to register.
type Registration struct {
	Owner                 *cloud.Account
	Admin                 bool // the caller is a root admin
	ZoneID                cloud.ID
	Name, DisplayText     string
	URL, Checksum, Format string
	Hypervisor            string
	OSTypeID              cloud.ID
	Bits                  uint8
	Public, Featured      bool
	Extractable           bool
	PasswordEnabled       bool
	SSHKeyEnabled         bool
	RequiresHVM           bool
	DynamicScaling        bool
	Tag                   string
	Details               map[string]string
}

// Register makes a template whose content is still to be downloaded. It looks at the text of the URL alone.
func Register(tx *store.Tx, reg Registration, count Counter) (*cloud.Template, error) {
	u, err := ParseImageURL(reg.URL)
	if err != nil {
		return nil, err
	}
	if _, err := parseChecksum(reg.Checksum); err != nil {
		return nil, err
	}
	format := strings.ToUpper(reg.Format)
	if !slices.Contains(Formats, format) {
		return nil, cloud.Errorf(cloud.Invalid, "Image format is incorrect %s. Supported formats are %s", reg.Format, strings.Join(Formats, ", "))
	}
	if !strings.EqualFold(reg.Hypervisor, "KVM") {
		return nil, cloud.Errorf(cloud.Invalid, "Hypervisor %s is not supported; supported is KVM", reg.Hypervisor)
	}
	kind := "USER"
	if format == cloud.FormatSystemVM {
		kind = cloud.TemplateSystem
		reg.Public, reg.Featured, reg.Extractable = false, false, false // nothing that guests are made of
	}
	switch {
	case kind == cloud.TemplateSystem && !reg.Admin:
		return nil, cloud.Errorf(cloud.Denied, "Only root admins can register system VM templates (format %s)", cloud.FormatSystemVM)
	case reg.ZoneID.IsZero() && !reg.Admin:
		return nil, cloud.Errorf(cloud.Invalid, "Please specify a valid zone Id.")
	case reg.Public && !reg.Admin && !PublicTemplates.Bool(tx):
		return nil, cloud.Errorf(cloud.Invalid, "Only private templates/ISO can be created.")
	}
	if !reg.Admin {
		reg.Featured = false // what is recommended to everybody is the provider's choice
	}
	if err := count(tx, reg.Owner.ID, cloud.ResourceTemplate, 1); err != nil {
		return nil, err
	}
	t := &cloud.Template{
		ID: tx.NewID(), Name: reg.Name, DisplayText: reg.DisplayText, AccountID: reg.Owner.ID, DomainID: reg.Owner.DomainID,
		ZoneID: reg.ZoneID, OSTypeID: reg.OSTypeID, URL: u.String(), Format: format, Hypervisor: "KVM", State: cloud.TemplateWaiting,
		Checksum: strings.TrimSpace(reg.Checksum), Public: reg.Public, Featured: reg.Featured, Extractable: reg.Extractable,
		PasswordEnabled: reg.PasswordEnabled, SSHKeyEnabled: reg.SSHKeyEnabled, Bootable: true, RequiresHVM: reg.RequiresHVM,
		Bits: reg.Bits, Tag: reg.Tag, Type: kind, Details: reg.Details, Created: tx.Now(), DynamicScaling: reg.DynamicScaling,
	}
	return t, wrap("register", "template", t.ID, tables.Templates.Put(tx, t))
}

// Remove takes a template out of sight. Its row and file stay while volumes are made of it; Tidy removes them then.
func Remove(tx *store.Tx, id cloud.ID, count Counter) error {
	t, ok := tables.Templates.Get(tx, id)
	if !ok || t.State == cloud.TemplateRemoved {
		return nil
	}
	if err := count(tx, t.AccountID, cloud.ResourceTemplate, -1); err != nil {
		return err
	}
	if t.State == cloud.TemplateReady {
		if err := count(tx, t.AccountID, cloud.ResourceSecondaryStorage, -gib(t.FileBytes)); err != nil {
			return err
		}
	}
	if err := tables.DropAttached(tx, id); err != nil {
		return err
	}
	t.State, t.Removed = cloud.TemplateRemoved, tx.Now()
	return wrap("remove", "template", id, tables.Templates.Put(tx, t))
}

// Tidy removes the rows of removed templates that nothing is made of any more.
func Tidy(tx *store.Tx) error {
	for t := range tables.Templates.By(tx, "state", store.K(cloud.TemplateRemoved)) {
		if usedBy(tx, t) {
			continue
		}
		if err := tables.Templates.Delete(tx, t.ID); err != nil {
			return wrap("tidy", "template", t.ID, err)
		}
	}
	return nil
}

// usedBy tells whether a VM or a volume is made of a template.
func usedBy(r store.Reader, t *cloud.Template) bool {
	if tables.VMs.Count(r, "template", store.K(t.ID)) > 0 {
		return true
	}
	if tables.Routers.Count(r, "template", store.K(t.ID)) > 0 {
		return true
	}
	return t.SHA256 != "" && tables.Volumes.Count(r, "sha256", store.K(t.SHA256)) > 0
}
