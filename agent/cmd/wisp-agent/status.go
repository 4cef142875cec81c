package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/wispcloud/wisp/agent/internal/host"
)

// statusServer serves health and metrics on a local socket. It tells nothing secret, but it is not for guests.
type statusServer struct {
	listener net.Listener
	server   *http.Server
	log      *slog.Logger
}

func openStatus(address string, h *host.Host, log *slog.Logger) (*statusServer, error) {
	s := &statusServer{log: log}
	if address == "none" {
		return s, nil
	}
	network := "tcp"
	if filepath.IsAbs(address) {
		network = "unix"
		// The lock says that no other agent lives, so a socket that is there is a dead one's.
		if err := os.Remove(address); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("remove old socket: %w", err)
		}
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		return nil, fmt.Errorf("listen for status: %w", err)
	}
	s.listener = listener
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collector{h})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, nil) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { answer(w, h.Ready()) })
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	s.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	return s, nil
}

func answer(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}

// serve starts serving; the returned function ends it.
func (s *statusServer) serve() (stop func()) {
	if s.server == nil {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("status server ended", "error", err)
		}
	}()
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := s.server.Shutdown(ctx); err != nil {
			_ = s.server.Close()
		}
		<-done
	}
}

// Close closes the socket.
func (s *statusServer) Close() error {
	if s.listener == nil {
		return nil
	}
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// collector turns the host's state into metrics when they are asked for.
type collector struct{ host *host.Host }

var (
	metricConnected = prometheus.NewDesc("wisp_agent_connected", "1 while a coordinator listens.", nil, nil)
	metricAccepted  = prometheus.NewDesc("wisp_agent_accepted_generation", "Generation in the ledger.", nil, nil)
	metricSettled   = prometheus.NewDesc("wisp_agent_settled_generation", "Newest generation that is wholly true.", nil, nil)
	metricVMs       = prometheus.NewDesc("wisp_agent_vms", "VMs by state.", []string{"state"}, nil)
	metricRepairs   = prometheus.NewDesc("wisp_agent_network_repairs_total", "Repairs of networks since the agent started.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{metricConnected, metricAccepted, metricSettled, metricVMs, metricRepairs} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	connected := 0.0
	if ok, _ := c.host.Connected(); ok {
		connected = 1
	}
	o := c.host.Observe(context.Background())
	states, repairs := map[string]int{}, uint64(0)
	for _, vm := range o.GetVms() {
		states[vm.GetState().String()]++
	}
	for _, n := range o.GetNetworks() {
		repairs += n.GetRepairs()
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(metricConnected, connected)
	gauge(metricAccepted, float64(o.GetAcceptedGeneration()))
	gauge(metricSettled, float64(o.GetSettledGeneration()))
	for state, n := range states {
		gauge(metricVMs, float64(n), state)
	}
	ch <- prometheus.MustNewConstMetric(metricRepairs, prometheus.CounterValue, float64(repairs))
}

// notifyReady tells systemd, if it asked to be told, that the agent is up (sd_notify(3)).
func notifyReady() error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	_, err = conn.Write([]byte("READY=1"))
	return errors.Join(err, conn.Close())
}
