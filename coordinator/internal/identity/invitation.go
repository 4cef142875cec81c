package identity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/mail"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// The settings of projects.
var (
	// InviteRequired says that accounts have to agree before they are members.
	InviteRequired = settings.Define(settings.Def{
		Name: "project.invite.required", Category: "Project Defaults", Type: settings.Boolean, Default: "false",
		Doc: "Whether an account has to take an invitation up before it is a member of a project.",
	})
	// InviteTimeout is how long invitations hold.
	InviteTimeout = settings.Define(settings.Def{
		Name: "project.invite.timeout", Category: "Project Defaults", Type: settings.Seconds, Default: "86400", Min: 1, Max: 31536000,
		Doc: "Seconds for which an invitation to a project can be taken up.",
	})
	// InviteMails bounds the mail that tenants can make the cloud send to addresses of their choice.
	InviteMails = settings.Define(settings.Def{
		Name: "project.invite.mail.limit", Category: "Project Defaults", Type: settings.Integer, Default: "50", Min: -1, Max: 1 << 40,
		Doc: "How many invitations to projects an account can have mailed in a day; -1 is without limit.",
	})
	// UsersMayCreateProjects lets those who are no admins make projects.
	UsersMayCreateProjects = settings.Define(settings.Def{
		Name: "allow.user.create.projects", Category: "Project Defaults", Type: settings.Boolean, Default: "true",
		Doc: "Whether accounts of users may create projects.",
	})
	projectMail = mail.Define("project", "Project Defaults", "invitations to projects")
)

// ProjectSettings lists the settings of projects.
func ProjectSettings() []*settings.Def {
	return append(projectMail.All(), InviteRequired, InviteTimeout, InviteMails, UsersMayCreateProjects)
}

// Expired tells whether a pending invitation was not taken up in time.
func Expired(i *cloud.ProjectInvitation, now time.Time) bool {
	return i.State == cloud.InvitationPending && !now.Before(i.Expires)
}

// Invite asks an account, or one user of it alone, to join a project. An invitation that still waits is an error.
func Invite(tx *store.Tx, p *cloud.Project, account, user cloud.ID, as Part) error {
	for i := range tables.ProjectInvitations.By(tx, "project", store.K(p.ID, account)) {
		if i.UserID != user {
			continue
		}
		if i.State == cloud.InvitationPending && !Expired(i, tx.Now()) {
			return cloud.Errorf(cloud.Invalid, "There is already a pending invitation for account id=%s to the project id=%s", account, p.ID)
		}
		if err := tables.ProjectInvitations.Delete(tx, i.ID); err != nil {
			return err
		}
	}
	return putInvitation(tx, &cloud.ProjectInvitation{ProjectID: p.ID, DomainID: p.DomainID, AccountID: account, UserID: user, Role: as.Role, CustomRoleID: as.CustomRoleID})
}

// InviteByMail asks whoever reads the mail to join a project, in the name of the account that asks. Its token is the
// right to join: it is random, and kept sealed until the mail was sent and as a hash after that (CVE-2022-26779
// guessed such tokens).
func InviteByMail(tx *store.Tx, k *seal.Keeper, p *cloud.Project, asks cloud.ID, address string, as Part) error {
	to, err := mail.Addresses(address)
	if err != nil || len(to) != 1 {
		return cloud.Errorf(cloud.Invalid, "Invalid value %q in parameter email: one mail address is accepted", address)
	}
	if _, _, configured, err := projectMail.Server(tx, k); err != nil || !configured {
		return cloud.Errorf(cloud.Unavailable, "Unable to invite %s: no mail server is set up (settings %s and %s)", to[0], projectMail.Host.Name, projectMail.Sender.Name)
	}
	for i := range tables.ProjectInvitations.By(tx, "project", store.K(p.ID)) {
		if i.Email != to[0] {
			continue
		}
		if i.State == cloud.InvitationPending && !Expired(i, tx.Now()) {
			return cloud.Errorf(cloud.Invalid, "There is already a pending invitation for email=%s to the project id=%s", to[0], p.ID)
		}
		if err := tables.ProjectInvitations.Delete(tx, i.ID); err != nil {
			return err
		}
	}
	if err := countMail(tx, asks); err != nil {
		return err
	}
	token := randomText(32)
	return putInvitation(tx, &cloud.ProjectInvitation{
		ProjectID: p.ID, DomainID: p.DomainID, Email: to[0], Role: as.Role, CustomRoleID: as.CustomRoleID, Token: hashToken(token), Mail: k.Seal(token),
	})
}

// inviteWindow is the day of InviteMails.
const inviteWindow = 24 * time.Hour

// countMail counts a mail against the account that asks for it. The count is the account's own, so it is not
// undone by taking the invitation back or by removing the project.
func countMail(tx *store.Tx, account cloud.ID) error {
	a, ok := tables.Accounts.Get(tx, account)
	if !ok {
		return cloud.Errorf(cloud.Internal, "Unable to find account id=%s", account)
	}
	if tx.Now().Sub(a.InviteMailsSince) >= inviteWindow {
		a.InviteMails, a.InviteMailsSince = 0, tx.Now()
	}
	if limit := InviteMails.Int(tx); limit >= 0 && a.InviteMails >= uint64(limit) {
		return cloud.Errorf(cloud.LimitExceeded, "Account %s has had %d invitations mailed since %s, the most in a day (setting %s); invite by account, or try again after %s",
			a.Name, a.InviteMails, a.InviteMailsSince.UTC().Format(time.RFC3339), InviteMails.Name, a.InviteMailsSince.Add(inviteWindow).UTC().Format(time.RFC3339))
	}
	a.InviteMails++
	return tables.Accounts.Put(tx, a)
}

