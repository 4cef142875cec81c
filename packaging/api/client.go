// Package api is a small client of the CloudStack API for the sandbox and the
// end-to-end tests.
//
// It is not the product's own client on purpose: a mistake in how that one
// signs or reads would hide the same mistake in the server.
package api

import (
	"context"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // the API signs with HMAC-SHA1
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"sort"
	"strings"
	"time"
)

// Client calls one endpoint as one user.
type Client struct {
	// Endpoint is the URL of the API, which ends in /client/api.
	Endpoint string
	// Key and Secret sign requests. With both empty the client is in a session,
	// see Login.
	Key, Secret string
	// HTTP defaults to a client of its own with a timeout of 60 s.
	HTTP *http.Client

	sessionKey string
}

// Error is an answer that says no.
type Error struct {
	Command string
	Status  int // of HTTP
	Code    int `json:"errorcode"`
	// CSCode is CloudStack's own number for the kind of error.
	CSCode int    `json:"cserrorcode"`
	Text   string `json:"errortext"`
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s (error %d)", e.Command, e.Text, e.Code) }

// Params are the parameters of a command.
type Params map[string]string

// Call runs a command and decodes what is in the answer's envelope into result,
// which may be nil.
func (c *Client) Call(ctx context.Context, command string, params Params, result any) error {
	status, body, err := c.Raw(ctx, command, params)
	if err != nil {
		return err
	}
	var envelope map[string]json.RawMessage
	if err := json.Unmarshal(body, &envelope); err != nil || len(envelope) != 1 {
		return fmt.Errorf("call %s: HTTP status %d and no envelope but %.200q", command, status, body)
	}
	for _, inner := range envelope {
		if status != http.StatusOK {
			failure := &Error{Command: command, Status: status}
			if err := json.Unmarshal(inner, failure); err != nil {
				return fmt.Errorf("call %s: HTTP status %d: %w", command, status, err)
			}
			return failure
		}
		if result == nil {
			return nil
		}
		if err := json.Unmarshal(inner, result); err != nil {
			return fmt.Errorf("call %s: read answer: %w", command, err)
		}
	}
	return nil
}

// Raw runs a command and returns HTTP's status and body as they came.
func (c *Client) Raw(ctx context.Context, command string, params Params) (status int, body []byte, err error) {
	values := url.Values{"command": {command}, "response": {"json"}}
	for name, value := range params {
		values.Set(name, value)
	}
	switch {
	case c.Key != "":
		values.Set("apiKey", c.Key)
		values.Set("signatureVersion", "3")
		values.Set("expires", time.Now().UTC().Add(10*time.Minute).Format("2006-01-02T15:04:05-0700"))
		values.Set("signature", Sign(values, c.Secret))
	case c.sessionKey != "":
		values.Set("sessionkey", c.sessionKey)
	}
	// In the body, not the URL: user data and passwords belong in no log.
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.Endpoint, strings.NewReader(values.Encode()))
	if err != nil {
		return 0, nil, fmt.Errorf("call %s: %w", command, err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := c.client().Do(req)
	if err != nil {
		return 0, nil, fmt.Errorf("call %s: %w", command, err)
	}
	defer resp.Body.Close()
	if body, err = io.ReadAll(resp.Body); err != nil {
		return 0, nil, fmt.Errorf("call %s: %w", command, err)
	}
	return resp.StatusCode, body, nil
}

func (c *Client) client() *http.Client {
	if c.HTTP == nil {
		// New never fails without options.
		jar, _ := cookiejar.New(nil)
		c.HTTP = &http.Client{Timeout: time.Minute, Jar: jar}
	}
	return c.HTTP
}

// Sign computes a signature: names sorted, values encoded with %20 for a
// space, all in lower case, HMAC-SHA1, Base64.
func Sign(values url.Values, secret string) string {
	names := make([]string, 0, len(values))
	for name := range values {
		if name != "signature" {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	parts := make([]string, 0, len(names))
	for _, name := range names {
		parts = append(parts, name+"="+strings.ReplaceAll(url.QueryEscape(values.Get(name)), "+", "%20"))
	}
	mac := hmac.New(sha1.New, []byte(secret))
	_, _ = mac.Write([]byte(strings.ToLower(strings.Join(parts, "&"))))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// Login opens a session, in which following calls are made.
func (c *Client) Login(ctx context.Context, user, password string) (userID string, err error) {
	c.sessionKey = ""
	var answer struct {
		SessionKey string `json:"sessionkey"`
		UserID     string `json:"userid"`
	}
	if err := c.Call(ctx, "login", Params{"username": user, "password": password, "domain": "/"}, &answer); err != nil {
		return "", err
	}
	if answer.SessionKey == "" {
		return "", fmt.Errorf("log in as %s: the answer holds no session key", user)
	}
	c.sessionKey = answer.SessionKey
	return answer.UserID, nil
}

// Do runs a command and, where it starts a job, waits for the job's end, whose
// result it decodes.
func (c *Client) Do(ctx context.Context, command string, params Params, result any) error {
	var answer json.RawMessage
	if err := c.Call(ctx, command, params, &answer); err != nil {
		return err
	}
	var started struct {
		JobID string `json:"jobid"`
	}
	// An answer that is no object started no job.
	_ = json.Unmarshal(answer, &started)
	if started.JobID != "" {
		var err error
		if answer, err = c.Wait(ctx, command, started.JobID); err != nil {
			return err
		}
	}
	if result == nil || len(answer) == 0 {
		return nil
	}
	if err := json.Unmarshal(answer, result); err != nil {
		return fmt.Errorf("call %s: read result: %w", command, err)
	}
	return nil
}

// Wait waits for a job to end; command is for messages.
func (c *Client) Wait(ctx context.Context, command, job string) (json.RawMessage, error) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		var state struct {
			Status int             `json:"jobstatus"`
			Result json.RawMessage `json:"jobresult"`
		}
		if err := c.Call(ctx, "queryAsyncJobResult", Params{"jobid": job}, &state); err != nil {
			return nil, fmt.Errorf("wait for job %s of %s: %w", job, command, err)
		}
		switch state.Status {
		case 1:
			return state.Result, nil
		case 2:
			failure := &Error{Command: command, Status: http.StatusOK}
			if err := json.Unmarshal(state.Result, failure); err != nil {
				return nil, fmt.Errorf("read failure of job %s of %s: %w", job, command, err)
			}
			return nil, failure
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for job %s of %s: %w", job, command, ctx.Err())
		case <-tick.C:
		}
	}
}

// List runs a list command and returns its rows under the given key.
func List[R any](ctx context.Context, c *Client, command, key string, params Params) ([]R, error) {
	var answer map[string]json.RawMessage
	all := Params{"listall": "true"}
	for name, value := range params {
		all[name] = value
	}
	if err := c.Call(ctx, command, all, &answer); err != nil {
		return nil, err
	}
	var rows []R
	if text, ok := answer[key]; ok {
		if err := json.Unmarshal(text, &rows); err != nil {
			return nil, fmt.Errorf("call %s: read %s: %w", command, key, err)
		}
	}
	return rows, nil
}
