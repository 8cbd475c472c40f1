// Package gitserver is a small Git server for tests and the demo: real git behind HTTP(S) or SSH, with logins, with
// counters of what clients cost it, and with faults that can be switched on while it runs.
package gitserver

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/cgi"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Config says what to serve.
type Config struct {
	// Root is the folder with the repositories: Root/fleet.git is served as URL/fleet.git.
	Root string
	// Listen is the address; empty means a free port on 127.0.0.1.
	Listen string
	// Plain serves http instead of https.
	Plain bool
	// Username and Password ask for basic authentication.
	Username, Password string
	// BearerToken asks for that token.
	BearerToken string
	// Push lets clients push.
	Push bool
}

// Server is a running Git server. Its methods are safe for concurrent use.
type Server struct {
	// URL is where Root is served, without a slash at its end.
	URL string
	// CA is the certificate to trust, as PEM; "" for plain http.
	CA string

	cfg  Config
	git  http.Handler
	cert *tls.Certificate
	addr string
	http *http.Server
	stop context.CancelFunc
	ctx  context.Context

	mu       sync.Mutex // guards what follows
	listener net.Listener
	fault    Fault
	requests []string
	in, out  int64
}

// Start serves. Close the server when done.
func Start(cfg Config) (*Server, error) {
	backend, err := httpBackend()
	if err != nil {
		return nil, err
	}
	root, err := filepath.Abs(cfg.Root)
	if err != nil {
		return nil, err
	}
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	s := &Server{cfg: cfg, addr: cfg.Listen}
	s.ctx, s.stop = context.WithCancel(context.Background())
	env := []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"}
	if cfg.Push {
		env = append(env, "REMOTE_USER=pusher")
	}
	s.git = &cgi.Handler{Path: backend, Env: env, InheritEnv: []string{"PATH"}, Logger: discardLog()}
	if !cfg.Plain {
		if s.cert, s.CA, err = newCertificate(cfg.Listen); err != nil {
			return nil, err
		}
	}
	s.http = &http.Server{Handler: http.HandlerFunc(s.serve), ReadHeaderTimeout: time.Minute, ErrorLog: discardLog()}
	if err := s.listen(); err != nil {
		return nil, err
	}
	s.URL = map[bool]string{true: "http://", false: "https://"}[cfg.Plain] + s.addr
	return s, nil
}

// httpBackend finds Git's own CGI program.
func httpBackend() (string, error) {
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		return "", fmt.Errorf("find git's programs (is git installed?): %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "git-http-backend"), nil
}

// listen opens the port and serves it.
func (s *Server) listen() error {
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.addr, s.listener = l.Addr().String(), l
	s.mu.Unlock()
	var serve net.Listener = &countingListener{l, s}
	if s.cert != nil {
		serve = tls.NewListener(serve, &tls.Config{Certificates: []tls.Certificate{*s.cert}, MinVersion: tls.VersionTLS12})
	}
	go func() { _ = s.http.Serve(serve) }() // ends with the listener
	return nil
}

// Close stops serving, also requests that hang.
func (s *Server) Close() error {
	s.stop()
	err := s.http.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil // it was down
	}
	return err
}

// Requests lists the requests so far, as "POST /fleet.git/git-upload-pack".
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.requests...)
}

// Bytes gives what went over the wire: with Plain that is HTTP, else TLS.
func (s *Server) Bytes() (in, out int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.in, s.out
}

// Reset sets the counters to zero.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests, s.in, s.out = nil, 0, 0
}

// serve is one request.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	fault := s.fault
	s.mu.Unlock()
	if fault.serve != nil {
		fault.serve(s, w, r)
		return
	}
	if !s.allowed(r) {
		w.Header().Set("WWW-Authenticate", `Basic realm="fleet"`)
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	s.git.ServeHTTP(w, r)
}

// allowed checks the login.
func (s *Server) allowed(r *http.Request) bool {
	same := func(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
	if s.cfg.BearerToken != "" && same(r.Header.Get("Authorization"), "Bearer "+s.cfg.BearerToken) {
		return true
	}
	user, password, _ := r.BasicAuth()
	if s.cfg.Password != "" && same(user, s.cfg.Username) && same(password, s.cfg.Password) {
		return true
	}
	return s.cfg.BearerToken == "" && s.cfg.Password == ""
}

// countingListener counts the bytes of its connections.
type countingListener struct {
	net.Listener
	s *Server
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &countingConn{c, l.s}, nil
}

type countingConn struct {
	net.Conn
	s *Server
}

func (c *countingConn) Read(p []byte) (int, error) {
	c.s.mu.Lock()
	hole := c.s.fault.blackHole
	c.s.mu.Unlock()
	if hole {
		<-c.s.ctx.Done()
		return 0, net.ErrClosed
	}
	n, err := c.Conn.Read(p)
	c.s.mu.Lock()
	c.s.in += int64(n)
	c.s.mu.Unlock()
	return n, err
}

func (c *countingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.s.mu.Lock()
	c.s.out += int64(n)
	c.s.mu.Unlock()
	return n, err
}
