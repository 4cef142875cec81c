package api

import (
	"context"
	"net"
	"net/http"
	"net/netip"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// IntegrationPort opens the integration port, as CloudStack calls it: whoever reaches it is the system account, without
// credentials. It is off unless set, and then on the address that the coordinator's configuration names: loopback.
var IntegrationPort = settings.Define(settings.Def{
	Name: "integration.api.port", Category: "Advanced", Type: settings.Integer, Default: "0", Min: 0, Max: 65535,
	Doc: "Port on which the API takes calls without credentials, with all rights, from programs on the coordinator's own machine; 0 closes it.",
})

// SystemUser is the user that calls of the integration port are made by. It has no row: nobody logs in as it.
var SystemUser = cloud.NameID("user", "system")

type integrationKey struct{}

// Integration marks a request as one that came to the integration port.
func Integration(r *http.Request) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), integrationKey{}, true))
}

// FromIntegration tells whether a request came to the integration port.
func FromIntegration(r *http.Request) bool {
	v, _ := r.Context().Value(integrationKey{}).(bool)
	return v
}

// system is the caller of the integration port.
func system(at store.Reader) (*caller, error) {
	for a := range tables.Accounts.All(at) {
		if !a.System || a.Type != cloud.RootAdminAccount {
			continue
		}
		d, ok := tables.Domains.Get(at, a.DomainID)
		if !ok {
			break
		}
		u := &cloud.User{ID: SystemUser, AccountID: a.ID, DomainID: d.ID, Username: a.Name, State: cloud.Enabled, Created: a.Created}
		return &caller{user: u, account: a, domain: d}, nil
	}
	return nil, errCredentials
}

// identify finds out who makes a request.
func (s *Server) identify(q *request, at *store.View) (*caller, error) {
	if !FromIntegration(q.r) {
		return s.authenticate(q.r, q.values, at, s.cfg.Now())
	}
	if !byProgram(q.r) {
		return nil, cloud.Errorf(cloud.BadCredentials, "The integration port takes no calls of web pages")
	}
	return system(at)
}

// byProgram tells whether a request is none that a web page made a browser on this machine send: it names this machine
// by address or as localhost (a page's own name may resolve to any address), and no browser says that it is another
// site's.
func byProgram(r *http.Request) bool {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "localhost" {
		return false
	}
	return r.Header.Get("Origin") == "" && r.Header.Get("Sec-Fetch-Site") == ""
}

// again is the same caller in a later state.
func (c *caller) again(at store.Reader) (*caller, error) {
	if c.user.ID == SystemUser {
		return system(at)
	}
	return load(at, c.user.ID)
}
