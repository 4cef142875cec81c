package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/identity"
)

// Timeouts of HTTP connections. A forwarded request may wait for a leader, so answers have a long one.
const (
	headerTimeout = 10 * time.Second
	readTimeout   = time.Minute
	writeTimeout  = 2 * time.Minute
	idleTimeout   = 2 * time.Minute
	drainTimeout  = 10 * time.Second
	maxHeader     = 1 << 20 // of which the query is a part: user data may be in it
)

// handler is what clients, load balancers and Prometheus see.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/client/api", s.api)
	mux.Handle("/client/api/", s.api)
	mux.HandleFunc("GET /client/api/openapi.json", s.openAPI)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "Wisp. The API is at /client/api.")
	})
	return mux
}

// Ready tells why this coordinator cannot serve calls: no leader is known, or the cloud's first rows are not there yet.
func (s *Server) Ready() error {
	id, _, here := s.replica.Leader()
	switch {
	case id == "":
		return errors.New("no leader is known")
	case id == s.cfg.Node && !here:
		return errors.New("this coordinator is elected but not ready to lead yet")
	case identity.Root(s.replica.DB().Current()) == nil:
		return errors.New("the state is not loaded yet")
	case here && !s.bootstrapped.Load():
		// The rows are there before the credentials have their name: who waits for readiness to read them would be early.
		return errors.New("the first rows and credentials are not kept yet")
	}
	return nil
}

// listener is one open port and who serves it.
type listener struct {
	name string
	l    net.Listener
	srv  *http.Server
}

// listen opens every port of the configuration, so that a port in use is told before anything is done.
func (s *Server) listen() error {
	cert, err := apiCertificate(s.cfg)
	if err != nil {
		return err
	}
	secure := &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}, GetCertificate: s.uploaded,
	}
	open := func(name, address string, conf *tls.Config, h http.Handler) error {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return fmt.Errorf("listen for %s: %w", name, err)
		}
		s.log.Info("listening", "for", name, "address", l.Addr().String())
		if conf != nil {
			l = tls.NewListener(l, conf)
		} else {
			l = api.Gather(l)
		}
		s.listeners = append(s.listeners, &listener{name, l, &http.Server{
			Handler: h, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
			IdleTimeout: idleTimeout, ConnContext: api.ConnContext, MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		}})
		return nil
	}
	public := s.handler()
	for _, a := range s.cfg.API {
		if err := open("the API over HTTPS", a, secure, public); err != nil {
			return err
		}
	}
	if len(s.cfg.API) > 0 {
		s.log.Info("certificate of the API", "sha256", fingerprint(cert))
	}
	for _, a := range s.cfg.Plain {
		if err := open("the API without TLS", a, nil, public); err != nil {
			return err
		}
	}
	return open("other coordinators", s.cfg.Peers, s.cluster, s.peers.handler())
}

// serve starts a goroutine per port; they end in close.
func (s *Server) serve() {
	for _, l := range s.listeners {
		s.running.Go(func() {
			if err := l.srv.Serve(l.l); err != nil && !errors.Is(err, http.ErrServerClosed) {
				s.fail(fmt.Errorf("serve %s: %w", l.name, err))
			}
		})
	}
}

// drain stops accepting and lets calls finish.
func (s *Server) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	for _, l := range s.listeners {
		if err := l.srv.Shutdown(ctx); err != nil {
			_ = l.srv.Close()
		}
		_ = l.l.Close() // where it was never served
	}
}
