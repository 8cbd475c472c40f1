package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/http2"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/upstream"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

const (
	// headerTime is how long TLS, and the headers of a request, may take; idleTime how long a connection may have nothing to do.
	headerTime, idleTime = 10 * time.Second, 2 * time.Minute
	// maxHeaders bounds a request's headers. Tokens are the largest thing in them.
	maxHeaders = 64 << 10
	// nodeStreams and podStreams bound the requests under way on one connection. A kubelet has a watch for every Secret and ConfigMap.
	nodeStreams, podStreams = 2000, 250
	// streamWindow is what is held of a request's body until it is read, connWindow of all on a connection.
	streamWindow, connWindow = 256 << 10, 1 << 20
	// writeTime is how long a client may read nothing at all.
	writeTime = 30 * time.Second
	// shutdownTime is how long requests under way may go on once the server stops. Watches never end by themselves.
	shutdownTime = 200 * time.Millisecond
)

// Server is the proxy's server. It is safe for concurrent use.
type Server struct {
	cfg      Config
	log      *slog.Logger
	metrics  *metrics
	settings atomic.Pointer[never]
	feeds    *feeds
	epoch    epoch
	pages    pages
	budget   budget
	crowds   []*crowd
	busy     busy
	active   sync.WaitGroup
	states   chan struct{} // the link's state may have changed
	stopped  chan struct{} // closed once requests under way are cut off
}

// New makes a server. It accepts nothing before Run.
func New(cfg Config) (*Server, error) {
	if len(cfg.Listeners) == 0 {
		return nil, errors.New("the proxy has no address to serve at")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Spread == 0 {
		cfg.Spread = 5 * time.Second
	}
	s := &Server{cfg: cfg, log: cfg.Log, states: make(chan struct{}, 1), stopped: make(chan struct{})}
	s.metrics = newMetrics(s)
	s.feeds = newFeeds(s)
	s.epoch.s = s
	s.SetSettings(cfg.Settings)
	for range cfg.Listeners {
		s.crowds = append(s.crowds, newCrowd())
	}
	cfg.Link.Subscribe(func(state upstream.State) {
		if state != upstream.Online {
			s.epoch.down()
		}
		select {
		case s.states <- struct{}{}:
		default:
		}
	})
	return s, nil
}

// SetSettings puts new settings in force. What is cached already stays until it is read again.
func (s *Server) SetSettings(settings Settings) { s.settings.Store(newNever(settings.NeverCache)) }

// Relist reads a scope anew from upstream, soon: the store gave up following it.
func (s *Server) Relist(key scope.Key) { s.feeds.relist(key) }

// Run serves until ctx ends and every request is done or cut off.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { s.follow(ctx) })
	s.feeds.life.begin(ctx)
	wg.Go(func() { s.prefetch(ctx) })
	failed := make(chan error, len(s.cfg.Listeners))
	var servers []*http.Server
	for i, l := range s.cfg.Listeners {
		server := s.server(l)
		servers = append(servers, server)
		wg.Go(func() {
			err := server.Serve(tls.NewListener(&door{l.Listener, s.crowds[i]}, s.tls()))
			if !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serve proxy at %s: %w", l.Addr(), err)
			}
		})
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	cancel()
	s.shutdown(servers)
	close(s.stopped)
	wg.Wait()
	s.active.Wait()
	s.feeds.life.end()
	return err
}

func (s *Server) tls() *tls.Config {
	conf := s.cfg.TLS.Clone()
	conf.NextProtos = []string{"h2", "http/1.1"}
	conf.DynamicRecordSizingDisabled = true // that is for slow links; clients are on this node
	return conf
}

func (s *Server) server(l Listener) *http.Server {
	streams := nodeStreams
	if l.Pods {
		streams = podStreams
	}
	server := &http.Server{
		Handler: s, ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeaders, ConnContext: withGuest,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	http2.Configure(server, http2.Config{MaxStreams: streams, StreamWindow: streamWindow, ConnWindow: connWindow, WriteTimeout: writeTime, Brief: s.brief, Log: s.log})
	return server
}

// brief tells which requests are answered at once, from the cache, or wait for nothing but upstream's answer; upstream's part says so
// before it waits.
func (s *Server) brief(r *http.Request) bool {
	return r.Method == http.MethodGet && !request.Lasts(r.URL) && s.cfg.Link.State() != upstream.Connecting
}

func (s *Server) shutdown(servers []*http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	var wg sync.WaitGroup
	for _, server := range servers {
		wg.Go(func() {
			if server.Shutdown(ctx) != nil {
				server.Close()
			}
		})
	}
	wg.Wait()
}

// follow tells package offline whose turn it is.
func (s *Server) follow(ctx context.Context) {
	was := upstream.Connecting
	for {
		state := s.cfg.Link.State()
		if state != was {
			was = state
			s.metrics.state(state)
			switch state {
			case upstream.Online:
				s.cfg.Offline.Online()
			case upstream.Offline:
				s.cfg.Offline.Offline()
			}
			if s.cfg.Changed != nil {
				s.cfg.Changed(state)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-s.states:
		}
	}
}
