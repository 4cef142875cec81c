// Package client calls the public API the way every CloudStack client does: signed requests with an expiry, answers
// unwrapped from their envelope, and jobs waited for. It knows nothing of the cloud beyond that.
package client

import (
	"context"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // the API's signature algorithm
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Client calls one endpoint with one user's keys, or in a session. Make it with New or Login; it is safe for concurrent
// use.
type Client struct {
	// Waiting, when set, is told now and then of a job that is waited for.
	Waiting func(job string, since time.Duration)

	endpoint *url.URL
	key      string
	secret   string
	session  string // session key, instead of key and secret
	http     *http.Client
	now      func() time.Time
}

// New makes a client. The endpoint is like "http://127.0.0.1:8080/client/api".
func New(endpoint, key, secret string, h *http.Client) (*Client, error) {
	u, err := url.Parse(endpoint)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("endpoint %q is not a URL like http://127.0.0.1:8080/client/api", endpoint)
	}
	if key == "" || secret == "" {
		return nil, errors.New("an API key and a secret key are needed: set CLOUDSTACK_KEY and CLOUDSTACK_SECRET")
	}
	return &Client{endpoint: u, key: key, secret: secret, http: h, now: time.Now}, nil
}

// Login makes a client that calls in a session of a user who has a password. h needs a cookie jar.
func Login(ctx context.Context, endpoint, user, password, domain string, h *http.Client) (*Client, error) {
	c, err := New(endpoint, user, password, h)
	if err != nil {
		return nil, err
	}
	form := url.Values{"command": {"login"}, "response": {"json"}, "username": {user}, "password": {password}}
	if domain != "" {
		form.Set("domain", domain)
	}
	o, err := c.post(ctx, "login", form)
	if err != nil {
		return nil, err
	}
	c.key, c.secret, c.session = "", "", o.Text("sessionkey")
	if c.session == "" {
		return nil, errors.New("log in: the answer has no session key")
	}
	return c, nil
}

// Object is an answer's object.
type Object map[string]any

// Text is a field as text; "" where it is absent.
func (o Object) Text(field string) string {
	switch v := o[field].(type) {
	case nil:
		return ""
	case string:
		return v
	case json.Number:
		return v.String()
	default:
		return fmt.Sprint(v)
	}
}

// Error is a refusal of the API.
type Error struct {
	Command string
	Status  int // HTTP status, and the API's error code
	Text    string
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s (error %d)", e.Command, e.Text, e.Status) }

// expiry is how long a signed request is good.
const expiry = 10 * time.Minute

// Patience with a cluster that has no leader at the moment: an election takes a second or two.
const (
	patience = 20 * time.Second
	pause    = 250 * time.Millisecond // between two tries, and between two questions after a job
)

// untouched tells whether the cluster says that it has no leader and has done nothing.
func untouched(err error) bool {
	var refused *Error
	return errors.As(err, &refused) && refused.Status == http.StatusServiceUnavailable && strings.Contains(refused.Text, "nothing was done")
}

// Call runs one command and gives what its envelope holds. A parameter with an empty value is sent: it takes away what is
// there, where the command knows that, and is like an absent one elsewhere. While the cluster
// elects a leader, and says that it has done nothing, the call is made again.
func (c *Client) Call(ctx context.Context, command string, params map[string]string) (Object, error) {
	for until := c.now().Add(patience); ; {
		o, err := c.once(ctx, command, params)
		if !untouched(err) || c.now().After(until) {
			return o, err
		}
		select {
		case <-ctx.Done():
			return o, err
		case <-time.After(pause):
		}
	}
}

func (c *Client) once(ctx context.Context, command string, params map[string]string) (Object, error) {
	values := url.Values{"command": {command}, "response": {"json"}}
	for k, v := range params {
		values.Set(k, v)
	}
	if c.session != "" {
		values.Set("sessionkey", c.session)
		return c.post(ctx, command, values)
	}
	values.Set("apikey", c.key)
	values.Set("signatureversion", "3")
	values.Set("expires", c.now().Add(expiry).UTC().Format(time.RFC3339))
	values.Set("signature", sign(values, c.secret))
	return c.post(ctx, command, values)
}

func (c *Client) post(ctx context.Context, command string, values url.Values) (Object, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint.String(), strings.NewReader(values.Encode()))
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", command, err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", command, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", command, err)
	}
	return unwrap(command, resp.StatusCode, body)
}

