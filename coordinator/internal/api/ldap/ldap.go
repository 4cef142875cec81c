// Package ldap holds the commands of directories that know users' passwords.
//
// There are two ways to name one. ldapConfig, of CloudStack 4.1, is one server with everything about it;
// addLdapConfiguration, of newer versions, is any number of servers by host and port, asked as the ldap.* settings say.
// Users of directories are made of them by ldapCreateAccount and importLdapUsers; their passwords stay where they are.
// linkDomainToLdap and linkAccountToLdap let those of a group or an organizational unit in who are no users yet: who
// manages a directory makes users here where, and only where, somebody linked it. TLS begins with the first byte (ldaps) or by
// StartTLS, which CloudStack does not have, with certificates of one's own.
//
// Domain admins may link accounts of their domains; all else is only for root admins, and nobody is shown the servers but
// they: others get an empty list, because a user interface asks for it when it starts.
package ldap

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	directory "github.com/wispcloud/wisp/coordinator/internal/ldap"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// Deps is what the commands need.
type Deps struct{ Seal *seal.Keeper }

// Entities lists the entity of directories.
func Entities() []api.Entity {
	return []api.Entity{{Name: "ldapconfiguration", Lookup: func(r store.Reader, id cloud.ID) (api.Owner, bool) {
		return api.Owner{}, tables.LDAPServers.Has(r, id)
	}}}
}

// Commands lists the commands.
func Commands(d Deps) []api.Command {
	return []api.Command{d.config(), clear(), d.add(), remove(), list(), d.listUsers(), d.createAccount(), d.importUsers(), d.linkDomain(), d.linkAccount()}
}

// Config is the answer of ldapConfig. It never tells the bind password.
type Config struct {
	Hostname    string `json:"hostname" doc:"the server"`
	Port        string `json:"port" doc:"its port"`
	SSL         string `json:"ssl" doc:"whether it is asked over TLS from the first byte on, or by StartTLS"`
	SearchBase  string `json:"searchbase" doc:"where users are searched"`
	QueryFilter string `json:"queryfilter" doc:"how a user is found"`
	BindDN      string `json:"binddn,omitempty" doc:"the entry that searches"`
}

type configParams struct {
	Hostname     string       `api:"hostname,required" doc:"name or address of the server"`
	Port         *int         `api:"port" min:"1" max:"65535" doc:"its port; 389, or 636 with ssl, where absent"`
	SSL          bool         `api:"ssl" doc:"whether to ask it over TLS from the first byte on (ldaps)"`
	StartTLS     bool         `api:"starttls" doc:"whether to ask it over TLS that begins on its plain port (StartTLS); instead of ssl"`
	SearchBase   string       `api:"searchbase,required" doc:"where users are searched, as dc=example,dc=org"`
	QueryFilter  string       `api:"queryfilter,required" doc:"how a user is found: %u is its name, %e its mail address, %n its full name"`
	BindDN       string       `api:"binddn" doc:"the entry that may search; nobody where absent"`
	BindPassword cloud.Secret `api:"bindpass" doc:"the password of binddn"`
	TrustStore   string       `api:"truststore" len:"65536" doc:"the text, in PEM form, of certificates that may have signed the server's"`
	TrustPass    cloud.Secret `api:"truststorepass" doc:"accepted from older tools; certificates in PEM form need none"`
}

func (p *configParams) row(k *seal.Keeper) (*cloud.LDAPServer, error) {
	s := &cloud.LDAPServer{
		ID: cloud.NameID("ldap_server", "single"), Hostname: p.Hostname, Port: 389, SearchBase: p.SearchBase, QueryFilter: p.QueryFilter,
		BindDN: p.BindDN, TLS: p.SSL || p.StartTLS, StartTLS: p.StartTLS, Authorities: p.TrustStore, Single: true,
	}
	switch {
	case p.Port != nil:
		s.Port = uint16(*p.Port)
	case p.SSL:
		s.Port = 636
	}
	if p.SSL && p.StartTLS {
		return nil, cloud.Errorf(cloud.Invalid, "Parameters ssl and starttls exclude each other")
	}
	if (p.BindDN == "") != (p.BindPassword == "") {
		return nil, cloud.Errorf(cloud.Invalid, "Parameters binddn and bindpass must be given together")
	}
	if p.BindDN != "" {
		if err := directory.CheckDN("binddn", p.BindDN); err != nil {
			return nil, err
		}
		s.BindPassword = k.Seal(string(p.BindPassword))
	}
	return s, errors.Join(
		checkHost(p.Hostname), directory.CheckDN("searchbase", p.SearchBase), directory.CheckFilter(p.QueryFilter),
		directory.CheckAuthorities(p.TrustStore),
	)
}

