package server

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/wispcloud/wisp/coordinator/internal/api"
	"github.com/wispcloud/wisp/coordinator/internal/store/tables"
)

// integrationRetry is the pause after a port that could not be opened.
const integrationRetry = 10 * time.Second

// integration keeps the integration port open as the global setting has it, on every coordinator, until ctx ends.
func (s *Server) integration(ctx context.Context) {
	watch := s.replica.DB().Watch(tables.Settings)
	defer watch.Close()
	var open *http.Server
	var at int64
	closeIt := func() {
		if open != nil {
			_ = open.Close() // its calls are made by programs here, which see the connection end
			s.log.Info("integration port closed", "port", at)
		}
		open, at = nil, 0
	}
	defer closeIt()
	retry := time.NewTimer(integrationRetry)
	defer retry.Stop()
	for {
		want := api.IntegrationPort.Int(s.replica.DB().Current())
		if want != at {
			closeIt()
			if want != 0 {
				if open = s.openIntegration(want); open != nil {
					at = want
				}
			}
		}
		retry.Reset(integrationRetry)
		select {
		case <-ctx.Done():
			return
		case <-watch.C():
			watch.Touched()
		case <-retry.C:
		}
	}
}

// openIntegration opens the port and serves it; nil where it cannot be opened, which is logged.
func (s *Server) openIntegration(port int64) *http.Server {
	address := net.JoinHostPort(s.cfg.Integration, strconv.FormatInt(port, 10))
	l, err := net.Listen("tcp", address)
	if err != nil {
		s.log.Error("cannot open the integration port (integration.api.port)", "address", address, "error", err)
		return nil
	}
	mux := http.NewServeMux()
	serve := func(w http.ResponseWriter, r *http.Request) { s.api.ServeHTTP(w, api.Integration(r)) }
	for _, path := range []string{"/{$}", "/client/api", "/client/api/"} {
		mux.HandleFunc(path, serve)
	}
	srv := &http.Server{
		Handler: mux, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	s.log.Warn("integration port open: calls there need no credentials", "address", l.Addr().String())
	s.running.Go(func() { _ = srv.Serve(l) }) // ends when closed
	return srv
}
