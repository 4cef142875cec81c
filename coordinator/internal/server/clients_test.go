package server

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// script drives python3-cs and python3-libcloud, as Debian has them, against a coordinator, and prints what they saw.
const script = `
import json, os, sys
from cs import CloudStack, CloudStackApiException
endpoint, key, secret = (os.environ[k] for k in ("CLOUDSTACK_ENDPOINT", "CLOUDSTACK_KEY", "CLOUDSTACK_SECRET"))
out = {}
for method in ("get", "post"):
    c = CloudStack(endpoint=endpoint, key=key, secret=secret, method=method)
    odd = "a b+c/d,e:f~*[x]' %41 ü 日本 &=?"
    out["cs %s odd" % method] = c.createDomain(name=method + " " + odd.replace("/", "|"))["domain"]["name"] == method + " " + odd.replace("/", "|")
    out["cs %s count" % method] = c.listDomains(listall=True)["count"]
    out["cs %s pages" % method] = len(c.listOsTypes(fetch_list=True))
    out["cs %s empty" % method] = c.listZones()
    out["cs %s no expiry" % method] = CloudStack(endpoint=endpoint, key=key, secret=secret, method=method, expiration=-1).listUsers()["user"][0]["username"]
    try:
        c.listDomains(id="01234567-89ab-cdef-0123-456789abcdef")
    except CloudStackApiException as e:
        out["cs %s error" % method] = [e.error["errorcode"], e.error["errortext"]]
    try:
        CloudStack(endpoint=endpoint, key=key, secret="wrong", method=method).listZones()
    except CloudStackApiException as e:
        out["cs %s wrong secret" % method] = e.error["errorcode"]

from libcloud.compute.providers import get_driver
from libcloud.compute.types import Provider
from libcloud.common.types import InvalidCredsError, ProviderError
from urllib.parse import urlparse
u = urlparse(endpoint)
def driver(secret):
    return get_driver(Provider.CLOUDSTACK)(key, secret, host=u.hostname, port=u.port, path=u.path, secure=False)
d = driver(secret)
out["libcloud sizes"] = sorted(s.name for s in d.list_sizes())
out["libcloud nodes"] = len(d.list_nodes())
k = d.import_key_pair_from_string("key [1]~*", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5+mlqhTnSCEW3Hn7ZUzHZ+8cO2BHrCVGbCLrLw6jgO x@y")
out["libcloud key"] = [p.name for p in d.list_key_pairs()]
out["libcloud key gone"] = d.delete_key_pair(k)
try:
    driver("wrong").list_sizes()
except InvalidCredsError:
    out["libcloud wrong secret"] = "InvalidCredsError"
try:
    d.get_key_pair("nothing")
except Exception as e:
    out["libcloud error"] = type(e).__name__

# Each thing twice: the second time it is refused, and there is one.
c = CloudStack(endpoint=endpoint, key=key, secret=secret, poll_interval=0.1, fetch_result=True)
person = dict(email="ann@example.org", firstname="Ann", lastname="Acme", password="correct-horse-1")
root = c.listDomains(name="ROOT")["domain"][0]["id"]
for noun, make, params, rows, find in (
    ("domain", "createDomain", dict(name="acme"), "listDomains", dict(name="acme")),
    ("account", "createAccount", dict(username="ann", accounttype=0, **person), "listAccounts", dict(name="ann", listall=True)),
    ("user", "createUser", dict(username="bob", account="ann", domainid=root, **person), "listUsers", dict(username="bob", listall=True)),
    ("project", "createProject", dict(name="web", displaytext="the web shop"), "listProjects", dict(name="web")),
    ("affinitygroup", "createAffinityGroup", dict(name="apart", type="host anti-affinity"), "listAffinityGroups", dict(name="apart")),
    ("sshkeypair", "registerSSHKeyPair", dict(name="ann", publickey="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5+mlqhTnSCEW3Hn7ZUzHZ+8cO2BHrCVGbCLrLw6jgO x@y"),
     "listSSHKeyPairs", dict(name="ann")),
):
    getattr(c, make)(**params)
    try:
        getattr(c, make)(**params)
        again = "made twice"
    except CloudStackApiException as e:
        again = e.error["errorcode"]
    out["cs twice " + noun] = [again, getattr(c, rows)(**find)["count"]]
out["libcloud projects"] = [p.name for p in d.ex_list_projects()]
out["libcloud groups"] = [g.name for g in d.ex_list_affinity_groups()]
g = d.ex_create_affinity_group("near", d.ex_list_affinity_group_types()[0])
try:
    d.ex_create_affinity_group("near", d.ex_list_affinity_group_types()[0])
    out["libcloud twice group"] = "made twice"
except Exception as e:
    out["libcloud twice group"] = "already exists" in str(e)  # it finds the first in the list
out["libcloud group gone"] = d.ex_delete_affinity_group(g)
json.dump(out, sys.stdout)
`

func TestPythonClients(t *testing.T) {
	const python = "/usr/bin/python3"
	if err := exec.CommandContext(t.Context(), python, "-c", "import cs, libcloud").Run(); err != nil {
		if os.Geteuid() == 0 {
			t.Fatal("python3-cs and python3-libcloud are not installed (make deps)")
		}
		t.Skip("python3-cs and python3-libcloud are not installed (make deps as root)")
	}
	r := start(t, testConfig(t, "one"))
	r.ready(t)
	cmd := exec.CommandContext(t.Context(), python, "-c", script)
	for k, v := range admin(t, r.cfg) {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	b, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	const gone = "Invalid parameter id value=01234567-89ab-cdef-0123-456789abcdef due to incorrect long value format, or entity does not exist"
	types, _ := got["cs get pages"].(float64) // all of them, although they are more than one page
	want := map[string]any{
		"cs get odd": true, "cs post odd": true, "cs get count": 2.0, "cs post count": 3.0,
		"cs get pages": types, "cs post pages": types,
		"cs get empty": map[string]any{}, "cs post empty": map[string]any{},
		"cs get no expiry": "admin", "cs post no expiry": "admin",
		"cs get error": []any{431.0, gone}, "cs post error": []any{431.0, gone},
		"cs get wrong secret": 401.0, "cs post wrong secret": 401.0,
		"libcloud sizes": []any{"Medium Instance", "Small Instance"}, "libcloud nodes": 0.0,
		"libcloud key": []any{"key [1]~*"}, "libcloud key gone": true,
		"libcloud wrong secret": "InvalidCredsError", "libcloud error": "KeyPairDoesNotExistError",
	}
	for _, noun := range []string{"domain", "account", "user", "project", "affinitygroup", "sshkeypair"} {
		want["cs twice "+noun] = []any{431.0, 1.0}
	}
	want["libcloud projects"], want["libcloud groups"] = []any{"web"}, []any{"apart"}
	want["libcloud twice group"], want["libcloud group gone"] = true, true
	if types < 50 {
		t.Errorf("only %v OS types", types)
	}
	for k, w := range want {
		g, _ := json.Marshal(got[k])
		if x, _ := json.Marshal(w); string(g) != string(x) {
			t.Errorf("%s: %s, want %s", k, g, x)
		}
	}
}
