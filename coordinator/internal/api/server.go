package api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/cloud"
	"github.com/wispcloud/wisp/coordinator/internal/replica"
	"github.com/wispcloud/wisp/coordinator/internal/seal"
	"github.com/wispcloud/wisp/coordinator/internal/settings"
	"github.com/wispcloud/wisp/coordinator/internal/store"
)

// Cluster is what the API needs of the replica.
type Cluster interface {
	DB() *store.DB
	// Update runs a transaction; see package replica.
	Update(ctx context.Context, f func(tx *store.Tx) error) error
	// Barrier makes the reads that follow it linearizable; *replica.NotLeader elsewhere than on the leader.
	Barrier(ctx context.Context) error
}

// Config is what a Server is made of.
type Config struct {
	Registry *Registry
	Cluster  Cluster
	Settings *settings.Registry
	Seal     *seal.Keeper
	Log      *slog.Logger
	Now      func() time.Time
	// Forward hands a request that came to a follower to the leader, or returns why it cannot and has written nothing.
	// nil: such requests are refused with 503.
	Forward func(w http.ResponseWriter, r *http.Request, body []byte) error
	// Throttle, optional, counts the calls of accounts.
	Throttle *Throttle
	// Done, optional, is told of every answer, for metrics.
	Done func(command string, code int, took time.Duration)
}

// Server answers /client/api.
type Server struct {
	cfg     Config
	holders *store.Memo[string, *holder]
}

// New makes a server.
func New(cfg Config) *Server { return &Server{cfg: cfg, holders: newHolders()} }

const (
	// maxBody is more than any client sends: user data of 1 MiB in base64, form-encoded.
	maxBody = 4 << 20
	// updateTimeout bounds a write when the cluster has no majority. It does not end when the client goes away.
	updateTimeout = 30 * time.Second
	// CompatVersion is the version of the API that clients are told: that of today's, whose parameters and fields are
	// taken and answered beside 4.1's. Clients refuse to use what is younger than the version they are told (Ansible's
	// module for role permissions does below 4.9.2); what is not there they find out by listApis or error 432.
	CompatVersion = "4.22.0.0"
)

// request is one HTTP request on its way through.
type request struct {
	w       http.ResponseWriter
	r       *http.Request
	body    []byte
	values  Values
	json    bool
	id      string
	command *Command
	started time.Time
	log     *slog.Logger
	refused *Call // the call that a handler was given, for the event of its refusal
}

// ServeHTTP implements http.Handler for the endpoint; it does not look at the path.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := &request{w: w, r: r, id: newRequestID(), started: s.cfg.Now()}
	q.log = slog.New(&requestHandler{s.cfg.Log.Handler(), q.id})
	h := w.Header()
	h["X-Request-Id"] = []string{q.id}
	h["Cache-Control"] = noStore
	h["X-Content-Type-Options"] = noSniff
	if err := q.read(); err != nil {
		s.refuse(q, err)
		return
	}
	if err := s.serve(q); err != nil {
		s.refuse(q, err)
	}
}

// requestHandler adds the request's id to each line. Logger.With would format it for every request; most log nothing.
type requestHandler struct {
	slog.Handler
	id string
}

// Handle implements slog.Handler.
func (h *requestHandler) Handle(ctx context.Context, r slog.Record) error {
	r.AddAttrs(slog.String("request", h.id))
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *requestHandler) WithAttrs(a []slog.Attr) slog.Handler {
	return &requestHandler{h.Handler.WithAttrs(a), h.id}
}

// WithGroup implements slog.Handler.
func (h *requestHandler) WithGroup(name string) slog.Handler {
	return &requestHandler{h.Handler.WithGroup(name), h.id}
}

// newRequestID is what a call is found by in logs, from here to the host.
func newRequestID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand aborts the program instead
	return hex.EncodeToString(b[:])
}

