package upstream

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/http2"
)

// RoundTrip sends a request, and gives the answer: as the node, or as whoever its Authorization header says. Scheme and host of
// its URL are set here. While the state is Connecting it waits. The error is ErrOffline, ErrLost or the request's own.
func (l *Link) RoundTrip(req *http.Request, node bool) (*http.Response, error) {
	const tries = 3
	for try := 1; ; try++ {
		s, err := l.await(req.Context())
		if err != nil {
			return nil, err
		}
		resp, sent, err := l.send(req, s, node)
		if err == nil {
			return resp, nil
		}
		if req.Context().Err() != nil {
			return nil, err
		}
		if l.verify(req.Context()) != Online {
			if sent {
				return nil, fmt.Errorf("%s %s: %w: %w", req.Method, req.URL.Path, ErrLost, err)
			}
			return nil, fmt.Errorf("%s %s: %w: %w", req.Method, req.URL.Path, ErrOffline, err)
		}
		if try == tries || sent && !repeatable(req) {
			return nil, err
		}
	}
}

// send sends a request to a server once. sent: it may have got there.
func (l *Link) send(req *http.Request, s *server, node bool) (resp *http.Response, sent bool, err error) {
	p, q, k := &s.caller, &s.quickCaller, asCaller
	if node {
		p, q, k = &s.node, &s.quickNode, asNode
	}
	out, err := l.address(req, s, node)
	if err != nil {
		return nil, false, err
	}
	if !s.proxied && short(req) {
		if c := q.take(l.dialQuick(s, node)); c != nil {
			if resp, err = c.roundTrip(out); err == nil || req.Context().Err() != nil {
				return resp, true, err
			}
			// The server may have closed it while it was idle: HTTP/2 says what is wrong, if anything is.
		}
	}
	http2.Waiting(req.Context())
	wanted := func() (<-chan struct{}, bool) { return l.uses(s) }
	conn, err := p.get(req.Context(), wanted, func(ctx context.Context) (*http.ClientConn, error) {
		return l.kinds[k].NewClientConn(ctx, "https", s.host)
	})
	if err != nil {
		return nil, false, fmt.Errorf("connect to %s: %w", s, err)
	}
	resp, err = conn.RoundTrip(out)
	return resp, true, err
}

// uses tells whether requests go to a server, and gives what is closed when that may have changed.
func (l *Link) uses(s *server) (changed <-chan struct{}, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed, l.current == s
}

// address gives the request as it goes to a server.
func (l *Link) address(req *http.Request, s *server, node bool) (*http.Request, error) {
	out := new(http.Request)
	*out = *req
	u := *req.URL
	u.Scheme, u.Host = "https", s.host
	if s.base != "" {
		u.Path = s.base + u.Path
		if u.RawPath != "" {
			u.RawPath = s.base + u.RawPath
		}
	}
	out.URL, out.Host, out.RequestURI = &u, "", ""
	if node && l.cfg.Token != nil {
		out.Header = req.Header.Clone()
		return out, l.authorize(out)
	}
	return out, nil
}

// authorize adds the node's token, if it has one.
func (l *Link) authorize(req *http.Request) error {
	if l.cfg.Token == nil {
		return nil
	}
	token, err := l.cfg.Token()
	if err != nil {
		return fmt.Errorf("load the node's token: %w", err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return nil
}

// repeatable tells whether a request may be sent twice.
func repeatable(req *http.Request) bool {
	return (req.Body == nil || req.Body == http.NoBody) && (req.Method == http.MethodGet || req.Method == http.MethodHead)
}

// await gives the server to use.
func (l *Link) await(ctx context.Context) (*server, error) {
	for {
		l.mu.Lock()
		status, current, changed := l.status, l.current, l.changed
		l.mu.Unlock()
		switch status.State {
		case Online:
			return current, nil
		case Offline:
			return nil, fmt.Errorf("%w: %s", ErrOffline, status.Why)
		}
		http2.Waiting(ctx)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-changed:
		}
	}
}

// verify is called when a request failed: it has the link looked at, and gives the state that comes of it.
func (l *Link) verify(ctx context.Context) State {
	l.mu.Lock()
	state, changed := l.status.State, l.changed
	l.mu.Unlock()
	if state == Online {
		signal(l.suspects)
		http2.Waiting(ctx)
		select {
		case <-ctx.Done():
			return state
		case <-changed:
		}
	}
	return l.Wait(ctx)
}

// Upgrade sends a request that asks for another protocol (WebSocket, SPDY) on a connection of its own, which is never used for
// anything else. If the answer is 101 its Body is an io.ReadWriteCloser; in any case closing it closes the connection.
func (l *Link) Upgrade(req *http.Request, node bool) (*http.Response, error) {
	s, err := l.await(req.Context())
	if err != nil {
		return nil, err
	}
	t := l.tunnels[1]
	if node {
		t = l.tunnels[0]
	}
	conn, err := t.NewClientConn(req.Context(), "https", s.host)
	if err != nil {
		if l.verify(req.Context()) != Online {
			return nil, fmt.Errorf("%s %s: %w: %w", req.Method, req.URL.Path, ErrOffline, err)
		}
		return nil, fmt.Errorf("connect to %s: %w", s, err)
	}
	s.mu.Lock()
	s.tunnels[conn] = struct{}{}
	s.mu.Unlock()
	end := sync.OnceValue(func() error {
		s.mu.Lock()
		delete(s.tunnels, conn)
		s.mu.Unlock()
		return conn.Close()
	})
	out, err := l.address(req, s, node)
	if err != nil {
		end()
		return nil, err
	}
	resp, err := conn.RoundTrip(out)
	if err != nil {
		end()
		return nil, err
	}
	if rw, ok := resp.Body.(io.ReadWriteCloser); ok && resp.StatusCode == http.StatusSwitchingProtocols {
		resp.Body = &tunnel{rw, end}
	} else {
		resp.Body = &answer{resp.Body, end}
	}
	return resp, nil
}

// tunnel is an upgraded connection.
type tunnel struct {
	io.ReadWriteCloser
	end func() error
}

func (t *tunnel) Close() error {
	t.ReadWriteCloser.Close()
	return t.end()
}

// answer is the body of an upgrade that was refused.
type answer struct {
	io.ReadCloser
	end func() error
}

func (a *answer) Close() error {
	a.ReadCloser.Close()
	return a.end()
}

// tunnelTransport dials HTTP/1.1 connections with the credentials of another transport.
func (l *Link) tunnelTransport(like *http.Transport) *http.Transport {
	conf := like.TLSClientConfig.Clone()
	conf.NextProtos = []string{"http/1.1"}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		TLSClientConfig: conf, TLSHandshakeTimeout: dialTimeout, DisableCompression: true,
		MaxResponseHeaderBytes: like.MaxResponseHeaderBytes, Protocols: protocols,
		DialContext: like.DialContext, Proxy: like.Proxy,
	}
}
