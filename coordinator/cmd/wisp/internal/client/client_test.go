package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestSign uses a vector computed by hand with openssl from the rule of the developer guide.
func TestSign(t *testing.T) {
	v := url.Values{"command": {"listUsers"}, "apikey": {"Key"}, "name": {"A b+c*~[x]"}, "response": {"json"}}
	// printf %s 'apikey=key&command=listusers&name=a%20b%2bc%2a~%5bx%5d&response=json' | openssl dgst -sha1 -hmac secret -binary | base64
	const want = "VoeqdeKiYWfXYsrao9ff25LJ3Ok="
	if got := sign(v, "secret"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A cluster without a leader has done nothing, and is asked again; one that may have done something is not.
func TestElection(t *testing.T) {
	for _, x := range []struct {
		text  string
		calls int
		fails bool
	}{
		{"The cluster has no leader at the moment, and nothing was done; try again", 3, false},
		{"The cluster lost its leader while the call was written down; look whether it was carried out before trying again", 1, true},
	} {
		calls, questions := 0, 0
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			refuse := func() {
				w.WriteHeader(503)
				_, _ = fmt.Fprintf(w, `{"r":{"errorcode":503,"errortext":%q}}`, x.text)
			}
			if r.FormValue("command") == "queryAsyncJobResult" {
				if questions++; questions < 3 {
					refuse()
					return
				}
				_, _ = fmt.Fprint(w, `{"r":{"jobstatus":1,"jobresult":{"success":true}}}`)
				return
			}
			if calls++; calls < 3 {
				refuse()
				return
			}
			_, _ = fmt.Fprint(w, `{"r":{"jobid":"j"}}`)
		}))
		c, err := New(s.URL+"/client/api", "k", "s", s.Client())
		if err != nil {
			t.Fatal(err)
		}
		o, err := c.Run(context.Background(), "startVirtualMachine", nil)
		if (err != nil) != x.fails || calls != x.calls || !x.fails && (questions != 3 || o["success"] != true) {
			t.Errorf("%s: %d calls, %d questions, %v %v", x.text, calls, questions, o, err)
		}
		s.Close()
	}
}

func TestRunWaitsForTheJob(t *testing.T) {
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch c := r.FormValue("command"); c {
		case "startVirtualMachine":
			_, _ = fmt.Fprint(w, `{"startvirtualmachineresponse":{"jobid":"j"}}`)
		case "queryAsyncJobResult":
			asked++
			if asked < 2 {
				_, _ = fmt.Fprint(w, `{"queryasyncjobresultresponse":{"jobstatus":0}}`)
				return
			}
			_, _ = fmt.Fprint(w, `{"queryasyncjobresultresponse":{"jobstatus":1,"jobresult":{"virtualmachine":{"id":"v"}}}}`)
		default:
			w.WriteHeader(432)
			_, _ = fmt.Fprint(w, `{"errorresponse":{"errorcode":432,"errortext":"no such command"}}`)
		}
	}))
	defer s.Close()
	c, err := New(s.URL+"/client/api", "k", "s", s.Client())
	if err != nil {
		t.Fatal(err)
	}
	o, err := c.Run(context.Background(), "startVirtualMachine", nil)
	if err != nil || o.Inner().Text("id") != "v" {
		t.Errorf("got %v, %v", o, err)
	}
	_, err = c.Run(context.Background(), "nonsense", nil)
	var refusal *Error
	if !errors.As(err, &refusal) {
		t.Fatalf("got %v, want a refusal", err)
	}
	if d := cmp.Diff(&Error{Command: "nonsense", Status: 432, Text: "no such command"}, refusal); d != "" {
		t.Error(d)
	}
}

// A job that fails keeps the code of its failure, and an empty value is sent: it takes away what is there.
func TestJobCodeAndEmptyValue(t *testing.T) {
	var sent url.Values
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("command") == "queryAsyncJobResult" {
			_, _ = fmt.Fprint(w, `{"r":{"jobstatus":2,"jobresult":{"errorcode":533,"errortext":"no room"}}}`)
			return
		}
		sent = r.Form
		_, _ = fmt.Fprint(w, `{"r":{"jobid":"j"}}`)
	}))
	defer s.Close()
	c, err := New(s.URL+"/client/api", "k", "s", s.Client())
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Run(context.Background(), "startVirtualMachine", map[string]string{"group": ""})
	var refused *Error
	if !errors.As(err, &refused) || refused.Status != 533 {
		t.Errorf("the failure is %v", err)
	}
	if !sent.Has("group") {
		t.Errorf("sent: %v", sent)
	}
}