func checkHost(name string) error {
	if strings.ContainsAny(name, " /@?#[]\t\r\n") {
		return cloud.Errorf(cloud.Invalid, "Invalid hostname %q: it must be a name or an address, without a scheme or a port", name)
	}
	return nil
}

// probe makes sure that a server answers, before anything is written.
func probe(ctx context.Context, r store.Reader, k *seal.Keeper, row *cloud.LDAPServer) error {
	s, err := directory.Of(r, k, row)
	if err != nil {
		return err
	}
	if err := s.Probe(ctx); err != nil {
		return cloud.Errorf(cloud.Invalid, "The LDAP server %s cannot be used: %v", row.Hostname, err)
	}
	return nil
}

func (d Deps) config() api.Command {
	return api.Command{
		Name: "ldapConfig", Doc: "Names the directory that knows users' passwords, instead of the one named before.", Roles: api.AdminOnly,
		Event: "LDAP.CONFIGURE", Entity: "LdapConfiguration", Object: "ldapconfig",
		Run: api.ChangeWith(func(c *api.Call, p *configParams) (*cloud.LDAPServer, error) {
			s, err := p.row(d.Seal)
			if err != nil {
				return nil, err
			}
			return s, probe(c.Context(), c.Read, d.Seal, s)
		}, func(c *api.Call, tx *store.Tx, _ *configParams, s *cloud.LDAPServer) (Config, error) {
			row := *s
			row.Created = tx.Now()
			c.Describe(row.ID, "configuring LDAP server "+row.Hostname)
			return Config{
				Hostname: row.Hostname, Port: strconv.Itoa(int(row.Port)), SSL: strconv.FormatBool(row.TLS), SearchBase: row.SearchBase,
				QueryFilter: row.QueryFilter, BindDN: row.BindDN,
			}, put(tx, &row)
		}),
	}
}

func put(tx *store.Tx, row *cloud.LDAPServer) error {
	err := tables.LDAPServers.Put(tx, row)
	var taken *store.Conflict
	if errors.As(err, &taken) {
		return cloud.Errorf(cloud.Invalid, "Duplicate configuration: %s:%d is known already", row.Hostname, row.Port)
	}
	if err != nil {
		return fmt.Errorf("write LDAP server %s: %w", row.Hostname, err)
	}
	return nil
}

type noParams struct{}

func clear() api.Command {
	return api.Command{
		Name: "ldapRemove", Doc: "Forgets the directory that ldapConfig named.", Roles: api.AdminOnly,
		Event: "LDAP.REMOVE", Entity: "LdapConfiguration",
		Run: api.Delete(func(c *api.Call, tx *store.Tx, _ *noParams) error {
			id := cloud.NameID("ldap_server", "single")
			c.Describe(id, "removing the LDAP server of ldapConfig")
			return tables.LDAPServers.Delete(tx, id)
		}),
	}
}

// View is a directory in an answer.
type View struct {
	ID       cloud.ID `json:"id" doc:"the configuration"`
	Hostname string   `json:"hostname" doc:"the server"`
	Port     int      `json:"port" doc:"its port"`
	DomainID cloud.ID `json:"domainid,omitempty" doc:"whose users it knows, with those of the domains below; absent: everybody's"`
}

func view(_ *api.Call, s *cloud.LDAPServer) View {
	return View{s.ID, s.Hostname, int(s.Port), s.DomainID}
}

type addParams struct {
	Hostname string   `api:"hostname,required" doc:"name or address of the server"`
	Port     int      `api:"port,required" min:"1" max:"65535" doc:"its port"`
	DomainID cloud.ID `api:"domainid" ref:"domain" doc:"whose users it knows, with those of the domains below; everybody's where absent"`
}

