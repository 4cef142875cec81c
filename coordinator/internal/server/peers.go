package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/api/management"
	"github.com/wispcloud/wisp/coordinator/internal/replica"
)

// The headers of a request that one coordinator forwards to another. They mean something on the peers listener only,
// where every client has shown that it is a coordinator.
const (
	headerClient = "Wisp-Client" // where the request came from
	headerPlain  = "Wisp-Plain"  // it came without TLS
	// headerIntegration says that it came to the integration port.
	headerIntegration = "Wisp-Integration"
)

// forwarded marks a request that was forwarded already: it is not forwarded again.
type forwarded struct{}

const (
	// leaderPatience is how long a request waits for a leader to be known.
	leaderPatience = 5 * time.Second
	forwardTimeout = 90 * time.Second
)

// peers is this coordinator's side of the traffic with the others.
type peers struct {
	self    string // this coordinator's name
	replica *replica.Replica
	client  *http.Client
	serve   http.Handler // the API here
	own     func() *management.Figures
}

func newPeers(self string, r *replica.Replica, conf *tls.Config) *peers {
	return &peers{self: self, replica: r, client: &http.Client{
		Transport: &http.Transport{
			TLSClientConfig: conf.Clone(), DialContext: dial, MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute, DisableCompression: true,
		},
		Timeout:       forwardTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// forward hands an API request to the leader, and waits a little for one where none is known. It is given to the API,
// which calls it when nothing was done here.
func (p *peers) forward(w http.ResponseWriter, r *http.Request, body []byte) error {
	_, again := r.Context().Value(forwarded{}).(bool)
	timeout := time.NewTimer(leaderPatience)
	defer timeout.Stop()
	for {
		changed := p.replica.LeadershipChanges()
		id, address, here := p.replica.Leader()
		switch {
		case again:
			return &replica.NotLeader{LeaderID: id, LeaderAPI: address}
		case here:
			// It became the leader while the request was on its way.
			r.Body = io.NopCloser(bytes.NewReader(body))
			p.serve.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), forwarded{}, true)))
			return nil
		case id == p.self:
			// It is elected here, but not ready yet.
		case address != "":
			sent, err := p.send(w, r, address, body)
			if err == nil || sent {
				return err
			}
			// Nobody answers there: perhaps another one leads soon.
		}
		select {
		case <-changed:
		case <-timeout.C:
			return &replica.NotLeader{LeaderID: id, LeaderAPI: address}
		case <-r.Context().Done():
			return context.Cause(r.Context())
		}
	}
}

// send copies the request to the leader and its answer back. sent is false where the leader certainly has not seen it.
func (p *peers) send(w http.ResponseWriter, r *http.Request, address string, body []byte) (sent bool, err error) {
	u := url.URL{Scheme: "https", Host: address, Path: "/client/api", RawQuery: r.URL.RawQuery}
	// Always POST: net/http repeats a GET by itself when a connection breaks, and then the leader may have done it already.
	out, err := http.NewRequestWithContext(r.Context(), http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return true, fmt.Errorf("forward to %s: the request cannot be made again", address)
	}
	for _, h := range []string{"Content-Type", "Cookie", "Origin", "Referer", "Sec-Fetch-Site", "User-Agent"} {
		if v := r.Header.Values(h); len(v) > 0 {
			out.Header[h] = v
		}
	}
	out.Host = r.Host
	out.Header.Set(headerClient, r.RemoteAddr)
	if r.TLS == nil {
		out.Header.Set(headerPlain, "1")
	}
	if api.FromIntegration(r) {
		out.Header.Set(headerIntegration, "1")
	}
	res, err := p.client.Do(out)
	if err != nil {
		var dialling *dialError
		sent := !errors.As(err, &dialling)
		// The error of net/http tells the whole URL, and so what is in the query: secrets.
		var told *url.Error
		if errors.As(err, &told) {
			err = told.Err
		}
		return sent, fmt.Errorf("forward to the leader at %s: %w", address, err)
	}
	defer func() { _ = res.Body.Close() }()
	for k, v := range res.Header {
		if k != "Connection" && k != "Date" {
			w.Header()[k] = v
		}
	}
	w.WriteHeader(res.StatusCode)
	_, _ = io.Copy(w, res.Body) // either end is gone: the client sees a short answer
	return true, nil
}

// dialError marks errors of dialling, after which nothing can have been done.
type dialError struct{ error }

func (e *dialError) Unwrap() error { return e.error }

func dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: 3 * time.Second}
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, &dialError{err}
	}
	return c, nil
}

// joining is what a new coordinator asks.
type joining struct {
	ID   string `json:"id"`
	Raft string `json:"raft"`
	API  string `json:"api"`
}

// handler serves the other coordinators.
func (p *peers) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/client/api", func(w http.ResponseWriter, r *http.Request) {
		r = r.WithContext(context.WithValue(r.Context(), forwarded{}, true))
		if c := r.Header.Get(headerClient); c != "" {
			r.RemoteAddr = c
		}
		if r.Header.Get(headerPlain) != "" {
			r.TLS = nil
		}
		if r.Header.Get(headerIntegration) != "" {
			r = api.Integration(r)
		}
		p.serve.ServeHTTP(w, r)
	})
	mux.HandleFunc("POST /cluster/join", p.join)
	mux.HandleFunc("GET "+figuresPath, p.tellFigures)
	return mux
}

// join makes the caller a member, or tells where the leader is.
func (p *peers) join(w http.ResponseWriter, r *http.Request) {
	var j joining
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<16)).Decode(&j); err != nil || j.ID == "" || j.Raft == "" {
		http.Error(w, "a join needs id and raft", http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 30*time.Second)
	defer cancel()
	err := p.replica.AddVoter(ctx, replica.Peer{ID: j.ID, Address: j.Raft}, j.API)
	var not *replica.NotLeader
	switch {
	case errors.As(err, &not):
		w.Header().Set("Wisp-Leader", not.LeaderAPI)
		http.Error(w, not.Error(), http.StatusMisdirectedRequest)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// askToJoin asks coordinators until one has made this one a member.
func (p *peers) askToJoin(ctx context.Context, j joining, at []string) error {
	const pause = time.Second
	for n := 0; ; n++ {
		address := at[n%len(at)]
		leader, err := p.ask(ctx, j, address)
		if err != nil && leader != "" {
			_, err = p.ask(ctx, j, leader)
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("join the cluster: %w", err)
		case <-time.After(pause):
		}
	}
}

func (p *peers) ask(ctx context.Context, j joining, address string) (leader string, err error) {
	b, err := json.Marshal(j)
	if err != nil {
		return "", err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+address+"/cluster/join", bytes.NewReader(b))
	if err != nil {
		return "", err
	}
	res, err := p.client.Do(r)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode == http.StatusOK {
		return "", nil
	}
	text, _ := io.ReadAll(io.LimitReader(res.Body, 4096))
	return res.Header.Get("Wisp-Leader"), fmt.Errorf("%s answers %s: %s", address, res.Status, bytes.TrimSpace(text))
}
