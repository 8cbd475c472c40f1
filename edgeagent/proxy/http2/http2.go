// Package http2 serves the HTTP/2 connections of a net/http server. net/http's own server passes every request, and every frame of an
// answer, between three goroutines, and writes headers and body apart: for small answers, which are most that a node asks for, that costs
// more than all the rest. Here the goroutine that read a request answers it, with one write, and another goes on reading only if the
// answer has to wait for something. Frames and header compression are golang.org/x/net's.
package http2

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Config says what a connection may take. MaxHeaderBytes, ReadHeaderTimeout and IdleTimeout are the http.Server's.
type Config struct {
	// MaxStreams bounds the requests under way on a connection.
	MaxStreams int
	// StreamWindow bounds what is held of one request's body before it is read, ConnWindow what is held of all on a connection.
	StreamWindow, ConnWindow int
	// WriteTimeout is how long a client may take nothing of what is sent before its connection is closed. It does not bound how long a
	// client may keep a stream's window shut: that holds up nobody else.
	WriteTimeout time.Duration
	// Brief tells which requests are answered by the goroutine that reads the connection: those whose handlers wait for nothing but
	// locks, or call Waiting before they do. It may be nil. It must not change the request.
	Brief func(*http.Request) bool
	// Log gets panics of handlers, and at level debug why connections end.
	Log *slog.Logger
}

func (c Config) withDefaults() Config {
	set := func(field *int, value int) {
		if *field == 0 {
			*field = value
		}
	}
	set(&c.MaxStreams, 250)
	set(&c.StreamWindow, 256<<10)
	set(&c.ConnWindow, 1<<20)
	if c.WriteTimeout == 0 {
		c.WriteTimeout = 30 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Configure has a server's HTTP/2 connections served by this package. It is called before the server serves.
func Configure(hs *http.Server, cfg Config) {
	s := &server{cfg: cfg.withDefaults(), conns: map[*conn]struct{}{}}
	hs.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){"h2": s.serve}
	hs.RegisterOnShutdown(s.shutdown)
}

// Waiting says that a request's handler is about to wait for something: another goroutine goes on reading the connection meanwhile.
// Reading a body that is not there yet, Flush, and writing what the client does not take say it themselves.
func Waiting(ctx context.Context) {
	if st, ok := ctx.Value(streamKey{}).(*stream); ok {
		st.waiting()
	}
}

// server is what the connections of one http.Server share.
type server struct {
	cfg  Config
	date atomic.Pointer[date]

	mu    sync.Mutex // guards what follows
	conns map[*conn]struct{}
	down  bool
}

// serve serves one connection. net/http calls it after the TLS handshake, and closes the connection once it returns.
func (s *server) serve(hs *http.Server, tc *tls.Conn, handler http.Handler) {
	base := context.Background()
	if h, ok := handler.(interface{ BaseContext() context.Context }); ok {
		base = h.BaseContext()
	}
	state := tc.ConnectionState()
	c := newConn(s, hs, tc, &state, handler, base)
	c.mu.Lock()
	c.greet() // nothing goes before SETTINGS
	c.mu.Unlock()
	s.mu.Lock()
	s.conns[c] = struct{}{}
	down := s.down
	s.mu.Unlock()
	if down {
		c.drain()
	}
	c.serve()
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
}

// shutdown has every connection end once its requests are answered.
func (s *server) shutdown() {
	s.mu.Lock()
	s.down = true
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		c.drain()
	}
}

// date is the Date header of one second.
type date struct {
	second int64
	text   string
}

// now gives the value of the Date header.
func (s *server) now() string {
	t := time.Now()
	if d := s.date.Load(); d != nil && d.second == t.Unix() {
		return d.text
	}
	d := &date{t.Unix(), t.UTC().Format(http.TimeFormat)}
	s.date.Store(d)
	return d.text
}
