package storage

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// The corpus of addresses that downloads must not reach, whatever name or redirect led there.
func TestCVE_2024_29007_CVE_2026_50112_CVE_2026_61422_GuardAddresses(t *testing.T) {
	refused := `0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1 127.1.2.3 127.255.255.255
		169.254.0.1 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.170 192.0.2.1 192.88.99.1 192.168.0.1 192.168.255.255
		198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255
		:: ::1 ::127.0.0.1 ::10.0.0.1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:192.168.1.1 ::ffff:7f00:1
		64:ff9b::127.0.0.1 64:ff9b::10.1.2.3 64:ff9b::a9fe:a9fe 64:ff9b:1::1 100::1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2
		2001:db8::1 2001:10::1 2002:7f00:1::1 2002:a00:1::1 2002:c0a8:101::1 2002:a9fe:a9fe::1 3fff::1 4000::1 5f00::1
		fc00::1 fd00::1 fdff:ffff::1 fe80::1 fe80::1%lo febf::1 fec0::1 ff02::1 ff05::2 ffff::1`
	for _, s := range strings.Fields(refused) {
		if err := (Guard{}).Check(netip.MustParseAddr(s)); !errors.Is(err, ErrForbiddenAddress) {
			t.Errorf("%s is not refused: %v", s, err)
		}
	}
	for _, s := range strings.Fields(`1.1.1.1 8.8.8.8 9.9.9.9 172.15.255.255 172.32.0.1 192.167.1.1 100.63.255.255 100.128.0.1 169.253.1.1
		223.255.255.254 ::ffff:8.8.8.8 64:ff9b::8.8.8.8 2002:808:808::1 2606:4700::1111 2a00:1450::1 2001:4860:4860::8888`) {
		if err := (Guard{}).Check(netip.MustParseAddr(s)); err != nil {
			t.Errorf("%s is refused: %v", s, err)
		}
	}
	sites, err := ParseSites(" 10.1.0.0/16, 127.0.0.1 ,fd00:1::/32,,")
	if err != nil {
		t.Fatal(err)
	}
	g := Guard{sites}
	for s, good := range map[string]bool{
		"10.1.2.3": true, "::ffff:10.1.2.3": true, "10.2.0.1": false, "127.0.0.1": true, "127.0.0.2": false,
		"fd00:1::5": true, "fd00:2::5": false, "169.254.169.254": false,
	} {
		if err := g.Check(netip.MustParseAddr(s)); (err == nil) != good {
			t.Errorf("with allowed sites, %s: %v", s, err)
		}
	}
	for _, bad := range []string{"example.org", "10.0.0.0/33", "10.0.0.0/8;::1"} {
		if _, err := ParseSites(bad); cloud.CodeOf(err) != cloud.Invalid {
			t.Errorf("site %q: %v", bad, err)
		}
	}
}

func TestCVE_2026_61422_ImageURLs(t *testing.T) {
	for url, good := range map[string]bool{
		"http://example.org/a.qcow2":           true,
		"https://example.org:8443/a.qcow2?x=y": true,
		"HTTP://EXAMPLE.org/a":                 true,
		"ftp://example.org/a":                  false,
		"file:///etc/passwd":                   false,
		"gopher://example.org/":                false,
		"nfs://example.org/a":                  false,
		"data:text/plain,hello":                false,
		"//example.org/a":                      false,
		"/etc/passwd":                          false,
		"example.org/a":                        false,
		"http://":                              false,
		"http:///a":                            false,
		"http:example.org/a":                   false,
		"http://user@example.org/a":            false,
		"http://user:pass@example.org/a":       false,
		"http://example.org@127.0.0.1/a":       false,
		"http://example.org/a.metalink":        false,
		"http://example.org/a.META4":           false,
		"http://example.org/a.torrent?x":       false,
		"http://[::1":                          false,
		"http://exa mple.org/":                 false,
		"http://example.org/a\nHost: inner":    false,
		"":                                     false,
	} {
		_, err := ParseImageURL(url)
		if (err == nil) != good || err != nil && cloud.CodeOf(err) != cloud.Invalid {
			t.Errorf("%q: %v", url, err)
		}
	}
}

// The guard looks at what is dialled: names, redirects and odd spellings of addresses.
func TestCVE_2024_29007_CVE_2026_50112_GuardDials(t *testing.T) {
	hits := 0
	inner := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits++ }))
	defer inner.Close()
	port := inner.URL[strings.LastIndexByte(inner.URL, ':'):]
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]", "127.1", "2130706433", "0x7f000001", "0177.0.0.1"} {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+host+port+"/", nil)
		if err != nil {
			continue
		}
		resp, err := Guard{}.Client().Do(req)
		if err == nil {
			_ = resp.Body.Close()
			t.Errorf("%s was reached", host)
		}
	}
	if hits != 0 {
		t.Errorf("the inner server was reached %d times", hits)
	}
	// An allowed server that sends on to one that is not: only 127.0.0.1 is allowed, the other listens on 127.0.0.2.
	sites, _ := ParseSites("127.0.0.1")
	for name, target := range map[string]string{
		"redirect to a forbidden address": "http://127.0.0.2" + port + "/",
		"redirect to another scheme":      "file:///etc/passwd",
		"redirect to a user":              "http://u:p@127.0.0.1" + port + "/",
		"redirect to a metalink":          inner.URL + "/a.metalink",
		"redirect to metadata":            "http://169.254.169.254/latest/",
	} {
		from := httptest.NewServer(http.RedirectHandler(target, http.StatusFound))
		req, _ := http.NewRequestWithContext(context.Background(), http.MethodGet, from.URL, nil)
		resp, err := Guard{sites}.Client().Do(req)
		if err == nil {
			_ = resp.Body.Close()
			t.Errorf("%s was followed", name)
		} else if !errors.Is(err, ErrForbiddenAddress) {
			t.Errorf("%s: %v", name, err)
		}
		from.Close()
	}
	var loop *httptest.Server
	loop = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, loop.URL, http.StatusFound) }))
	defer loop.Close()
	req, _ := http.NewRequestWithContext(context.Background(), http.MethodGet, loop.URL, nil)
	if resp, err := (Guard{sites}).Client().Do(req); err == nil {
		_ = resp.Body.Close()
		t.Error("a loop of redirects was followed to an end")
	}
	if hits != 0 {
		t.Errorf("the inner server was reached %d times", hits)
	}
}
