// Package project holds the commands of projects, their members and invitations to them. What they do is in package
// identity; that members see what a project owns, and nobody else does, is package api's, for all commands at once.
package project

import (
	"iter"
	"reflect"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/limit"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
	"github.com/wispcloud/wisp/coordinator/internal/job"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Deps is what the commands need.
type Deps struct {
	Seal *seal.Keeper
	// Stop asks for a virtual machine to be stopped.
	Stop func(tx *store.Tx, vm *cloud.VM, forced bool) error
	// Owned are the kinds of things that accounts own, in the order in which they go; identity.OwnedProject is the last.
	Owned func() []identity.Owned
}

// Commands lists the commands of this package.
func Commands(d Deps) []api.Command {
	h := handlers{d}
	return []api.Command{
		h.create(), h.update(), h.activate(), h.suspend(), h.remove(), h.list(),
		h.addAccount(), h.removeAccount(), h.addUser(), h.removeUser(), h.listAccounts(),
		h.answerInvitation(), h.listInvitations(), h.removeInvitation(),
		listRoles(), createRole(), updateRole(), removeRole(), listRules(), createRule(), updateRule(), removeRule(),
	}
}

// Entities lists what this package's rows are called in parameters. An invitation belongs to the project: whom it asks
// takes it up by naming the project.
func Entities() []api.Entity {
	owner := func(r store.Reader, id cloud.ID) (api.Owner, bool) {
		p, ok := tables.Projects.Get(r, id)
		if !ok {
			return api.Owner{}, false
		}
		return api.Owner{Account: p.AccountID, Domain: p.DomainID}, true
	}
	return []api.Entity{
		{Name: "project", Lookup: owner},
		{Name: "projectinvitation", Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) {
			i, ok := tables.ProjectInvitations.Get(r, id)
			if !ok {
				return api.Owner{}, false
			}
			return owner(r, i.ProjectID)
		}},
		{Name: "projectrole", Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) {
			role, ok := tables.CustomProjectRoles.Get(r, id)
			if !ok {
				return api.Owner{}, false
			}
			return owner(r, role.ProjectID)
		}},
		{Name: "projectrolepermission", Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) {
			rule, ok := tables.RolePermissions.Get(r, id)
			if !ok {
				return api.Owner{}, false
			}
			role, ok := tables.CustomProjectRoles.Get(r, rule.RoleID)
			if !ok {
				return api.Owner{}, false
			}
			return owner(r, role.ProjectID)
		}},
	}
}

type handlers struct{ Deps }

// Answer is a project as clients see it.
type Answer struct {
	ID          cloud.ID            `json:"id" doc:"the project"`
	Name        string              `json:"name" doc:"its name"`
	DisplayText string              `json:"displaytext" doc:"what it is for"`
	DomainID    cloud.ID            `json:"domainid" doc:"its domain"`
	Domain      string              `json:"domain" doc:"name of its domain"`
	Account     string              `json:"account,omitempty" doc:"account that is its admin"`
	Owner       []map[string]string `json:"owner" doc:"those who are its admins"`
	AccountName string              `json:"projectaccountname" doc:"name of its own account"`
	State       string              `json:"state" doc:"Active, Suspended or Disabled"`
	Created     api.Time            `json:"created" doc:"when it was made"`
	VMRunning   int                 `json:"vmrunning" doc:"its virtual machines that run"`
	VMStopped   int                 `json:"vmstopped" doc:"its virtual machines that are stopped"`
	limit.Totals
	Tags []api.Tag `json:"tags" doc:"its tags"`
}

// View makes the answer of one project.
func View(r store.Reader, p *cloud.Project) Answer {
	a := Answer{
		ID: p.ID, Name: p.Name, DisplayText: p.DisplayText, DomainID: p.DomainID, State: p.State.String(), Created: api.Time(p.Created),
		Owner: []map[string]string{}, Tags: api.TagsOf(r, p.ID),
	}
	if d, ok := tables.Domains.Get(r, p.DomainID); ok {
		a.Domain = d.Name
	}
	if m, ok := identity.OwnerOf(r, p); ok {
		a.Account = accountName(r, m.AccountID)
	}
	for m := range tables.ProjectMembers.By(r, "project", store.K(p.ID)) {
		if m.Role != cloud.ProjectAdmin {
			continue
		}
		owner := map[string]string{"account": accountName(r, m.AccountID)}
		if u, ok := tables.Users.Get(r, m.UserID); ok {
			owner["user"], owner["userid"] = u.Username, u.ID.String()
		}
		a.Owner = append(a.Owner, owner)
	}
	if own, ok := tables.Accounts.Get(r, p.AccountID); ok {
		a.AccountName, a.Totals = own.Name, limit.OfAccount(r, own)
	}
	for vm := range tables.VMs.By(r, "account", store.K(p.AccountID)) {
		switch vm.State {
		case cloud.VMRunning:
			a.VMRunning++
		case cloud.VMStopped:
			a.VMStopped++
		}
	}
	return a
}