func unwrap(command string, status int, body []byte) (Object, error) {
	var envelope map[string]Object
	d := json.NewDecoder(strings.NewReader(string(body)))
	d.UseNumber()
	if err := d.Decode(&envelope); err != nil || len(envelope) != 1 {
		if status != http.StatusOK {
			return nil, &Error{command, status, http.StatusText(status)}
		}
		return nil, fmt.Errorf("read the answer of %s: it is not one JSON object in an envelope", command)
	}
	for _, o := range envelope {
		if status != http.StatusOK {
			return nil, &Error{command, status, o.Text("errortext")}
		}
		return o, nil
	}
	return nil, nil
}

// sign computes the signature of the API's developer guide: parameters sorted by name, values percent-encoded with %20
// for a space, the whole in lower case, HMAC-SHA1, base64.
func sign(values url.Values, secret string) string {
	names := make([]string, 0, len(values))
	for n := range values {
		names = append(names, n)
	}
	slices.Sort(names)
	parts := make([]string, len(names))
	for i, n := range names {
		parts[i] = n + "=" + strings.ReplaceAll(url.QueryEscape(values.Get(n)), "+", "%20")
	}
	mac := hmac.New(sha1.New, []byte(secret))
	_, _ = mac.Write([]byte(strings.ToLower(strings.Join(parts, "&"))))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// List runs a list command, page by page, and gives its rows under object.
func (c *Client) List(ctx context.Context, command, object string, params map[string]string) ([]Object, error) {
	const size = 500
	var rows []Object
	for page := 1; ; page++ {
		p := map[string]string{"page": fmt.Sprint(page), "pagesize": fmt.Sprint(size)}
		for k, v := range params {
			p[k] = v
		}
		o, err := c.Call(ctx, command, p)
		if err != nil {
			return nil, err
		}
		part, _ := o[object].([]any)
		for _, r := range part {
			if m, ok := r.(map[string]any); ok {
				rows = append(rows, m)
			}
		}
		if len(part) < size {
			return rows, nil
		}
	}
}

// Run is Call, and where the command starts a job, waits for it and gives its result.
func (c *Client) Run(ctx context.Context, command string, params map[string]string) (Object, error) {
	o, err := c.Call(ctx, command, params)
	if err != nil {
		return nil, err
	}
	job := o.Text("jobid")
	if job == "" {
		return o, nil
	}
	began := c.now()
	heard := began // when the cluster last told of the job
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		j, err := c.Call(ctx, "queryAsyncJobResult", map[string]string{"jobid": job})
		switch gone := c.now().Sub(heard); {
		case err == nil:
			heard = c.now()
		case !lost(err) || gone > patience:
			return nil, err
		}
		result, _ := j["jobresult"].(map[string]any)
		switch j.Text("jobstatus") {
		case "1":
			return result, nil
		case "2":
			code, err := strconv.Atoi(Object(result).Text("errorcode"))
			if err != nil {
				code = 530
			}
			return nil, &Error{command, code, Object(result).Text("errortext")}
		}
		if c.Waiting != nil {
			c.Waiting(job, c.now().Sub(began))
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for job %s of %s: %w", job, command, ctx.Err())
		case <-tick.C:
		}
	}
}

// lost tells whether a question was lost on the way: the coordinator that was asked has gone, or knows no leader. Asking
// about a job once more changes nothing.
func lost(err error) bool {
	var refused *Error
	return !errors.As(err, &refused) || refused.Status == http.StatusServiceUnavailable
}

// Inner gives the only object inside an answer: {"zone":{...}} gives the zone. An answer that is flat gives itself.
func (o Object) Inner() Object {
	if len(o) == 1 {
		for _, v := range o {
			if m, ok := v.(map[string]any); ok {
				return m
			}
		}
	}
	for k, v := range o {
		list, ok := v.([]any)
		if k == "count" || !ok || len(list) == 0 {
			continue
		}
		if m, ok := list[0].(map[string]any); ok {
			return m
		}
	}
	return o
}
