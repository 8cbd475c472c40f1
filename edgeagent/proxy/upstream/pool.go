package upstream

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
)

// pool is the HTTP/2 connections to a server that carry requests of one kind. A server allows only so many streams on each
// (kube-apiserver: 100 to 250), and a node's kubelet wants a watch for every Secret: so another is opened when all are full.
type pool struct {
	mu      sync.Mutex // guards what follows
	conns   []*http.ClientConn
	dialing *dial
	emptied int // how often, so that a connection that comes too late is closed
}

// dial is a connection under way. All who need one wait for it.
type dial struct {
	done chan struct{}
	err  error // set before done is closed
}

// errGivenUp says that requests do not go to a server any more.
var errGivenUp = errors.New("the server was given up")

// get gives a connection with room reserved for one request. wanted tells whether there is still use for one, and gives what is closed
// when that may have changed: nobody waits for a connection into a black hole.
func (p *pool) get(ctx context.Context, wanted func() (<-chan struct{}, bool), connect func(context.Context) (*http.ClientConn, error)) (*http.ClientConn, error) {
	for {
		changed, ok := wanted()
		if !ok {
			return nil, errGivenUp
		}
		conn, d := p.reserve(connect)
		if conn != nil {
			return conn, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-changed:
		case <-d.done:
			if d.err != nil {
				return nil, d.err
			}
		}
	}
}

// reserve gives a connection that has room, or the one that is under way.
func (p *pool) reserve(connect func(context.Context) (*http.ClientConn, error)) (*http.ClientConn, *dial) {
	p.mu.Lock()
	defer p.mu.Unlock()
	dead := false
	for _, c := range p.conns {
		if c.Reserve() == nil {
			return c, nil
		}
		dead = dead || c.Err() != nil
	}
	if dead {
		p.conns = slices.DeleteFunc(p.conns, func(c *http.ClientConn) bool { return c.Err() != nil })
	}
	if p.dialing == nil {
		p.dialing = &dial{done: make(chan struct{})}
		go p.connect(p.dialing, p.emptied, connect)
	}
	return nil, p.dialing
}

// connect opens a connection for all who wait: it is nobody's request whose end would end it.
func (p *pool) connect(d *dial, emptied int, connect func(context.Context) (*http.ClientConn, error)) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	conn, err := connect(ctx)
	p.mu.Lock()
	p.dialing = nil
	late := p.emptied != emptied
	if err == nil && !late {
		p.conns = append(p.conns, conn)
	}
	p.mu.Unlock()
	d.err = err
	close(d.done)
	if err == nil && late {
		conn.Close()
	}
}

// add puts a connection first.
func (p *pool) add(c *http.ClientConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = slices.Insert(p.conns, 0, c)
}

// empty takes all connections out.
func (p *pool) empty() []*http.ClientConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	conns := p.conns
	p.conns, p.emptied = nil, p.emptied+1
	return conns
}
