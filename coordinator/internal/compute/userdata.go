package compute

import (
	"bytes"
	"errors"
	"mime/multipart"
	"net/textproto"
	"slices"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// RegisterUserData keeps user-data under a name. params are the names of the variables that a deployment gives values
// to. Errors: cloud.Invalid, cloud.LimitExceeded.
func (a *Area) RegisterUserData(tx *store.Tx, account *cloud.Account, name string, raw []byte, params []string) (*cloud.UserData, error) {
	if len(raw) > maxUserData {
		return nil, tooLong(raw)
	}
	for _, p := range params {
		if !variable(p) {
			return nil, cloud.Errorf(cloud.Invalid, "Invalid value %q in parameter params: names of letters, digits and underscores are accepted", p)
		}
	}
	if err := Room(tx, KeptUserData, account); err != nil {
		return nil, err
	}
	u := &cloud.UserData{
		ID: tx.NewID(), Name: name, AccountID: account.ID, DomainID: account.DomainID, Content: a.Seal.Seal(string(raw)),
		Params: params, Created: tx.Now(),
	}
	err := tables.UserDatas.Put(tx, u)
	var taken *store.Conflict
	if errors.As(err, &taken) {
		return nil, cloud.Errorf(cloud.Invalid, "A userdata with name %s already exists for this account.", name)
	}
	return u, err
}

func tooLong(raw []byte) error {
	return cloud.Errorf(cloud.Invalid, "Unable to use userdata: it has %d bytes, at most %d are accepted", len(raw), maxUserData)
}

func variable(s string) bool {
	for _, c := range s {
		if c != '_' && (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// DeleteUserData removes kept user-data. Errors: cloud.InUse where a template or a VM names it.
func DeleteUserData(tx *store.Tx, u *cloud.UserData) error {
	if t, ok := tables.Templates.First(tx, "userdata", store.K(u.ID)); ok {
		return cloud.Errorf(cloud.InUse, "Userdata %s cannot be removed as it is linked to template %s", u.Name, t.Name)
	}
	for vm := range tables.VMs.By(tx, "userdata", store.K(u.ID)) {
		if vm.State != cloud.VMDestroyed && vm.State != cloud.VMExpunging {
			return cloud.Errorf(cloud.InUse, "Userdata %s cannot be removed as VM %s uses it", u.Name, vm.DisplayName)
		}
	}
	return tables.UserDatas.Delete(tx, u.ID)
}

// LinkUserData gives a template user-data that its VMs are deployed with; a zero id takes it away. Errors:
// cloud.Invalid where it is another account's: VMs of whoever may use the template read it.
func LinkUserData(tx *store.Tx, t *cloud.Template, id cloud.ID, policy cloud.UserDataPolicy) error {
	if u, ok := tables.UserDatas.Get(tx, id); ok && u.AccountID != t.AccountID {
		return cloud.Errorf(cloud.Invalid, "Userdata %s and template %s do not belong to the same account", u.Name, t.Name)
	}
	t.UserDataID, t.UserDataPolicy = id, policy
	if id.IsZero() {
		t.UserDataPolicy = cloud.UserDataAllowOverride
	}
	return tables.Templates.Put(tx, t)
}

// UserDataRequest is what a deployment says of user-data: raw text, or the id of kept user-data of the VM's account,
// with values of its variables.
type UserDataRequest struct {
	Raw     []byte
	Kept    *cloud.UserData
	Details map[string]string
}

// SetUserData gives a VM user-data: what q asks for, joined with what its template brings as the template's policy
// says. The caller writes the row. Errors: cloud.Invalid, cloud.Denied.
func (a *Area) SetUserData(r store.Reader, vm *cloud.VM, q UserDataRequest) error {
	if len(q.Raw) > 0 && q.Kept != nil {
		return cloud.Errorf(cloud.Invalid, "Both userdata and userdataid inputs are not allowed, please provide only one")
	}
	raw, params := q.Raw, []string(nil)
	vm.UserDataID = cloud.ID{}
	if q.Kept != nil {
		if q.Kept.AccountID != vm.AccountID {
			return cloud.Errorf(cloud.Denied, "Userdata %s does not belong to the account of the VM", q.Kept.ID)
		}
		text, err := a.Seal.Open(q.Kept.Content)
		if err != nil {
			return err
		}
		raw, params, vm.UserDataID = []byte(text), q.Kept.Params, q.Kept.ID
	}
	raw, params, err := a.withTemplate(r, vm, raw, params)
	if err != nil {
		return err
	}
	if len(raw) > maxUserData {
		return tooLong(raw)
	}
	for k, v := range q.Details {
		if !variable(k) || !slices.Contains(params, k) {
			return cloud.Errorf(cloud.Invalid, "Parameter %s of userdatadetails is no variable of the userdata; it has: %s", k, strings.Join(params, ", "))
		}
		if len(v) > 1024 {
			return cloud.Errorf(cloud.Invalid, "The value of %s in userdatadetails has %d bytes, at most 1024 are accepted", k, len(v))
		}
	}
	vm.UserDataDetails = q.Details
	vm.UserData = a.Seal.Seal(string(raw))
	return nil
}

// withTemplate joins a VM's own user-data with its template's.
func (a *Area) withTemplate(r store.Reader, vm *cloud.VM, raw []byte, params []string) ([]byte, []string, error) {
	t, ok := tables.Templates.Get(r, vm.TemplateID)
	if !ok || t.UserDataID.IsZero() {
		return raw, params, nil
	}
	u, ok := tables.UserDatas.Get(r, t.UserDataID)
	if !ok {
		return raw, params, nil
	}
	text, err := a.Seal.Open(u.Content)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case len(raw) == 0:
		return []byte(text), u.Params, nil
	case t.UserDataPolicy == cloud.UserDataDenyOverride:
		return nil, nil, cloud.Errorf(cloud.Invalid, "UserData input is not allowed here since template %s is configured to deny any userdata", t.Name)
	case t.UserDataPolicy == cloud.UserDataAppend:
		joined, err := joinUserData([]byte(text), raw)
		return joined, append(slices.Clone(u.Params), params...), err
	}
	return raw, params, nil
}

// kinds of user-data by their first line, as cloud-init knows them.
var userDataKinds = []struct{ prefix, mime string }{
	{"#!", "text/x-shellscript"},
	{"#cloud-config", "text/cloud-config"},
	{"#include", "text/x-include-url"},
	{"#cloud-boothook", "text/cloud-boothook"},
	{"#part-handler", "text/part-handler"},
	{"## template: jinja", "text/jinja2"},
}

// joinUserData makes one multipart text (RFC 2046) of two, which cloud-init runs in order.
func joinUserData(texts ...[]byte) ([]byte, error) {
	const boundary = "user-data-part"
	var b bytes.Buffer
	b.WriteString("Content-Type: multipart/mixed; boundary=\"" + boundary + "\"\r\nMIME-Version: 1.0\r\n\r\n")
	w := multipart.NewWriter(&b)
	if err := w.SetBoundary(boundary); err != nil {
		return nil, err
	}
	for _, text := range texts {
		kind := "text/plain"
		for _, k := range userDataKinds {
			if bytes.HasPrefix(text, []byte(k.prefix)) {
				kind = k.mime
				break
			}
		}
		if bytes.Contains(text, []byte("--"+boundary)) {
			return nil, cloud.Errorf(cloud.Invalid, "Unable to append userdata: it is itself a text of several parts with the boundary %s", boundary)
		}
		part, err := w.CreatePart(textproto.MIMEHeader{"Content-Type": {kind + "; charset=\"utf-8\""}, "MIME-Version": {"1.0"}})
		if err != nil {
			return nil, err
		}
		if _, err := part.Write(text); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
