package upstream

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"
)

const (
	// dialTimeout and handshakeTimeout bound a connection that is being made. They are longer than Config.Connect: a request gives up, and its
	// connection may still come, for the next one. So a link with a long way, as through a satellite, is not called dead for ever.
	dialTimeout, handshakeTimeout = 5 * time.Second, 10 * time.Second
	// idleConn is how long a connection waits for its next request. It is short: an idle mirror sends nothing.
	idleConn = 15 * time.Second
	maxIdle  = 4
)

// transport makes what carries requests: HTTP/1.1 alone, so that a download that is given up costs a connection and not what others
// have under way, and so that the kernel's buffers are the only ones.
func (l *link) transport(foreign bool) *http.Transport {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if !foreign {
		conf.RootCAs = l.cfg.CA
	}
	t := &http.Transport{
		TLSClientConfig:        conf,
		TLSHandshakeTimeout:    handshakeTimeout,
		DisableCompression:     true, // what is hashed is what was sent
		MaxIdleConnsPerHost:    maxIdle,
		IdleConnTimeout:        idleConn,
		MaxResponseHeaderBytes: 128 << 10,
		ReadBufferSize:         32 << 10,
		Protocols:              new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	if l.cfg.Proxy != nil {
		t.Proxy = func(req *http.Request) (*url.URL, error) { return l.cfg.Proxy(req.URL) }
	}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		return l.dial(ctx, network, address, foreign)
	}
	t.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		return l.dialTLS(ctx, network, address, foreign, conf)
	}
	return t
}

// dial connects, and tells the request that waits for it. What an undeclared host's name resolves to is looked at when it is dialed: no
// second resolution can give another address. An HTTP proxy dials by itself.
func (l *link) dial(ctx context.Context, network, address string, foreign bool) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	h, _ := ctx.Value(hopKey{}).(*hop)
	d := net.Dialer{KeepAlive: 30 * time.Second}
	if foreign && (h == nil || !h.proxied) {
		d.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error { return l.permit(address) }
	}
	conn, err := l.dialer(&d)(ctx, network, address)
	if err == nil && h != nil {
		h.connected()
	}
	return conn, err
}

// dialer is what makes connections.
func (l *link) dialer(d *net.Dialer) func(ctx context.Context, network, address string) (net.Conn, error) {
	if l.cfg.DialContext != nil {
		return l.cfg.DialContext
	}
	return d.DialContext
}

// dialTLS connects to a host without a proxy. Whenever that succeeds the host's breaker closes, also if the request that began it has
// long been answered.
func (l *link) dialTLS(ctx context.Context, network, address string, foreign bool, conf *tls.Config) (net.Conn, error) {
	raw, err := l.dial(ctx, network, address, foreign)
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		raw.Close()
		return nil, err
	}
	conf = conf.Clone()
	conf.ServerName = host
	conn := tls.Client(raw, conf)
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	l.reached(address)
	return conn, nil
}
