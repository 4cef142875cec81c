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
