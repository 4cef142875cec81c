package server

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/cloud"
)

// signer writes requests as clients do, of the pairs that are sent, in the order and with the encoding that are given.
type signer struct {
	t        *testing.T
	endpoint string
	env      map[string]string
}

// escape is how a client encodes.
type escape func(string) string

func percent(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// sign returns the pairs, encoded, with those that sign them.
func (s signer) sign(e escape, pairs ...string) []string {
	v := url.Values{"apiKey": {s.env["CLOUDSTACK_KEY"]}}
	parts := []string{"apiKey=" + e(s.env["CLOUDSTACK_KEY"])}
	for i := 0; i < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
		parts = append(parts, e(pairs[i])+"="+e(pairs[i+1]))
	}
	return append(parts, "signature="+e(api.Sign(v, cloud.Secret(s.env["CLOUDSTACK_SECRET"]))))
}

// do sends a query and, where there is one, a form.
func (s signer) do(query, form string) (*http.Response, []byte) {
	s.t.Helper()
	method := http.MethodGet
	if form != "" {
		method = http.MethodPost
	}
	q, err := http.NewRequestWithContext(s.t.Context(), method, s.endpoint+"?"+query, strings.NewReader(form))
	if err != nil {
		s.t.Fatal(err)
	}
	if form != "" {
		q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	res, err := http.DefaultClient.Do(q)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return res, b
}

// in decodes an answer in JSON and returns what is in its envelope.
func (s signer) in(raw []byte, envelope string) map[string]any {
	s.t.Helper()
	var top map[string]map[string]any
	if err := json.Unmarshal(raw, &top); err != nil || len(top) != 1 || top[envelope] == nil {
		s.t.Fatalf("not a %s: %v %.300s", envelope, err, raw)
	}
	return top[envelope]
}

// What a request looks like on the wire does not matter: the same parameters, wherever and however they are sent, are the
// same call. Over HTTP itself, since what libraries on both ends make of a query is a part of it.
func TestOneCallInManyForms(t *testing.T) {
	r := start(t, testConfig(t, "one"))
	r.ready(t)
	s := signer{t, "http://" + r.cfg.Plain[0] + "/client/api", admin(t, r.cfg)}
	const odd = "a b+c/d,e:f & = % ~ * [x] ü 日本 \"q\""
	data := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("0123456789abcdef"), 2<<10))
	for _, x := range []struct {
		name     string
		escape   escape
		inQuery  int // of the parts, how many are in the query and not in the form; -1 all
		repeated []string
		pairs    []string
		want     string // the value that comes back, as the caller sent it
	}{
		{"a space as +", url.QueryEscape, -1, nil, []string{"command", "createAccount", "accountdetails[0].key", "text", "accountdetails[0].value", odd}, odd},
		{"a space as %20", percent, -1, nil, []string{"command", "createAccount", "accountdetails[0].key", "text", "accountdetails[0].value", odd}, odd},
		{"all in the form", percent, 0, nil, []string{"command", "createAccount", "accountdetails[0].key", "text", "accountdetails[0].value", odd}, odd},
		{"the key alone in the query", url.QueryEscape, 1, nil, []string{"command", "createAccount", "accountdetails[0].text", odd}, odd},
		{"half of a map in the form", url.QueryEscape, 3, nil, []string{"command", "createAccount", "accountdetails[4].key", "text", "accountdetails[4].value", odd}, odd},
		{"a map with gaps", percent, -1, nil, []string{
			"command", "createAccount", "accountdetails[17].value", odd, "accountdetails[3].key", "other", "accountdetails[17].key", "text", "accountdetails[3].value", "v",
		}, odd},
		{"names in any case", percent, -1, nil, []string{"COMMAND", "CREATEaccount", "AccountDetails[0].KEY", "text", "accountDETAILS[0].Value", odd}, odd},
		{"brackets as they are", func(s string) string {
			return strings.NewReplacer("%5B", "[", "%5D", "]").Replace(percent(s))
		}, -1, nil, []string{"command", "createAccount", "accountdetails[0].key", "text", "accountdetails[0].value", "[x]"}, "[x]"},
		{"said twice alike", percent, 3, []string{"command=createAccount", "response=json"}, []string{
			"command", "createAccount", "accountdetails[0].key", "text", "accountdetails[0].value", odd,
		}, odd},
		{"empty parts", percent, 2, []string{"", "", ""}, []string{"command", "createAccount", "accountdetails[0].text", odd}, odd},
		{"32 KiB in a query", percent, -1, nil, []string{"command", "registerUserData", "userdata", data}, data},
		{"32 KiB in a query, encoded twice", percent, -1, nil, []string{"command", "registerUserData", "userdata", percent(data)}, data},
		{"32 KiB in a form", url.QueryEscape, 0, nil, []string{"command", "registerUserData", "userdata", data}, data},
	} {
		t.Run(x.name, func(t *testing.T) {
			s := s
			s.t = t
			name := "n" + strings.NewReplacer(" ", "", "+", "plus", "%", "", ",", "").Replace(x.name)
			pairs := slices.Concat(x.pairs, []string{"name", name, "response", "json"})
			if x.pairs[1] != "registerUserData" {
				pairs = append(pairs, "username", name, "email", "a@example.org", "firstname", "f", "lastname", "l", "password", "pass word")
			}
			parts := s.sign(x.escape, pairs...)
			n := x.inQuery
			if n < 0 {
				n = len(parts)
			}
			res, raw := s.do(strings.Join(slices.Concat(parts[:n], x.repeated), "&"), strings.Join(parts[n:], "&"))
			if res.StatusCode != http.StatusOK {
				t.Fatalf("%d %.300s", res.StatusCode, raw)
			}
			var got any
			if x.pairs[1] == "registerUserData" {
				one, _ := s.in(raw, "registeruserdataresponse")["userdata"].(map[string]any)
				got = one["userdata"]
			} else {
				one, _ := s.in(raw, "createaccountresponse")["account"].(map[string]any)
				details, _ := one["accountdetails"].(map[string]any)
				got = details["text"]
			}
			if got != x.want {
				t.Errorf("came back as %.200v", got)
			}
		})
	}
}

