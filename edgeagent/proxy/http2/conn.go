package http2

import (
	"bufio"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"

	frames "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// readBuffer takes most requests whole.
	readBuffer = 4 << 10
	// maxParked are the goroutines of a connection that wait for work.
	maxParked = 2
	// lingerTime is how long what a client still sends is read and thrown away, so that it sees why the connection ends.
	lingerTime = time.Second
	// remembered are the streams last reset here: what the client sent before it knew is not its fault.
	remembered = 32
)

// conn is one connection. Its goroutines take turns: one leads, that is, reads. The others answer requests, or are parked.
type conn struct {
	srv     *server
	hs      *http.Server
	nc      transport
	tls     *tls.ConnectionState
	remote  string
	handler http.Handler
	base    context.Context

	reader               // the leader's
	turn   chan struct{} // makes a parked goroutine the leader; the last leader closes it
	crew   sync.WaitGroup

	mu       sync.Mutex // guards what follows
	leader   *stream    // the request that the leader answers itself, if it does
	parked   int
	streams  map[uint32]*stream
	handlers int    // under way; streams that were reset may still have one
	heads    int    // the size of their headers
	last     uint32 // the newest stream
	dropped  [remembered]uint32
	drops    int
	idle     *time.Timer
	since    time.Time // when the last request was done
	end      ending
	received int64 // what may still come before the client is given more window
	consumed int   // of it what was read, and is not given back yet
	writer
}

// transport is what a connection needs of TLS.
type transport interface {
	net.Conn
	// CloseWrite ends this side.
	CloseWrite() error
}

func newConn(s *server, hs *http.Server, nc transport, state *tls.ConnectionState, handler http.Handler, base context.Context) *conn {
	c := &conn{
		srv: s, hs: hs, nc: nc, tls: state, remote: nc.RemoteAddr().String(), handler: handler, base: base,
		turn: make(chan struct{}, 1), streams: map[uint32]*stream{}, received: int64(s.cfg.ConnWindow),
	}
	c.br = bufio.NewReaderSize(source{c}, readBuffer)
	c.fr = frames.NewFramer(nil, c.br)
	c.fr.SetReuseFrames()
	c.fr.SetMaxReadFrameSize(maxFrame)
	c.dec = hpack.NewDecoder(tableSize, c.head.field)
	c.dec.SetMaxStringLength(c.maxHeaders())
	c.head.limit = c.maxHeaders()
	c.writer.init()
	return c
}

func (c *conn) maxHeaders() int {
	if c.hs.MaxHeaderBytes > 0 {
		return c.hs.MaxHeaderBytes
	}
	return http.DefaultMaxHeaderBytes
}

// source is the connection as its leader reads it: what was answered meanwhile goes out before it waits for more.
type source struct{ *conn }

func (s source) Read(p []byte) (int, error) {
	s.mu.Lock()
	if len(s.out) > 0 {
		s.flush()
	}
	s.mu.Unlock()
	return s.nc.Read(p)
}

// serve serves the connection until it ends and all its handlers have returned.
func (c *conn) serve() {
	c.mu.Lock()
	c.since = time.Now()
	if c.hs.IdleTimeout > 0 {
		c.idle = time.AfterFunc(c.hs.IdleTimeout, c.expire)
	}
	c.mu.Unlock()
	c.run(c.preface(), true)
	c.crew.Wait()
	c.close(errClosed)
}

// run reads, answers and waits for its turn until the connection ends. lead: this goroutine leads. The first one stays to the end.
func (c *conn) run(lead, first bool) {
	for {
		if lead {
			st := c.next()
			if st == nil {
				close(c.turn)
				return
			}
			lead = c.answer(st)
		}
		if lead {
			continue
		}
		c.mu.Lock()
		if !first && c.parked >= maxParked {
			c.mu.Unlock()
			return
		}
		c.parked++
		c.mu.Unlock()
		if _, lead = <-c.turn; !lead {
			return
		}
	}
}

// answer has a request answered, and tells whether this goroutine still leads.
func (c *conn) answer(st *stream) bool {
	if !st.body.ended || c.srv.cfg.Brief == nil || !c.srv.cfg.Brief(st.req) {
		c.crew.Go(func() { st.handle() }) // a new goroutine has a small stack: it may be there for hours
		return true
	}
	c.mu.Lock()
	c.leader = st
	c.mu.Unlock()
	return st.handle()
}

// handOver makes another goroutine the leader. The lock is held.
func (c *conn) handOver() {
	c.leader = nil
	if c.parked > 0 {
		c.parked--
		c.turn <- struct{}{}
		return
	}
	c.crew.Go(func() { c.run(true, false) })
}
