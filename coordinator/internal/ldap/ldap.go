// Package ldap asks directories whether a password is right.
//
// A server is asked in steps, each with a deadline, as the whole has: bind as the account that may search (or as nobody),
// search the one entry of the user, and whether it is where the domain's links want it (see LDAPLink in package cloud),
// bind as that entry with the password. What a person typed reaches the filter escaped. An empty
// password is never sent: a bind with one succeeds at many servers without proving anything (RFC 4513, 5.1.2).
// Referrals are not followed: a directory would send passwords to hosts that nobody named.
package ldap

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// Server is a directory as it is asked.
type Server struct {
	Host string
	Port uint16
	TLS  bool
	// StartTLS has TLS begin on a plain connection, before anything is sent. It means nothing without TLS.
	StartTLS bool
	// Authorities is PEM: who may have signed the server's certificate; empty: whom the machine believes.
	Authorities string
	BindDN      string // empty: search as nobody
	BindSecret  cloud.Secret
	Base        string
	// Filter finds the user's entry: %u is its name, %e its mail address, %n its full name. A filter without % is
	// combined with UserAttribute=%u.
	Filter        string
	UserAttribute string
	// What List asks for: the object class of users, and the attributes that hold mail address and names.
	Object, Mail, FirstName, LastName string
	// Nested lets members of a group's groups count as the group's.
	Nested bool
}

// User is whose password is asked about.
type User struct {
	Name, Email, FullName string
}

// timeout bounds each step of a conversation.
const timeout = 5 * time.Second

// ErrUnreachable tells that a server could not be asked, unlike one that said no.
var ErrUnreachable = errors.New("the directory cannot be asked")

// Check finds the user's entry and tells whether the password is the entry's. With links only an entry in one of them
// counts, and the links that it is in are told. No such user, or several, is nil; an error means that it is not known.
func (s Server) Check(ctx context.Context, u User, p cloud.Secret, links []*cloud.LDAPLink) (*Entry, []*cloud.LDAPLink, error) {
	if p == "" || u.Name == "" {
		return nil, nil, nil
	}
	c, err := s.open(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = c.Close() }()
	e, in, err := s.find(c, u, links)
	if e == nil || err != nil {
		return nil, nil, err
	}
	err = c.Bind(e.DN, string(p))
	var refused *ldap.Error
	switch {
	case err == nil:
		return e, in, nil
	case errors.As(err, &refused) && refused.ResultCode < ldap.ErrorNetwork:
		return nil, nil, nil // what the server said, whatever its reason
	}
	return nil, nil, fmt.Errorf("ask %s: %w: %w", s.address(), ErrUnreachable, err)
}

// Probe tells what is wrong with a server's configuration: address, bind and search base.
func (s Server) Probe(ctx context.Context) error {
	c, err := s.open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	filter := s.filter(User{Name: "probe"})
	_, err = c.Search(ldap.NewSearchRequest(
		s.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 1, int(timeout/time.Second), false, filter, []string{"1.1"}, nil,
	))
	if err != nil && !ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded) {
		return fmt.Errorf("search %s of %s: %w", s.Base, s.address(), err)
	}
	return nil
}

func (s Server) address() string { return net.JoinHostPort(s.Host, strconv.Itoa(int(s.Port))) }

// open connects and binds as the account that searches.
func (s Server) open(ctx context.Context) (*ldap.Conn, error) {
	dialer := net.Dialer{Timeout: timeout}
	conn, err := dialer.DialContext(ctx, "tcp", s.address())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	// Whatever a server does, or does not, the conversation ends.
	if err := conn.SetDeadline(time.Now().Add(3 * timeout)); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("connect to %s: %w", s.address(), err)
	}
	c, err := s.converse(ctx, conn)
	if err != nil {
		return nil, fmt.Errorf("%w: TLS with %s: %w", ErrUnreachable, s.address(), err)
	}
	if s.BindDN == "" {
		return c, nil
	}
	if s.BindSecret == "" {
		_ = c.Close()
		return nil, fmt.Errorf("%w: no password for %s is set", ErrUnreachable, s.BindDN)
	}
	if err := c.Bind(s.BindDN, string(s.BindSecret)); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("%w: bind to %s as %s: %w", ErrUnreachable, s.address(), s.BindDN, err)
	}
	return c, nil
}

// converse speaks LDAP over a connection, which it closes where it fails. With TLS nothing but the wish for it is sent in
// plain text, and a server that does not want it is not asked.
func (s Server) converse(ctx context.Context, conn net.Conn) (*ldap.Conn, error) {
	config := &tls.Config{ServerName: s.Host, MinVersion: tls.VersionTLS12, RootCAs: s.roots()}
	if s.TLS && !s.StartTLS {
		secure := tls.Client(conn, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, err
		}
		conn = secure
	}
	c := ldap.NewConn(conn, s.TLS && !s.StartTLS)
	c.SetTimeout(timeout)
	c.Start()
	if s.TLS && s.StartTLS {
		if err := c.StartTLS(config); err != nil {
			_ = c.Close()
			return nil, err
		}
	}
	return c, nil
}

// roots is nil for the machine's list.
func (s Server) roots() *x509.CertPool {
	if s.Authorities == "" {
		return nil
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(s.Authorities)) // what is no certificate was refused by CheckAuthorities
	return pool
}

// filter puts the user into the filter, escaped.
func (s Server) filter(u User) string {
	f := s.Filter
	if !strings.Contains(f, "%") {
		f = "(&" + f + "(" + s.UserAttribute + "=%u))"
	}
	return strings.NewReplacer(
		"%u", ldap.EscapeFilter(u.Name), "%e", ldap.EscapeFilter(u.Email), "%n", ldap.EscapeFilter(u.FullName), "%%", "%",
	).Replace(f)
}

// CheckFilter refuses a filter that is none, or that does not tell users apart.
func CheckFilter(filter string) error {
	s := Server{Filter: filter}
	if !strings.Contains(filter, "%u") && !strings.Contains(filter, "%e") && !strings.Contains(filter, "%n") {
		return cloud.Errorf(cloud.Invalid, "Invalid query filter: it must name the user by %%u, %%e or %%n")
	}
	if _, err := ldap.CompileFilter(s.filter(User{"u", "e", "n"})); err != nil {
		return cloud.Errorf(cloud.Invalid, "Invalid query filter %q", filter)
	}
	return nil
}

// CheckDN refuses what is no distinguished name.
func CheckDN(param, dn string) error {
	if err := isDN(dn); err != nil || dn == "" {
		return cloud.Errorf(cloud.Invalid, "Invalid %s %q: it must be a distinguished name as dc=example,dc=org", param, dn)
	}
	return nil
}

// CheckAuthorities refuses what holds no certificates.
func CheckAuthorities(pem string) error {
	if err := isPEM(pem); err != nil {
		return cloud.Errorf(cloud.Invalid, "Invalid truststore: it %v", err)
	}
	return nil
}
