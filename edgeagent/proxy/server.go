package proxy

import (
	"context"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// Server is the proxy's server. It is safe for concurrent use.
type Server struct {
	cfg Config
}

// New makes a server. It accepts nothing before Run.
func New(cfg Config) (*Server, error) { return &Server{cfg: cfg}, nil }

// Run serves until ctx ends and every request is done or cut off.
func (s *Server) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	http.Error(w, "", http.StatusServiceUnavailable)
}

// SetSettings puts new settings in force.
func (s *Server) SetSettings(Settings) {}

// Relist reads a scope anew from upstream, soon: the store gave up following it.
func (s *Server) Relist(key scope.Key) {}

// Collector gives the server's metrics.
func (s *Server) Collector() prometheus.Collector { return nil }
