package pool

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// retryFirst and retryMost bound how soon a member that was not reached is tried again. Until then requests fail at once. Whatever is
// heard of it ends the wait.
const retryFirst, retryMost = 500 * time.Millisecond, 5 * time.Second

// Client gives the way to a member: its requests go to that member and to nobody else, whatever host their URL names, over one connection
// that is made when it is needed. A member that cannot be reached is ErrUnreachable.
func (p *Pool) Client(member string) (*http.Client, error) {
	if _, ok := p.members.Load().byName[member]; !ok || member == p.cfg.Node {
		return nil, fmt.Errorf("%q is no other member of the pool", member)
	}
	return &http.Client{
		Transport:     roundTrip(func(r *http.Request) (*http.Response, error) { return p.roundTrip(member, r) }),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// newTransport makes HTTP/2 connections out of those that reach makes. It keeps none itself.
func (p *Pool) newTransport() *http.Transport {
	t := &http.Transport{
		DialTLSContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			name, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			m, ok := p.members.Load().byName[name]
			if !ok {
				return nil, fmt.Errorf("%q is no member of the pool any more", name)
			}
			return p.reach(ctx, m)
		},
		Protocols: new(http.Protocols), IdleConnTimeout: idleClient, DisableCompression: true, MaxResponseHeaderBytes: maxHeader,
		HTTP2: &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingWithin, MaxReceiveBufferPerStream: window},
	}
	t.Protocols.SetHTTP2(true)
	return t
}

// link is the connection to a member, if there is one.
type link struct {
	mu      sync.Mutex // guards what follows
	conn    *http.ClientConn
	dialing *dialing
	// problem is what came of the last dial, retry and wait when the next may be made.
	problem error
	tried   time.Time
	retry   time.Time
	wait    time.Duration
}

// dialing is a dial that many requests wait for.
type dialing struct {
	done chan struct{}
	conn *http.ClientConn
	err  error
}

// hopeful has the member tried again at once.
func (l *link) hopeful() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.retry, l.wait = time.Time{}, 0
}

func (l *link) outcome() (time.Time, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tried, l.problem
}

func (p *Pool) link(member string) (*link, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.members.Load().byName[member]; !ok {
		return nil, fmt.Errorf("%w: %s was removed from the pool", ErrUnreachable, member)
	}
	if p.links[member] == nil {
		p.links[member] = &link{}
	}
	return p.links[member], nil
}

// roundTrip sends a request to a member. One that may be repeated is, once, if the connection turns out to be dead.
func (p *Pool) roundTrip(member string, r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host, r.Host = "https", member, member
	for again := r.Body == nil && (r.Method == http.MethodGet || r.Method == http.MethodHead); ; again = false {
		c, err := p.connection(r.Context(), member)
		if err != nil {
			if r.Body != nil {
				r.Body.Close()
			}
			return nil, err
		}
		res, err := c.RoundTrip(r)
		if err == nil || c.Err() == nil || r.Context().Err() != nil {
			return res, err
		}
		if !again {
			return nil, fmt.Errorf("the connection to %s was lost: %w", member, err)
		}
	}
}

// connection gives the connection to a member, and makes it if need be: once, however many ask.
func (p *Pool) connection(ctx context.Context, member string) (*http.ClientConn, error) {
	l, err := p.link(member)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	if l.conn != nil && l.conn.Err() == nil {
		defer l.mu.Unlock()
		return l.conn, nil
	}
	if l.dialing == nil {
		d := &dialing{done: make(chan struct{})}
		if time.Now().Before(l.retry) || !p.begin(func() { p.dial(l, d, member) }) {
			defer l.mu.Unlock()
			return nil, fmt.Errorf("not tried again yet: %w", cmp.Or(l.problem, ErrUnreachable))
		}
		l.dialing = d
	}
	d := l.dialing
	l.mu.Unlock()
	select {
	case <-d.done:
		return d.conn, d.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// dial makes the connection. It does not end with the request that wanted it: others wait too, or will.
func (p *Pool) dial(l *link, d *dialing, member string) {
	defer close(d.done)
	d.conn, d.err = p.transport.NewClientConn(p.life, "https", net.JoinHostPort(member, "443"))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dialing, l.tried = nil, time.Now()
	if d.err != nil {
		d.err = fmt.Errorf("reach %s: %w", member, d.err)
		l.wait = min(max(2*l.wait, retryFirst), retryMost)
		l.retry = l.tried.Add(l.wait)
		l.problem = d.err
		p.ask(member)
		return
	}
	l.conn, l.problem, l.wait = d.conn, nil, 0
}

// probe ends a connection on which the member does not answer any more. Any answer will do.
func (p *Pool) probe(member string, c *http.ClientConn) {
	ctx, cancel := context.WithTimeout(p.life, probeWithin)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodHead, "https://"+member+"/", nil)
	if err != nil {
		return
	}
	res, err := c.RoundTrip(r)
	if err != nil {
		c.Close()
		return
	}
	res.Body.Close()
}

// ask asks on the LAN where a member is.
func (p *Pool) ask(member string) {
	keys := p.members.Load().byName[member].Keys
	if p.discovery != nil && len(keys) > 0 {
		p.discovery.Ask(keys[len(keys)-1])
	}
}