// Requests that are no calls are refused with an answer, in the form that was asked for as far as that could be read.
func TestRequestsThatAreNoCalls(t *testing.T) {
	r := start(t, testConfig(t, "one"))
	r.ready(t)
	s := signer{t, "http://" + r.cfg.Plain[0] + "/client/api", admin(t, r.cfg)}
	signed := strings.Join(s.sign(percent, "command", "listZones", "response", "json"), "&")
	for _, x := range []struct {
		name, query, form string
		code              int
		text, kind        string
	}{
		{"broken encoding", "response=json&command=%zz", "", 430, "The value of parameter command is not percent-encoded well", "application/json; charset=UTF-8"},
		{"broken encoding, XML", "command=listZones&name=%", "", 430, "The value of parameter name is not percent-encoded well", "text/xml; charset=UTF-8"},
		{"a broken name", "response=json&%zz=1", "", 430, "A parameter's name is not percent-encoded well", "application/json; charset=UTF-8"},
		{"broken in the form", "response=json", "command=listZones&x=%f", 430, "The value of parameter x is not percent-encoded well", "application/json; charset=UTF-8"},
		{"two commands", signed + "&command=listUsers", "", 430, "Parameter command is given twice with different values", "application/json; charset=UTF-8"},
		{"another command in the form", signed, "command=listUsers", 430, "Parameter command is given twice with different values", "application/json; charset=UTF-8"},
		{"the same name in another case", signed + "&Response=xml", "", 430, "is given twice with different values", ""},
		{"a parameter that was not signed", signed, "listall=true", 401, "unable to verify user credentials and/or request signature", "application/json; charset=UTF-8"},
		{"a map without an index", strings.Join(s.sign(percent, "command", "updateZone", "id", someZone, "details[x].key", "k", "response", "json"), "&"), "", 430, "details", "application/json; charset=UTF-8"},
		{"a map opened twice", strings.Join(s.sign(percent, "command", "updateZone", "id", someZone, "details[0][1].key", "k", "response", "json"), "&"), "", 430, "details", "application/json; charset=UTF-8"},
		{"no command in XML", "", "", 432, "No command is given", "text/xml; charset=UTF-8"},
	} {
		t.Run(x.name, func(t *testing.T) {
			s := s
			s.t = t
			res, raw := s.do(x.query, x.form)
			if res.StatusCode != x.code || !strings.Contains(res.Header.Get("X-Description"), x.text) {
				t.Errorf("%d %q: %s", res.StatusCode, res.Header.Get("X-Description"), raw)
			}
			if got := res.Header.Get("Content-Type"); x.kind != "" && got != x.kind {
				t.Errorf("as %s: %s", got, raw)
			}
			if res.Header.Get("Set-Cookie") != "" {
				t.Error("it sets a cookie")
			}
		})
	}
}

const someZone = "01234567-89ab-cdef-0123-456789abcdef"