func putInvitation(tx *store.Tx, i *cloud.ProjectInvitation) error {
	i.ID, i.Created, i.Expires = tx.NewID(), tx.Now(), tx.Now().Add(InviteTimeout.Duration(tx))
	if err := tables.ProjectInvitations.Put(tx, i); err != nil {
		return fmt.Errorf("invite to project %s: %w", i.ProjectID, err)
	}
	return nil
}

func hashToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// FindInvitation finds the invitation that waits for an account, or the one of a mail's token. Members are of the
// project's domain, whoever a mail was forwarded to: an account of another one has no invitation.
func FindInvitation(r store.Reader, project *cloud.Project, account *cloud.Account, user cloud.ID, token cloud.Secret) (*cloud.ProjectInvitation, bool) {
	if account.DomainID != project.DomainID {
		return nil, false
	}
	if token != "" {
		i, ok := tables.ProjectInvitations.First(r, "token", store.K(hashToken(string(token))))
		if !ok || i.ProjectID != project.ID || i.State != cloud.InvitationPending {
			return nil, false
		}
		return i, true
	}
	for i := range tables.ProjectInvitations.By(r, "project", store.K(project.ID, account.ID)) {
		if i.State == cloud.InvitationPending && (i.UserID.IsZero() || i.UserID == user) {
			return i, true
		}
	}
	return nil, false
}

// Answer takes an invitation up for an account, or declines it.
func Answer(tx *store.Tx, i *cloud.ProjectInvitation, account *cloud.Account, accept bool) error {
	p, ok := tables.Projects.Get(tx, i.ProjectID)
	switch {
	case Expired(i, tx.Now()):
		return cloud.Errorf(cloud.Invalid, "The invitation to the project id=%s has expired", i.ProjectID)
	case !ok || accept && p.State != cloud.ProjectActive:
		return cloud.Errorf(cloud.Invalid, "The project id=%s is not active, nobody can join it", i.ProjectID)
	case !accept:
		i.State = cloud.InvitationDeclined
	default:
		i.State = cloud.InvitationCompleted
		if _, member := Member(tx, p.ID, account.ID, i.UserID); !member {
			if err := AddMember(tx, p, account.ID, i.UserID, Part{i.Role, i.CustomRoleID}); err != nil {
				return err
			}
		}
	}
	i.Mail = nil
	return tables.ProjectInvitations.Put(tx, i)
}

// Cluster is what the mailer needs of the replica.
type Cluster interface {
	DB() *store.DB
	Update(ctx context.Context, f func(tx *store.Tx) error) error
}

// Mailer mails invitations, on the leader. An invitation is marked when the mail server has taken its mail, so it is
// mailed at least once; a mail that was sent twice has the same Message-ID.
type Mailer struct {
	Cluster Cluster
	Seal    *seal.Keeper
	Log     *slog.Logger
	Now     func() time.Time
	// Retry is how long a mail that could not be sent waits; 0 is a minute.
	Retry time.Duration
}

// Run mails until ctx ends.
func (m *Mailer) Run(ctx context.Context) error {
	return mail.Attend(ctx, m.Cluster.DB(), m.Retry, m.pass, nil)
}

// pass mails what waits and tells whether something could not be mailed.
func (m *Mailer) pass(ctx context.Context) (failed bool) {
	r := m.Cluster.DB().Current()
	for i := range tables.ProjectInvitations.By(r, "unmailed", nil) {
		if i.State == cloud.InvitationPending && !Expired(i, m.Now()) {
			if err := m.send(ctx, r, i); err != nil {
				if ctx.Err() != nil {
					return true
				}
				m.Log.Warn("cannot mail an invitation", "invitation", i.ID, "error", err)
				failed = true
				continue
			}
		}
		err := m.Cluster.Update(ctx, func(tx *store.Tx) error {
			row, ok := tables.ProjectInvitations.Get(tx, i.ID)
			if !ok {
				return nil
			}
			row.Mail = nil
			return tables.ProjectInvitations.Put(tx, row)
		})
		if err != nil {
			return true
		}
	}
	return failed
}

func (m *Mailer) send(ctx context.Context, r store.Reader, i *cloud.ProjectInvitation) error {
	server, sender, configured, err := projectMail.Server(r, m.Seal)
	if err != nil {
		return err
	}
	if !configured {
		return fmt.Errorf("no mail server is set up: %s, %s", projectMail.Host.Name, projectMail.Sender.Name)
	}
	p, ok := tables.Projects.Get(r, i.ProjectID)
	if !ok {
		return nil // gone: nothing to join
	}
	token, err := m.Seal.Open(i.Mail)
	if err != nil {
		return fmt.Errorf("open token: %w", err)
	}
	return server.Send(ctx, mail.Message{
		From: sender, To: []string{i.Email}, ID: "invitation-" + i.ID.String(), Date: i.Created,
		Subject: "You are invited to join the cloud project " + p.Name,
		Body: fmt.Sprintf("You've been invited to join the cloud project %s.\n\nLog in and accept the invitation with these values, until %s:\n\n"+
			"Project: %s\nToken: %s\n", p.Name, i.Expires.UTC().Format("2006-01-02 15:04 MST"), p.ID, token),
	})
}