func accountName(r store.Reader, id cloud.ID) string {
	if a, ok := tables.Accounts.Get(r, id); ok {
		return a.Name
	}
	return ""
}

// result is the answer of a job about a project.
func result(r store.Reader, _ *api.ResultContext, j *cloud.Job) (any, error) {
	p, ok := tables.Projects.Get(r, j.InstanceID)
	if !ok {
		return nil, api.NoEntity("id", j.InstanceID)
	}
	return View(r, p), nil
}

// done is the step of commands that do everything in the call.
func done(*store.Tx, *job.State) (job.Outcome, error) { return job.Done(), nil }

func ownerOf(p *cloud.Project) api.Owner { return api.Owner{Account: p.AccountID, Domain: p.DomainID} }

// isAdmin tells whether the caller may change a project and its members: its admins, and the admins of its domain.
func isAdmin(c *api.Call, p *cloud.Project) bool {
	if c.IsRoot() || c.IsAdmin() && c.InDomain(p.DomainID) {
		return true
	}
	for m := range tables.ProjectMembers.By(c.Read, "project", store.K(p.ID, c.Account.ID)) {
		if m.Role == cloud.ProjectAdmin && (m.UserID.IsZero() || m.UserID == c.User.ID) {
			return true
		}
	}
	return false
}

// changeable finds a project that a reference names and that the caller may change.
func changeable(c *api.Call, id cloud.ID) (*cloud.Project, error) {
	p, ok := tables.Projects.Get(c.Read, id)
	if !ok {
		return nil, api.NoEntity("id", id)
	}
	if !isAdmin(c, p) {
		return nil, cloud.Errorf(cloud.Denied, "Account %s is no admin of the project id=%s", c.Account.Name, p.ID)
	}
	return p, nil
}

// active is changeable for what needs an active project.
func active(c *api.Call, id cloud.ID, what string) (*cloud.Project, error) {
	p, err := changeable(c, id)
	if err == nil && p.State != cloud.ProjectActive {
		return nil, cloud.Errorf(cloud.Invalid, "Can't %s the project id=%s in state=%s as it's no longer active", what, p.ID, p.State)
	}
	return p, err
}

// start begins the job of a command about a project.
func start(c *api.Call, p *cloud.Project, text string) *api.Start {
	c.Describe(p.ID, text+" "+p.Name)
	c.EventOwner(ownerOf(p))
	return &api.Start{InstanceID: p.ID, Owner: ownerOf(p)}
}

type createParams struct {
	Name        string   `api:"name,required" doc:"name of the project, one of a kind in its domain"`
	DisplayText string   `api:"displaytext,required" doc:"what the project is for"`
	Account     string   `api:"account" doc:"account that is its admin; with domainid"`
	DomainID    cloud.ID `api:"domainid" ref:"domain,use" doc:"domain of that account"`
	AccountID   cloud.ID `api:"accountid" ref:"account" since:"4.16" doc:"account that is its admin"`
	UserID      cloud.ID `api:"userid" ref:"user" since:"4.16" doc:"user who is its admin, beside the account"`
}

func (h handlers) create() api.Command {
	return api.Command{
		Name: "createProject", Doc: "Makes a project.", Roles: api.Everyone, Event: "PROJECT.CREATE", Entity: "Project", Object: "project",
		Run: api.AsyncCreate(func(c *api.Call, tx *store.Tx, p *createParams) (*api.Start, error) {
			if !c.IsAdmin() && !identity.UsersMayCreateProjects.Bool(tx) {
				return nil, cloud.Errorf(cloud.Denied, "Regular user is not permitted to create a project")
			}
			owner, err := p.owner(c)
			if err != nil {
				return nil, err
			}
			project, err := identity.CreateProject(tx, owner, p.Name, p.DisplayText)
			if err != nil {
				return nil, err
			}
			if u, ok := tables.Users.Get(tx, p.UserID); ok {
				if u.DomainID != project.DomainID { // members are of the project's domain
					return nil, cloud.Errorf(cloud.Invalid, "Unable to find user %s in domain id=%s (parameter userid)", u.Username, project.DomainID)
				}
				if err := identity.AddMember(tx, project, u.AccountID, u.ID, identity.Part{Role: cloud.ProjectAdmin}); err != nil {
					return nil, err
				}
			}
			return start(c, project, "creating project"), nil
		}),
		Step: done, Result: result, Answer: reflect.TypeFor[Answer](),
	}
}

