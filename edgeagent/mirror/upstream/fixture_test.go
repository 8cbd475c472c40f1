package upstream

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

// blackHole is set where the test runs itself in a network whose only way out leads nowhere.
const blackHole = "HOLDFAST_TEST_BLACK_HOLE"

func TestMain(m *testing.M) {
	if os.Getenv(blackHole) != "" {
		os.Exit(m.Run()) // Go's resolver waits for its own time-outs
	}
	goleak.VerifyTestMain(m)
}

// seen is what a server was asked.
type seen struct {
	mu       sync.Mutex // guards requests
	requests []*http.Request
}

func (s *seen) add(r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r)
}

func (s *seen) all() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*http.Request(nil), s.requests...)
}

// serve starts a TLS server that remembers what it was asked.
func serve(t testing.TB, handler http.HandlerFunc) (*httptest.Server, *seen) {
	t.Helper()
	s := &seen{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.add(r)
		handler(w, r)
	}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server, s
}

func host(server *httptest.Server) string { return server.Listener.Addr().String() }

func pool(servers ...*httptest.Server) *x509.CertPool {
	p := x509.NewCertPool()
	for _, s := range servers {
		p.AddCert(s.Certificate())
	}
	return p
}

// client makes a client to a server. Its log goes nowhere unless cfg has one.
func client(t testing.TB, server *httptest.Server, cfg Config) *Registry {
	t.Helper()
	cfg.Name = "registry.test"
	if server != nil {
		cfg.Host, cfg.CA = host(server), pool(server)
		cfg.Connect = cmp.Or(cfg.Connect, time.Minute) // tests by the wall clock must not depend on how busy the machine is
	}
	if cfg.Log == nil {
		cfg.Log = discardLog()
	}
	cfg.UserAgent = "holdfast/test"
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// trustEverywhere lets undeclared hosts be servers of the test: their addresses count as public, their certificates are known.
func (r *Registry) trustEverywhere(servers ...*httptest.Server) {
	r.private = func(netip.Addr) bool { return false }
	r.foreign.TLSClientConfig.RootCAs = pool(servers...)
}

func wantKind(t *testing.T, err error, want Kind) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, want) {
		t.Fatalf("got error %v, want one of kind %q", err, want)
	}
	return e
}

func manifestOf(layer []byte) []byte {
	config := []byte("{}")
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},`+
		`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}]}`, oci.MediaTypeManifest,
		oci.SHA256.FromBytes(config), len(config), oci.SHA256.FromBytes(layer), len(layer))
}

// sendManifest answers with a manifest as a good registry does.
func sendManifest(w http.ResponseWriter, r *http.Request, raw []byte) {
	w.Header().Set("Content-Type", oci.MediaTypeManifest)
	w.Header().Set("Docker-Content-Digest", oci.SHA256.FromBytes(raw).String())
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(raw))
}

func getManifest(r *Registry) error {
	_, err := r.Manifest(context.Background(), "team/app", "v1")
	return err
}

// readBlob fetches a blob as whole as it comes.
func readBlob(r *Registry, digest oci.Digest, size, from int64) ([]byte, error) {
	b, err := r.Blob(context.Background(), "team/app", digest, size, from)
	if err != nil {
		return nil, err
	}
	defer b.Body.Close()
	return io.ReadAll(b.Body)
}

// network is one that needs no sockets, so that it works in a bubble of testing/synctest, and that can be cut.
type network struct {
	conns chan net.Conn
	cert  tls.Certificate
	pool  *x509.CertPool

	mu     sync.Mutex // guards what follows
	down   bool       // packets are swallowed
	refuse error      // connections are refused with it
	delay  time.Duration
	dials  int
	change chan struct{} // closed when down changes

	closed chan struct{} // when the server is
}

// newNetwork must be called outside of the bubble; start within.
func newNetwork(t *testing.T) *network {
	server := httptest.NewTLSServer(nil) // for its certificate, which is good for example.com
	defer server.Close()
	return &network{cert: server.TLS.Certificates[0], pool: pool(server)}
}

// start serves until the test ends, and gives the client.
func (n *network) start(t *testing.T, cfg Config, handler http.HandlerFunc) *Registry {
	n.conns, n.change, n.closed = make(chan net.Conn), make(chan struct{}), make(chan struct{})
	server := &http.Server{Handler: handler, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	go server.Serve(tls.NewListener(n, &tls.Config{Certificates: []tls.Certificate{n.cert}}))
	cfg.Host, cfg.CA, cfg.DialContext = "example.com", n.pool, n.dial
	r := client(t, nil, cfg)
	t.Cleanup(func() {
		r.Close()
		server.Close()
		n.set(false, nil)
	})
	return r
}

func (n *network) set(down bool, refuse error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down, n.refuse = down, refuse
	close(n.change)
	n.change = make(chan struct{})
}

func (n *network) dialed() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials
}

// wait holds packets back while the network is down.
func (n *network) wait(done <-chan struct{}) error {
	for {
		n.mu.Lock()
		down, change := n.down, n.change
		n.mu.Unlock()
		if !down {
			return nil
		}
		select {
		case <-change:
		case <-done:
			return net.ErrClosed
		}
	}
}

func (n *network) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	n.mu.Lock()
	n.dials++
	refuse, delay := n.refuse, n.delay
	n.mu.Unlock()
	if refuse != nil {
		return nil, refuse
	}
	if n.wait(ctx.Done()) != nil {
		return nil, ctx.Err()
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(delay):
	}
	here, there := net.Pipe()
	select {
	case n.conns <- there:
		return &wire{Conn: here, network: n, closed: make(chan struct{})}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

func (n *network) Accept() (net.Conn, error) {
	select {
	case c := <-n.conns:
		return c, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

func (n *network) Close() error   { close(n.closed); return nil }
func (n *network) Addr() net.Addr { return &net.TCPAddr{} }

// wire is the client's end of a connection.
type wire struct {
	net.Conn
	network *network
	once    sync.Once
	closed  chan struct{}
}

func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if e := w.network.wait(w.closed); e != nil {
		return 0, e
	}
	return n, err
}

func (w *wire) Write(p []byte) (int, error) {
	w.network.mu.Lock()
	down := w.network.down
	w.network.mu.Unlock()
	if down {
		return len(p), nil // swallowed
	}
	return w.Conn.Write(p)
}

func (w *wire) Close() error {
	w.once.Do(func() { close(w.closed) })
	return w.Conn.Close()
}

// tokenAnswer gives out a token that names what it is for.
func tokenAnswer(w http.ResponseWriter, r *http.Request, user string) {
	r.ParseForm()
	token := strings.Join([]string{user, r.Form.Get("service"), r.Form.Get("scope")}, "|")
	json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": 300})
}

func discardLog() *slog.Logger { return slog.New(slog.DiscardHandler) }