// read gathers the parameters of query and body.
func (q *request) read() error {
	switch q.r.Method {
	case http.MethodGet, http.MethodPost, http.MethodHead:
	default:
		return cloud.Errorf(cloud.Unsupported, "HTTP method %s is not served; use GET or POST", printable(q.r.Method))
	}
	var err error
	if q.r.Method == http.MethodPost && q.r.Body != nil {
		q.body, err = io.ReadAll(http.MaxBytesReader(q.w, q.r.Body, maxBody))
		if err != nil {
			return cloud.Errorf(cloud.Malformed, "The body cannot be read, or is longer than %d bytes", maxBody)
		}
	}
	form := ""
	if len(q.body) > 0 {
		kind, _, err := mime.ParseMediaType(q.r.Header.Get("Content-Type"))
		if q.r.Header.Get("Content-Type") != "" && (err != nil || kind != "application/x-www-form-urlencoded") {
			return cloud.Errorf(cloud.Malformed, "The body must be application/x-www-form-urlencoded")
		}
		form = string(q.body)
	}
	q.values, err = parseValues(q.r.URL.RawQuery, form)
	q.json = strings.EqualFold(q.values.Get("response"), "json")
	return err
}

// serve answers a request, or returns why not.
func (s *Server) serve(q *request) error {
	name := q.values.Get("command")
	if name == "" {
		return cloud.Errorf(cloud.Unsupported, "No command is given")
	}
	cmd, ok := s.cfg.Registry.Find(name)
	if !ok {
		return cloud.Errorf(cloud.Unsupported, "The API [%s] does not exist or is not available for the account", printable(name))
	}
	q.command = cmd
	if err := s.cfg.Cluster.Barrier(q.r.Context()); err != nil {
		return s.elsewhere(q, err)
	}
	at := s.cfg.Cluster.DB().Current()
	var who *caller
	if cmd.Roles&NoLogin == 0 {
		var err error
		if who, err = s.identify(q, at); err != nil {
			return err
		}
		if !permitted(at, who.account, cmd) {
			return s.unavailable(q, who)
		}
		if err := s.throttle(who, s.cfg.Settings.View(at)); err != nil {
			return err
		}
		s.touch(q, who)
	}
	err := s.run(q, who, at)
	var moved *replica.NotLeader
	if errors.As(err, &moved) {
		return s.elsewhere(q, err)
	}
	return err
}

// unavailable refuses a command that the caller's role does not have, like one that does not exist.
func (s *Server) unavailable(q *request, who *caller) error {
	err := errUnavailable(q.command, who)
	q.command = nil
	return err
}

func errUnavailable(cmd *Command, who *caller) error {
	return cloud.Errorf(cloud.Unsupported, "The API [%s] does not exist or is not available for the account Account [%s]", cmd.Name, who.account.Name)
}

// elsewhere hands the request to the leader, where nothing was done here.
func (s *Server) elsewhere(q *request, err error) error {
	var moved *replica.NotLeader
	if errors.As(err, &moved) && s.cfg.Forward != nil {
		return s.cfg.Forward(q.w, q.r, q.body)
	}
	return err
}

// refuse writes an error answer.
func (s *Server) refuse(q *request, err error) {
	a := errorOf(err, q.id)
	status := a.Code
	if text := clusterTrouble(err); text != "" {
		a.Text, a.Code, status = text, http.StatusServiceUnavailable, http.StatusServiceUnavailable
	}
	level := slog.LevelInfo
	if a.Code == numbers[cloud.Internal].code {
		level = slog.LevelError
	}
	q.log.Log(q.r.Context(), level, "refused", "command", q.name(), "code", a.Code, "error", err)
	envelope := "errorresponse"
	if q.command != nil {
		envelope = q.command.envelope()
	}
	b := buffer()
	defer recycle(b)
	e, p := addressable(&a)
	*b = q.wrap((*b)[:0], envelope, func(b []byte) []byte {
		if q.json {
			return e.json(b, p)
		}
		return e.appendXMLFields(b, p)
	})
	h := q.w.Header()
	h.Set("X-Description", oneLine(a.Text))
	q.send(*b, status)
	s.done(q, status)
}

// clusterTrouble tells what a caller should know when the cluster, not the call, is at fault; "" otherwise.
func clusterTrouble(err error) string {
	var moved *replica.NotLeader
	switch {
	case errors.As(err, &moved), errors.Is(err, replica.ErrClosed):
		return "The cluster has no leader at the moment, and nothing was done; try again"
	case errors.Is(err, replica.ErrOutcomeUnknown), errors.Is(err, context.DeadlineExceeded):
		return "The cluster lost its leader while the call was written down; look whether it was carried out before trying again"
	}
	return ""
}

func (q *request) name() string {
	if q.command != nil {
		return q.command.Name
	}
	return ""
}

func (s *Server) done(q *request, code int) {
	if s.cfg.Done != nil {
		s.cfg.Done(q.name(), code, s.cfg.Now().Sub(q.started))
	}
}