func (p *createParams) owner(c *api.Call) (*cloud.Account, error) {
	if p.AccountID.IsZero() {
		return c.OwnerFor(p.Account, p.DomainID, cloud.ID{})
	}
	a, ok := tables.Accounts.Get(c.Read, p.AccountID)
	if !ok {
		return nil, api.NoEntity("accountid", p.AccountID)
	}
	if a.State != cloud.Enabled {
		return nil, cloud.Errorf(cloud.Denied, "The account %s is %s", a.Name, a.State)
	}
	return a, nil
}

type updateParams struct {
	ID            cloud.ID  `api:"id,required" ref:"project" doc:"the project"`
	Account       string    `api:"account" doc:"member that is to be its admin"`
	DisplayText   string    `api:"displaytext" doc:"what the project is for"`
	Name          string    `api:"name" since:"4.19" doc:"new name of the project"`
	RoleType      string    `api:"roletype" since:"4.15" enum:"Admin,Regular" doc:"role that the account gets, where swapowner is false: Admin or Regular"`
	ProjectRoleID *cloud.ID `api:"projectroleid" ref:"projectrole" since:"4.15" doc:"role of the project's own that the member has from now on, where swapowner is false"`
	SwapOwner     *bool     `api:"swapowner" since:"4.15" doc:"true (the default): the account takes the place of the admin until now"`
	UserID        cloud.ID  `api:"userid" since:"4.15" doc:"user whose role is changed, where swapowner is false"`
}

func (h handlers) update() api.Command {
	return api.Command{
		Name: "updateProject", Doc: "Changes a project.", Roles: api.Everyone, Event: "PROJECT.UPDATE", Entity: "Project", Object: "project",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *updateParams) (*api.Start, error) {
			project, err := active(c, p.ID, "update")
			if err != nil {
				return nil, err
			}
			if p.DisplayText != "" {
				project.DisplayText = p.DisplayText
			}
			if p.Name != "" {
				project.Name = p.Name
			}
			if err := identity.PutProject(tx, project); err != nil {
				return nil, err
			}
			if err := p.roles(tx, project); err != nil {
				return nil, err
			}
			return start(c, project, "updating project"), nil
		}),
		Step: done, Result: result, Answer: reflect.TypeFor[Answer](),
	}
}

// roles changes who is the project's admin.
func (p *updateParams) roles(tx *store.Tx, project *cloud.Project) error {
	if p.Account == "" && p.UserID.IsZero() {
		return nil
	}
	m, ok := memberByName(tx, project, p.Account, p.UserID)
	switch {
	case !ok && !p.UserID.IsZero():
		return api.NoEntity("userid", p.UserID)
	case !ok:
		return cloud.Errorf(cloud.Invalid, "Account %s is not assigned to the project id=%s", p.Account, project.ID)
	}
	if p.ProjectRoleID != nil && (p.SwapOwner == nil || *p.SwapOwner) && p.UserID.IsZero() {
		return cloud.Errorf(cloud.Invalid, "Parameter projectroleid needs swapowner=false: the owner of a project is restricted by no role")
	}
	if (p.SwapOwner == nil || *p.SwapOwner) && p.UserID.IsZero() {
		a, ok := tables.Accounts.Get(tx, m.AccountID)
		if !ok {
			return api.NoEntity("account", m.AccountID)
		}
		return identity.ChangeOwner(tx, project, a)
	}
	owner, ok := identity.OwnerOf(tx, project)
	if ok && owner.ID == m.ID {
		return cloud.Errorf(cloud.Invalid, "Account %s is the owner of the project id=%s; another one has to take its place first (swapowner=true)", p.Account, project.ID)
	}
	as := identity.Part{Role: m.Role, CustomRoleID: m.CustomRoleID}
	if p.RoleType != "" || p.ProjectRoleID == nil {
		as.Role = role(p.RoleType)
	}
	if p.ProjectRoleID != nil {
		if err := ofProject(tx, project.ID, *p.ProjectRoleID); err != nil {
			return err
		}
		as.CustomRoleID = *p.ProjectRoleID
	}
	if p.UserID.IsZero() && as.Role == cloud.ProjectAdmin {
		return cloud.Errorf(cloud.Invalid, "A project has one account as its admin: swapowner=true makes it account %s; users can be admins beside it", p.Account)
	}
	return identity.AddMember(tx, project, m.AccountID, m.UserID, as)
}

