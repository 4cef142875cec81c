package storage

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// Guard keeps downloads away from the provider's own networks: a tenant's URL must not reach what the tenant cannot.
// It looks at the address that is really dialled, after name resolution, so neither a name that resolves to an inner
// address, nor one that resolves differently the second time, nor a redirect gets around it.
type Guard struct {
	Allowed []netip.Prefix
}

// ParseSites reads the setting secstorage.allowed.internal.sites.
func ParseSites(text string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range strings.Split(text, ",") {
		if s = strings.TrimSpace(s); s == "" {
			continue
		}
		if ip, err := netip.ParseAddr(s); err == nil {
			out = append(out, netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, cloud.Errorf(cloud.Invalid, "%q in secstorage.allowed.internal.sites is no CIDR", s)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// ErrForbiddenAddress says that a download led to an address that is not public and not allowed.
var ErrForbiddenAddress = errors.New("downloads from this address are not allowed")

// special are addresses that are not the public internet's (IANA special-purpose registries), beyond those that netip
// names.
var special = prefixes(
	"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24",
	"192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
	"2001::/23", "2001:db8::/32", "3fff::/20", "2620:4f:8000::/48",
)

var (
	global6 = netip.MustParsePrefix("2000::/3")
	// Prefixes that carry an IPv4 address inside: what counts is that.
	nat64  = netip.MustParsePrefix("64:ff9b::/96")
	sixTo4 = netip.MustParsePrefix("2002::/16")
)

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// Check tells whether an address may be dialled.
func (g Guard) Check(ip netip.Addr) error {
	ip = ip.WithZone("").Unmap()
	for _, p := range g.Allowed {
		if p.Contains(ip) {
			return nil
		}
	}
	if public(ip) {
		return nil
	}
	return fmt.Errorf("%w: %s is not public; an administrator can allow it in the setting secstorage.allowed.internal.sites", ErrForbiddenAddress, ip)
}

func public(ip netip.Addr) bool {
	b := ip.As16()
	switch {
	case ip.Is6() && nat64.Contains(ip):
		return public(netip.AddrFrom4([4]byte(b[12:16])))
	case ip.Is6() && sixTo4.Contains(ip):
		return public(netip.AddrFrom4([4]byte(b[2:6])))
	case ip.Is6() && !global6.Contains(ip):
		return false
	case !ip.IsGlobalUnicast() || ip.IsPrivate():
		return false
	}
	for _, p := range special {
		if p.Contains(ip) {
			return false
		}
	}
	return true
}

// control is called with the resolved address of every connection before it is made.
func (g Guard) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %s", ErrForbiddenAddress, address)
	}
	return g.Check(ap.Addr())
}

// maxRedirects bounds how often a download is sent elsewhere.
const maxRedirects = 5

// Client is an HTTP client behind the guard. It uses no proxy, keeps no cookies and no connections.
func (g Guard) Client() *http.Client {
	dialer := &net.Dialer{Timeout: 15 * time.Second, ControlContext: g.control}
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            dialer.DialContext,
			Proxy:                  nil,
			DisableKeepAlives:      true,
			DisableCompression:     true,
			TLSHandshakeTimeout:    15 * time.Second,
			ResponseHeaderTimeout:  60 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return fmt.Errorf("%w: more than %d redirects", ErrForbiddenAddress, maxRedirects)
			}
			req.Header.Del("Referer")
			if err := checkURL(req.URL); err != nil {
				return fmt.Errorf("%w: redirect to a URL that is not accepted: %w", ErrForbiddenAddress, err)
			}
			return nil
		},
	}
}

// ParseImageURL reads the URL of a template. It looks at the text alone and connects to nothing.
func ParseImageURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, cloud.Errorf(cloud.Invalid, "The url of a template cannot be read")
	}
	return u, checkURL(u)
}

func checkURL(u *url.URL) error {
	if s := strings.ToLower(u.Scheme); s != "http" && s != "https" {
		return cloud.Errorf(cloud.Invalid, "Please specify a valid URL: %s is not supported; supported are http and https", printable(u.Scheme))
	}
	if u.Hostname() == "" || u.Opaque != "" {
		return cloud.Errorf(cloud.Invalid, "Please specify a valid URL: it names no host")
	}
	if u.User != nil {
		return cloud.Errorf(cloud.Invalid, "Please specify a valid URL: user and password in it are not supported")
	}
	// A metalink names further URLs, and those would be fetched unchecked.
	path := strings.ToLower(u.Path)
	for _, end := range []string{".metalink", ".meta4", ".torrent"} {
		if strings.HasSuffix(path, end) {
			return cloud.Errorf(cloud.Invalid, "Please specify the URL of an image itself: %s files are not supported", end)
		}
	}
	return nil
}

func printable(s string) string {
	if s == "" {
		return "a URL without scheme"
	}
	return fmt.Sprintf("%.32q", s)
}
