package upstream

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// kind is what a connection is for. Each has a transport of its own, which only dials: the pools are ours.
type kind int

const (
	sentinel kind = iota // the node's first connection: it says whether the link is up
	asNode               // further ones with the node's certificate
	asCaller             // without client certificate, for requests with a bearer token
	kinds
)

const (
	// dialTimeout bounds connecting, TLS included.
	dialTimeout = 10 * time.Second
	// idleConn is how long a connection that is not needed stays. The sentinel stays.
	idleConn = 90 * time.Second
	// pingIdle and pingTimeout find connections that died alone, while the sentinel lives.
	pingIdle, pingTimeout = 15 * time.Second, 5 * time.Second
	// nodeWindow and callerWindow bound what one stream may hold in memory when its client does not read. Pods are not trusted.
	nodeWindow, callerWindow = 1 << 20, 128 << 10
)

// server is one API server and the connections to it.
type server struct {
	url  *url.URL
	host string // host:port
	base string // the path before /api, without a slash at its end
	// proxied: it is reached through an HTTP proxy.
	proxied bool

	node, caller           pool
	quickNode, quickCaller quick

	mu      sync.Mutex
	tunnels map[*http.ClientConn]struct{} // upgraded requests' own connections
}

func (s *server) String() string { return s.url.String() }

// parse reads the servers' addresses.
func (l *Link) parse(addresses []string) ([]*server, error) {
	var out []*server
	for _, address := range addresses {
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return nil, fmt.Errorf("API server %q: want https://host[:port]", address)
		}
		port := u.Port()
		if port == "" {
			port = "443"
		}
		s := &server{url: u, host: net.JoinHostPort(u.Hostname(), port), base: strings.TrimSuffix(u.Path, "/"), tunnels: map[*http.ClientConn]struct{}{}}
		if l.cfg.Proxy != nil {
			through, err := l.cfg.Proxy(u)
			if err != nil {
				return nil, fmt.Errorf("API server %q: find its HTTP proxy: %w", address, err)
			}
			s.proxied = through != nil
		}
		if !slices.ContainsFunc(out, func(o *server) bool { return o.String() == s.String() }) {
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("there is no API server to connect to")
	}
	return out, nil
}

// transports makes what dials.
func (l *Link) transports() {
	for k := range kinds {
		conf := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: l.cfg.CA, ServerName: l.cfg.ServerName}
		if k != asCaller && l.cfg.Certificate != nil {
			conf.GetClientCertificate = l.certificate
		}
		l.kinds[k] = l.transport(k, conf)
	}
	l.tunnels[0], l.tunnels[1] = l.tunnelTransport(l.kinds[asNode]), l.tunnelTransport(l.kinds[asCaller])
}

func (l *Link) transport(k kind, conf *tls.Config) *http.Transport {
	t := &http.Transport{
		TLSClientConfig:        conf,
		TLSHandshakeTimeout:    dialTimeout,
		DisableCompression:     true, // what the client asked for is what it gets
		MaxResponseHeaderBytes: 256 << 10,
		IdleConnTimeout:        idleConn,
		ForceAttemptHTTP2:      true,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: pingIdle, PingTimeout: pingTimeout, WriteByteTimeout: dialTimeout,
			MaxReceiveBufferPerStream: nodeWindow,
		},
		DialContext: l.dialer(),
	}
	if l.cfg.Proxy != nil {
		t.Proxy = func(r *http.Request) (*url.URL, error) { return l.cfg.Proxy(r.URL) }
	}
	switch k {
	case sentinel:
		t.IdleConnTimeout = 0
		t.HTTP2.SendPingTimeout, t.HTTP2.PingTimeout = l.cfg.Idle, l.cfg.Timeout
	case asCaller:
		t.HTTP2.MaxReceiveBufferPerStream = callerWindow
	}
	return t
}

// certificate is called for each new connection, so that a rotated certificate is used from the next one on.
func (l *Link) certificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	cert, err := l.cfg.Certificate()
	if err != nil {
		return nil, fmt.Errorf("load the node's certificate: %w", err)
	}
	if cert == nil {
		return new(tls.Certificate), nil
	}
	return cert, nil
}

// tracker sees when a connection last said something.
type tracker struct {
	net.Conn
	heard atomic.Int64 // time since epoch, monotonic
	epoch time.Time
}

type trackerKey struct{}

func (t *tracker) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	if n > 0 {
		t.heard.Store(int64(time.Since(t.epoch)))
	}
	return n, err
}

// silent is for how long nothing was heard.
func (t *tracker) silent() time.Duration { return time.Since(t.epoch) - time.Duration(t.heard.Load()) }

// dialer gives what makes TCP connections.
func (l *Link) dialer() func(context.Context, string, string) (net.Conn, error) {
	dial := l.cfg.DialContext
	if dial == nil {
		dial = (&net.Dialer{
			Timeout:         dialTimeout,
			KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: pingIdle, Interval: pingTimeout, Count: 3},
			Control:         giveUpEarly,
		}).DialContext
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if t, ok := ctx.Value(trackerKey{}).(*tracker); ok && err == nil {
			t.Conn, t.epoch = c, time.Now()
			return t, nil
		}
		return c, err
	}
}

// close ends all connections to the server, and with them what is under way on them.
func (s *server) close() {
	conns := append(s.quickNode.empty(), s.quickCaller.empty()...)
	for _, c := range append(s.node.empty(), s.caller.empty()...) {
		conns = append(conns, c)
	}
	s.mu.Lock()
	for c := range s.tunnels {
		conns = append(conns, c)
	}
	clear(s.tunnels)
	s.mu.Unlock()
	var wg sync.WaitGroup
	for _, c := range conns {
		wg.Go(func() { c.Close() }) // says goodbye first, which takes a moment where nothing comes through
	}
	wg.Wait()
}