func role(text string) cloud.ProjectRole {
	if strings.EqualFold(text, cloud.ProjectAdmin.String()) {
		return cloud.ProjectAdmin
	}
	return cloud.ProjectRegular
}

type idParams struct {
	ID cloud.ID `api:"id,required" ref:"project" doc:"the project"`
}

func (h handlers) activate() api.Command {
	return api.Command{
		Name: "activateProject", Doc: "Activates a suspended project.", Roles: api.Everyone, Event: "PROJECT.ACTIVATE", Entity: "Project",
		Envelope: "activaterojectresponse", Object: "project",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *idParams) (*api.Start, error) {
			project, err := changeable(c, p.ID)
			if err != nil {
				return nil, err
			}
			switch project.State {
			case cloud.ProjectActive:
			case cloud.ProjectSuspended:
				if err := identity.SetProjectState(tx, project, cloud.ProjectActive); err != nil {
					return nil, err
				}
			case cloud.ProjectDisabled:
				return nil, cloud.Errorf(cloud.Invalid, "Can't activate the project id=%s: it is being removed", project.ID)
			}
			return start(c, project, "activating project"), nil
		}),
		Step: done, Result: result, Answer: reflect.TypeFor[Answer](),
	}
}

func (h handlers) suspend() api.Command {
	return api.Command{
		Name: "suspendProject", Doc: "Suspends a project: its virtual machines are stopped and nothing is made for it.",
		Roles: api.Everyone, Event: "PROJECT.SUSPEND", Entity: "Project", Object: "project",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *idParams) (*api.Start, error) {
			project, err := changeable(c, p.ID)
			if err != nil {
				return nil, err
			}
			if project.State == cloud.ProjectDisabled {
				return nil, cloud.Errorf(cloud.Invalid, "Can't suspend the project id=%s: it is being removed", project.ID)
			}
			if err := identity.SetProjectState(tx, project, cloud.ProjectSuspended); err != nil {
				return nil, err
			}
			return start(c, project, "suspending project"), nil
		}),
		Step: h.stopStep, Result: result, Answer: reflect.TypeFor[Answer](),
	}
}

// stopAtOnce bounds the virtual machines that one transaction asks to stop.
const stopAtOnce = 20

// stopStep stops what runs of a suspended project. One that was activated meanwhile is left alone.
func (h handlers) stopStep(tx *store.Tx, j *job.State) (job.Outcome, error) {
	p, ok := tables.Projects.Get(tx, j.InstanceID())
	if !ok || p.State != cloud.ProjectSuspended {
		return job.Done(), nil
	}
	var wait []cloud.ID
	asked := 0
	for vm := range tables.VMs.By(tx, "account", store.K(p.AccountID)) {
		switch vm.State {
		case cloud.VMRunning, cloud.VMStarting:
			if asked == stopAtOnce {
				return job.Again(), nil
			}
			if err := h.Stop(tx, vm, false); err != nil {
				return job.Outcome{}, err
			}
			asked++
		case cloud.VMStopping, cloud.VMMigrating:
			wait = append(wait, vm.ID)
		}
	}
	switch {
	case asked > 0:
		return job.Again(), nil
	case len(wait) > 0:
		return job.WaitOn(wait...), nil
	}
	return job.Done(), nil
}

type removeParams struct {
	ID      cloud.ID `api:"id,required" ref:"project" doc:"the project"`
	Cleanup *bool    `api:"cleanup" since:"4.16" doc:"false refuses where the project still owns something; the default is to remove it"`
}

func (h handlers) remove() api.Command {
	return api.Command{
		Name: "deleteProject", Doc: "Removes a project with all that it owns.", Roles: api.Everyone, Event: "PROJECT.DELETE", Entity: "Project",
		Run: api.Async(func(c *api.Call, tx *store.Tx, p *removeParams) (*api.Start, error) {
			project, err := changeable(c, p.ID)
			if err != nil {
				return nil, err
			}
			if err := identity.Refused(tx, h.Owned(), project.AccountID); err != nil {
				return nil, err
			}
			if p.Cleanup != nil && !*p.Cleanup {
				for _, k := range h.Owned() {
					if k.Lent {
						continue
					}
					for range k.IDs(tx, project.AccountID) {
						if k.Kind != identity.OwnedProject.Kind {
							return nil, cloud.Errorf(cloud.InUse, "Can't delete the project id=%s: it still owns a %s (cleanup=true removes it as well)", project.ID, k.Kind)
						}
					}
				}
			}
			if err := identity.BeginProjectRemoval(tx, project); err != nil {
				return nil, err
			}
			s := start(c, project, "deleting project")
			s.Args = removal{Account: project.AccountID}
			// The project's own account goes with it: the job is that of whoever asked.
			s.Owner = c.Own()
			return s, nil
		}),
		Step: h.removeStep,
	}
}

