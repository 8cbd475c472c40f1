// Package upstreamtest has an API server for tests of what talks to one, behind a cable that can be cut. It is a real server: TLS
// with client certificates, HTTP/2, as many streams on a connection as kube-apiserver allows. What it answers the test says.
package upstreamtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Streams is how many streams a connection may have.
const Streams = 100

// Authority signs the certificates of a test's servers and of the node.
type Authority struct {
	tb   testing.TB
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	Pool *x509.CertPool
}

// NewAuthority makes one.
func NewAuthority(tb testing.TB) *Authority {
	tb.Helper()
	a := &Authority{tb: tb, key: key(tb), Pool: x509.NewCertPool()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err == nil {
		a.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		tb.Fatal(err)
	}
	a.Pool.AddCert(a.cert)
	return a
}

func key(tb testing.TB) *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// Issue makes a certificate for a server (name is 127.0.0.1) or a client.
func (a *Authority) Issue(name string, groups ...string) *tls.Certificate {
	a.tb.Helper()
	k := key(a.tb)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name, Organization: groups},
		NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, k.Public(), a.key)
	if err != nil {
		a.tb.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		a.tb.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k, Leaf: leaf}
}

// API is an API server behind a Cable.
type API struct {
	*Cable
	// Conns counts the connections that were opened so far.
	Conns atomic.Int64

	server *httptest.Server
}

// NewAPI starts one. GET /version is answered by itself unless handler is asked to be by versions.
func NewAPI(tb testing.TB, a *Authority, handler http.Handler) *API {
	tb.Helper()
	api := &API{}
	mux := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/version" && r.Header.Get("X-Test") == "" {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"gitVersion":"v1.37.2"}`)
			return
		}
		handler.ServeHTTP(w, r)
	})
	api.server = httptest.NewUnstartedServer(mux)
	api.server.EnableHTTP2 = true
	api.server.TLS = &tls.Config{Certificates: []tls.Certificate{*a.Issue("127.0.0.1")}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: a.Pool}
	api.server.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: Streams}
	api.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	api.server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			api.Conns.Add(1)
		}
	}
	api.server.StartTLS()
	api.Cable = NewCable(tb, api.server.Listener.Addr().String())
	tb.Cleanup(func() {
		api.Cable.Close()
		api.server.CloseClientConnections()
		api.server.Close()
	})
	return api
}

// URL is where the cable begins.
func (a *API) URL() string { return "https://" + a.Cable.Address() }

// User tells who sent a request: the certificate's name, the token, or "".
func User(r *http.Request) string {
	if token := r.Header.Get("Authorization"); token != "" {
		return token
	}
	if len(r.TLS.PeerCertificates) > 0 {
		return r.TLS.PeerCertificates[0].Subject.CommonName
	}
	return ""
}

// Cable carries TCP connections, until it is cut.
type Cable struct {
	tb     testing.TB
	target string

	mu       sync.Mutex // guards what follows
	flows    *sync.Cond
	cut      bool
	closed   bool
	address  string
	listener net.Listener
	conns    map[net.Conn]struct{}
	wg       sync.WaitGroup
}

// NewCable leads from an address of its own to the target.
func NewCable(tb testing.TB, target string) *Cable {
	c := &Cable{tb: tb, target: target, address: "127.0.0.1:0", conns: map[net.Conn]struct{}{}}
	c.flows = sync.NewCond(&c.mu)
	c.listen()
	return c
}

// Address is where it begins.
func (c *Cable) Address() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.address
}

func (c *Cable) listen() {
	l, err := net.Listen("tcp", c.address)
	if err != nil {
		c.tb.Fatal(err)
	}
	c.mu.Lock()
	c.listener, c.address = l, l.Addr().String()
	c.mu.Unlock()
	c.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.wg.Go(func() { c.carry(conn) })
		}
	})
}

// Cut makes the cable swallow everything and refuse nothing.
func (c *Cable) Cut() { c.set(true) }

// Restore mends it: what was swallowed is not sent again, but connections that are still open go on, and new ones get through.
func (c *Cable) Restore() {
	c.mu.Lock()
	refused := c.listener == nil
	c.mu.Unlock()
	if refused {
		c.listen()
	}
	c.set(false)
}

func (c *Cable) set(cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = cut
	c.flows.Broadcast()
}

// Reset breaks all connections with an RST.
func (c *Cable) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.conns {
		if tcp, ok := conn.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
		conn.Close()
	}
	clear(c.conns)
}

// Refuse breaks all connections and refuses new ones.
func (c *Cable) Refuse() {
	c.mu.Lock()
	l := c.listener
	c.listener = nil
	c.mu.Unlock()
	if l != nil {
		l.Close()
	}
	c.Reset()
}

// Close ends it and waits for what it carries.
func (c *Cable) Close() {
	c.mu.Lock()
	c.closed = true
	c.flows.Broadcast()
	c.mu.Unlock()
	c.Refuse()
	c.wg.Wait()
}

func (c *Cable) carry(near net.Conn) {
	far, err := net.Dial("tcp", c.target)
	if err != nil {
		near.Close()
		return
	}
	c.mu.Lock()
	c.conns[near], c.conns[far] = struct{}{}, struct{}{}
	closed := c.closed
	c.mu.Unlock()
	if closed {
		near.Close()
		far.Close()
	}
	var wg sync.WaitGroup
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		wg.Go(func() { c.copy(way[0], way[1]) })
	}
	wg.Wait()
	c.mu.Lock()
	delete(c.conns, near)
	delete(c.conns, far)
	c.mu.Unlock()
}

// copy carries one way. While the cable is cut it holds what comes, as a sender's kernel would, also the end.
func (c *Cable) copy(from, to net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		c.mu.Lock()
		for c.cut && !c.closed {
			c.flows.Wait()
		}
		c.mu.Unlock()
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	from.Close()
	to.Close()
}

// Direct is the API server without the cable.
func (a *API) Direct() string { return a.server.URL }