func (d Deps) add() api.Command {
	return api.Command{
		Name: "addLdapConfiguration", Doc: "Adds a directory that knows users' passwords; it is asked as the ldap.* settings say.", Since: "4.2.0",
		Roles: api.AdminOnly, Event: "LDAP.CONFIGURE", Entity: "LdapConfiguration", Object: "ldapconfiguration",
		Run: api.ChangeWith(func(c *api.Call, p *addParams) (*cloud.LDAPServer, error) {
			if err := checkHost(p.Hostname); err != nil {
				return nil, err
			}
			s := &cloud.LDAPServer{Hostname: p.Hostname, Port: uint16(p.Port), DomainID: p.DomainID}
			return s, probe(c.Context(), c.Read, d.Seal, s)
		}, func(c *api.Call, tx *store.Tx, _ *addParams, s *cloud.LDAPServer) (View, error) {
			row := *s
			row.ID, row.Created = tx.NewID(), tx.Now()
			c.Describe(row.ID, "adding LDAP server "+row.Hostname)
			return view(c, &row), put(tx, &row)
		}),
	}
}

type removeParams struct {
	ID       cloud.ID `api:"id" ref:"ldapconfiguration" doc:"the configuration; or hostname"`
	Hostname string   `api:"hostname" doc:"the server"`
	Port     *int     `api:"port" min:"1" max:"65535" doc:"its port"`
	DomainID cloud.ID `api:"domainid" ref:"domain" doc:"whose users it knows"`
}

func remove() api.Command {
	return api.Command{
		Name: "deleteLdapConfiguration", Doc: "Removes a directory.", Since: "4.2.0", Roles: api.AdminOnly,
		Event: "LDAP.REMOVE", Entity: "LdapConfiguration", Object: "ldapconfiguration",
		Run: api.Change(func(c *api.Call, tx *store.Tx, p *removeParams) (View, error) {
			if p.ID.IsZero() == (p.Hostname == "") {
				return View{}, cloud.Errorf(cloud.Invalid, "Either id or hostname must be specified, and not both")
			}
			for s := range tables.LDAPServers.All(tx) {
				if !p.ID.IsZero() && s.ID != p.ID || p.Hostname != "" && (!strings.EqualFold(s.Hostname, p.Hostname) || s.DomainID != p.DomainID) ||
					p.Port != nil && int(s.Port) != *p.Port {
					continue
				}
				c.Describe(s.ID, "removing LDAP server "+s.Hostname)
				return view(c, s), tables.LDAPServers.Delete(tx, s.ID)
			}
			return View{}, cloud.Errorf(cloud.Invalid, "Cannot find configuration with hostname %s", p.Hostname)
		}),
	}
}

type listParams struct {
	api.ListParams
	ID       cloud.ID `api:"id" ref:"ldapconfiguration" doc:"only this configuration"`
	Hostname string   `api:"hostname" doc:"only of this server"`
	Port     *int     `api:"port" doc:"only of this port"`
	DomainID cloud.ID `api:"domainid" ref:"domain,use" doc:"only of this domain"`
	ListAll  bool     `api:"listall" doc:"also those of domains; it makes no difference"`
}

func list() api.Command {
	return api.Command{
		Name: "listLdapConfigurations", Doc: "Lists the directories that know users' passwords, for root admins.", Since: "4.2.0",
		Roles: api.Everyone, Envelope: "ldapconfigurationresponse", Object: "LdapConfiguration",
		Run: api.List(api.Lister[listParams, cloud.LDAPServer, View]{
			Rows: func(c *api.Call, p *listParams) (iter.Seq[*cloud.LDAPServer], error) {
				if !c.IsRoot() {
					return nil, nil
				}
				return func(yield func(*cloud.LDAPServer) bool) {
					for s := range tables.LDAPServers.By(c.Read, "address", nil) {
						fits := (p.ID.IsZero() || p.ID == s.ID) && (p.Hostname == "" || strings.EqualFold(p.Hostname, s.Hostname)) &&
							(p.Port == nil || *p.Port == int(s.Port)) && (p.DomainID.IsZero() || p.DomainID == s.DomainID)
						if fits && !yield(s) {
							return
						}
					}
				}, nil
			},
			Keyword: func(s *cloud.LDAPServer) string { return s.Hostname },
			View:    view,
		}),
	}
}