// removal is the state of a removal: the project's row goes before its account.
type removal struct {
	Account cloud.ID `json:"account"`
}

func (h handlers) removeStep(tx *store.Tx, j *job.State) (job.Outcome, error) {
	var s removal
	if err := j.Args(&s); err != nil {
		return job.Outcome{}, err
	}
	p, err := identity.RemoveAccount(tx, h.Owned(), s.Account)
	switch {
	case err != nil:
		return job.Outcome{}, err
	case p.Done:
		return job.Done(), nil
	case p.Again:
		return job.Again(), nil
	}
	return job.WaitOn(p.WaitOn...), nil
}

type listParams struct {
	api.ListParams
	api.TagParams
	Account     string   `api:"account" doc:"only projects that this account works on; with domainid"`
	DomainID    cloud.ID `api:"domainid" ref:"domain,use" doc:"only of this domain"`
	ListAll     bool     `api:"listall" doc:"all that the caller may see, not only those it works on"`
	Recursive   *bool    `api:"isrecursive" doc:"with domainid or listall: also of the domains below"`
	ID          cloud.ID `api:"id" ref:"project" doc:"only this project"`
	Name        string   `api:"name" doc:"only the project of this name"`
	DisplayText string   `api:"displaytext" doc:"only with this display text"`
	State       string   `api:"state" doc:"only in this state: Active, Suspended or Disabled"`
	Username    string   `api:"username" since:"4.15" doc:"only projects that this user works on"`
	Details     []string `api:"details" since:"4.16" doc:"what to tell; everything is told"`
	ShowIcon    bool     `api:"showicon" since:"4.16" doc:"there are no icons"`
}

// Owned implements api.Owned.
func (p *listParams) Owned() *api.OwnedParams {
	return &api.OwnedParams{AccountName: p.Account, DomainID: p.DomainID, ListAll: p.ListAll, Recursive: p.Recursive}
}

func (h handlers) list() api.Command {
	return api.Command{
		Name: "listProjects", Doc: "Lists the projects that the caller works on or may see.", Roles: api.Everyone, Object: "project",
		Run: api.List(api.Lister[listParams, cloud.Project, Answer]{
			Rows: func(c *api.Call, p *listParams) (iter.Seq[*cloud.Project], error) {
				all := tables.Projects.By(c.Read, "name", nil)
				return func(yield func(*cloud.Project) bool) {
					for x := range all {
						if p.wants(c, x) && !yield(x) {
							return
						}
					}
				}, nil
			},
			Visible: shown,
			Keyword: func(p *cloud.Project) string { return p.Name + "\n" + p.DisplayText },
			View:    func(c *api.Call, p *cloud.Project) Answer { return View(c.Read, p) },
		}),
	}
}

// shown tells whether a project is in the scope: where that is an account, the projects it works on; where it is a
// domain, those of the domain.
func shown(c *api.Call, p *cloud.Project) bool {
	if account, ok := c.Scope.Account(); ok {
		if account == c.Account.ID {
			return mine(c, p)
		}
		return tables.ProjectMembers.Count(c.Read, "project", store.K(p.ID, account)) > 0
	}
	return c.Scope.Has(api.Owner{Account: p.AccountID, Domain: p.DomainID}) || c.Scope.Has(api.Owner{Domain: p.DomainID})
}

// mine tells whether the caller works on a project.
func mine(c *api.Call, p *cloud.Project) bool {
	for m := range tables.ProjectMembers.By(c.Read, "project", store.K(p.ID, c.Account.ID)) {
		if m.UserID.IsZero() || m.UserID == c.User.ID {
			return true
		}
	}
	return false
}

func (p *listParams) wants(c *api.Call, x *cloud.Project) bool {
	switch {
	case !p.ID.IsZero() && p.ID != x.ID,
		p.Name != "" && !strings.EqualFold(p.Name, x.Name),
		p.DisplayText != "" && p.DisplayText != x.DisplayText,
		p.State != "" && !strings.EqualFold(p.State, x.State.String()):
		return false
	case p.Username == "":
		return true
	}
	for m := range tables.ProjectMembers.By(c.Read, "project", store.K(x.ID)) {
		for u := range tables.Users.By(c.Read, "account", store.K(m.AccountID, strings.ToLower(p.Username))) {
			if m.UserID.IsZero() || m.UserID == u.ID {
				return true
			}
		}
	}
	return false
}
