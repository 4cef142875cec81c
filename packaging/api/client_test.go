package api

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestSign has the worked example of CloudStack's developer guide.
func TestSign(t *testing.T) {
	values := url.Values{
		"command": {"listUsers"}, "response": {"json"},
		"apikey": {"plgWJfZK4gyS3mOMTVmjUVg-X-jlWlnfaUJ9GAbBbf9EdM-kAYMmAiLqzzq1ElZLYq_u38zCm0bewzGUdP66mg"},
	}
	secret := "VDaACYb0LV9eNjTetIOElcVQkvJck_J_QljX_FcHRj87ZKiy0z0ty0ZsYBkoXkY9b7eq1EhwJaw7FF3akA3KBQ"
	if got, want := Sign(values, secret), "TTpdDq/7j/J58XCRHomKoQXEQds="; got != want {
		t.Errorf("signature %q, want %q", got, want)
	}
}

// answers serves canned answers by command, in order.
func answers(t *testing.T, canned map[string][]string) *Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		command := r.FormValue("command")
		if len(canned[command]) == 0 {
			t.Errorf("unexpected %s", command)
			return
		}
		answer := canned[command][0]
		canned[command] = canned[command][1:]
		if strings.Contains(answer, "errorcode") && command != "queryAsyncJobResult" {
			w.WriteHeader(431)
		}
		_, _ = w.Write([]byte(answer))
	}))
	t.Cleanup(server.Close)
	return &Client{Endpoint: server.URL, Key: "k", Secret: "s"}
}

func TestDo(t *testing.T) {
	tests := []struct {
		name   string
		canned map[string][]string
		want   string
		err    *Error
	}{
		{
			name:   "synchronous",
			canned: map[string][]string{"x": {`{"xresponse":{"id":"1"}}`}},
			want:   "1",
		},
		{
			name: "job",
			canned: map[string][]string{
				"x": {`{"xresponse":{"id":"0","jobid":"j"}}`},
				"queryAsyncJobResult": {
					`{"queryasyncjobresultresponse":{"jobstatus":0}}`,
					`{"queryasyncjobresultresponse":{"jobstatus":1,"jobresult":{"id":"2"}}}`,
				},
			},
			want: "2",
		},
		{
			name: "job that fails",
			canned: map[string][]string{
				"x":                   {`{"xresponse":{"jobid":"j"}}`},
				"queryAsyncJobResult": {`{"queryasyncjobresultresponse":{"jobstatus":2,"jobresult":{"errorcode":533,"errortext":"full"}}}`},
			},
			err: &Error{Command: "x", Status: 200, Code: 533, Text: "full"},
		},
		{
			name:   "refused",
			canned: map[string][]string{"x": {`{"xresponse":{"errorcode":431,"cserrorcode":4350,"errortext":"no"}}`}},
			err:    &Error{Command: "x", Status: 431, Code: 431, CSCode: 4350, Text: "no"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got struct{ ID string }
			err := answers(t, tt.canned).Do(t.Context(), "x", nil, &got)
			var failure *Error
			if errors.As(err, &failure) != (tt.err != nil) || (err != nil) != (tt.err != nil) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if diff := cmp.Diff(tt.err, failure); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if got.ID != tt.want {
				t.Errorf("id %q, want %q", got.ID, tt.want)
			}
		})
	}
}

func TestWaitEndsWithContext(t *testing.T) {
	var many []string
	for range 1000 {
		many = append(many, `{"queryasyncjobresultresponse":{"jobstatus":0}}`)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	c := answers(t, map[string][]string{"queryAsyncJobResult": many})
	go cancel(nil)
	if _, err := c.Wait(ctx, "x", "j"); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want canceled", err)
	}
}
