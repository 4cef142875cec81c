package ldap

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"regexp"

	"github.com/go-ldap/ldap/v3"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

func text(name, value string, rule func(string) error, doc string) *settings.Def {
	return settings.Define(settings.Def{
		Name: name, Category: "Advanced", Type: settings.String, Default: value, Rule: rule, Scopes: settings.Domain, Doc: doc,
	})
}

// What stands in a filter as it is: a name of an attribute or an object class (RFC 4512, 1.4), which cannot end a filter.
var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.;-]*$`)

func isName(v string) error {
	if !plainName.MatchString(v) {
		return errors.New("must be the name of an attribute or object class: letters, digits, dots and hyphens")
	}
	return nil
}

func isDN(v string) error {
	if _, err := ldap.ParseDN(v); err != nil {
		return errors.New("must be a distinguished name as dc=example,dc=org")
	}
	return nil
}

func isPEM(v string) error {
	if v != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(v)) {
		return errors.New("must be the text of certificates in PEM form")
	}
	return nil
}

func flag(name, value, doc string) *settings.Def {
	return settings.Define(settings.Def{Name: name, Category: "Advanced", Type: settings.Boolean, Default: value, Scopes: settings.Domain, Doc: doc})
}

// What servers added by addLdapConfiguration are asked with, by the names of newer CloudStack.
var (
	baseDN     = text("ldap.basedn", "", isDN, "Where in the directory users are searched, as ou=people,dc=example,dc=org.")
	bindDN     = text("ldap.bind.principal", "", isDN, "The entry that may search the directory; empty searches as nobody.")
	attribute  = text("ldap.username.attribute", "uid", isName, "The attribute that is the user's name.")
	object     = text("ldap.user.object", "inetOrgPerson", isName, "The object class of users.")
	mail       = text("ldap.email.attribute", "mail", isName, "The attribute that is the user's mail address.")
	firstName  = text("ldap.firstname.attribute", "givenname", isName, "The attribute that is the user's first name.")
	lastName   = text("ldap.lastname.attribute", "sn", isName, "The attribute that is the user's last name.")
	authority  = text("ldap.truststore", "", isPEM, "The text, in PEM form, of certificates that may have signed a directory's; empty: those that the machine believes.")
	bindSecret = settings.Define(settings.Def{
		Name: "ldap.bind.password", Category: "Secure", Type: settings.String, Secret: true, Doc: "The password of ldap.bind.principal.",
	})
	useTLS     = flag("ldap.tls.enabled", "false", "Whether directories are asked over TLS from the first byte on (ldaps).")
	startTLS   = flag("ldap.starttls.enabled", "false", "Whether directories are asked over TLS that begins on their plain port (StartTLS), instead of ldaps; no password is sent before.")
	nested     = flag("ldap.nested.groups.enable", "true", "Whether members of groups within a linked group are in it, too.")
	rootAdmins = settings.Define(settings.Def{
		Name: "ldap.root.admins", Category: "Advanced", Type: settings.Boolean, Default: "false",
		Doc: "Whether a directory's word lets root admins in, too. Whoever manages the directory then can become one.",
	})
)

// Settings lists the settings of this package.
func Settings() []*settings.Def {
	return []*settings.Def{baseDN, bindDN, attribute, object, mail, firstName, lastName, authority, bindSecret, useTLS, startTLS, nested, rootAdmins}
}

// Opener opens what is sealed.
type Opener interface {
	Open(cloud.Sealed) (string, error)
}

// Of gives a row as it is to be asked, with the settings where the row says nothing.
func Of(r store.Reader, k Opener, row *cloud.LDAPServer) (Server, error) {
	s := Server{
		Host: row.Hostname, Port: row.Port, TLS: row.TLS, StartTLS: row.StartTLS, Authorities: row.Authorities, BindDN: row.BindDN,
		Base: row.SearchBase, Filter: row.QueryFilter,
	}
	sealed, d := row.BindPassword, row.DomainID
	s.UserAttribute, s.Mail, s.FirstName, s.LastName = attribute.Text(r, d), mail.Text(r, d), firstName.Text(r, d), lastName.Text(r, d)
	s.Object, s.Nested = object.Text(r, d), nested.Bool(r, d)
	if !row.Single {
		s.Base, s.BindDN, s.StartTLS = baseDN.Text(r, d), bindDN.Text(r, d), startTLS.Bool(r, d)
		s.TLS = s.StartTLS || useTLS.Bool(r, d)
		s.Filter, s.Authorities = "(objectClass="+s.Object+")", authority.Text(r, d)
		sealed, _ = bindSecret.Sealed(r)
	}
	if len(sealed) > 0 {
		p, err := k.Open(sealed)
		if err != nil {
			return s, fmt.Errorf("open the bind password of %s: %w", row.Hostname, err)
		}
		s.BindSecret = cloud.Secret(p)
	}
	return s, nil
}

// For lists the servers that know users of a domain: its own, then those of the domains above it, then everybody's.
func For(r store.Reader, domain cloud.ID) []*cloud.LDAPServer {
	var all []*cloud.LDAPServer
	for id := domain; ; {
		for s := range tables.LDAPServers.By(r, "domain", store.K(id)) {
			all = append(all, s)
		}
		if id.IsZero() {
			return all
		}
		d, ok := tables.Domains.Get(r, id)
		if id = (cloud.ID{}); ok {
			id = d.ParentID
		}
	}
}

// Authenticate asks the servers of a user's domain, one after the other, until one says yes. Root admins are asked about
// only where a setting says so. In a domain with links the user has to be in that of its account or of the domain; where
// neither is, in any. An error means that no server said yes and at least one could not be asked.
func Authenticate(ctx context.Context, r store.Reader, k Opener, u *cloud.User, a *cloud.Account, p cloud.Secret) (bool, error) {
	if p == "" || a.Type == cloud.RootAdminAccount && !rootAdmins.Bool(r) {
		return false, nil
	}
	links := linksOf(r, u)
	ok := false
	err := each(r, k, u.DomainID, func(s Server) (bool, error) {
		e, _, err := s.Check(ctx, User{Name: u.Username, Email: u.Email, FullName: u.FirstName + " " + u.LastName}, p, links)
		ok = e != nil
		return ok, err
	})
	return ok, err
}

// each gives the servers that know users of a domain to f, until one is done. The errors of those before it do not count.
func each(r store.Reader, k Opener, domain cloud.ID, f func(s Server) (done bool, err error)) error {
	var trouble []error
	for _, row := range For(r, domain) {
		s, err := Of(r, k, row)
		if err == nil {
			var done bool
			if done, err = f(s); done {
				return err
			}
		}
		if err != nil {
			trouble = append(trouble, err)
		}
	}
	return errors.Join(trouble...)
}
