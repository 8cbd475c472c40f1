package http2

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
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

// ending is how far a connection's end has come.
type ending struct {
	draining bool   // GOAWAY was sent, and what comes before the client knows is still served
	final    bool   // what comes after stream last is not served
	last     uint32 // valid if final
	hungUp   bool   // nothing is written any more
	err      error  // the connection is broken, or closed
}

var errClosed = errors.New("the connection is closed")

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
	c.greet()
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

// expire ends the connection if it had nothing to do for long.
func (c *conn) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	left := c.hs.IdleTimeout
	if c.handlers == 0 && len(c.streams) == 0 {
		left -= time.Since(c.since)
	}
	switch {
	case c.end.err != nil:
	case left > 0:
		c.idle.Reset(left)
	default:
		c.goAway(frames.ErrCodeNo, "")
		c.hangUp()
	}
}

// drain ends the connection once its requests are answered. Those that the client sends before it knows are answered too.
func (c *conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end.draining || c.end.final {
		return
	}
	c.end.draining = true
	c.appendGoAway(maxStream, frames.ErrCodeNo, "")
	c.appendPing(drainPing, false)
	c.flush()
}

// goAway says that what comes from now on is not served. The lock is held.
func (c *conn) goAway(code frames.ErrCode, why string) {
	if !c.end.final {
		c.end.final, c.end.last = true, c.last
	}
	c.appendGoAway(c.end.last, code, why)
}

// settle hangs up once nothing is left to do. The lock is held.
func (c *conn) settle() {
	if c.end.final && len(c.streams) == 0 && c.handlers == 0 {
		c.hangUp()
	}
}

// hangUp sends what is left and ends this side. The client's is read for a while yet: to close it now could cost the client what was
// sent last. The lock is held.
func (c *conn) hangUp() {
	if c.end.hungUp || c.end.err != nil {
		return
	}
	c.flush()
	c.end.hungUp = true
	if c.writing {
		return // who writes finishes it
	}
	c.halfClose()
}

// halfClose ends this side. The lock is held.
func (c *conn) halfClose() {
	c.mu.Unlock()
	time.AfterFunc(lingerTime, func() { c.close(errClosed) })
	c.nc.CloseWrite()
	c.mu.Lock()
}

// close ends the connection at once.
func (c *conn) close(err error) {
	c.mu.Lock()
	if c.end.err != nil {
		c.mu.Unlock()
		return
	}
	c.end.err = err
	if c.idle != nil {
		c.idle.Stop()
	}
	for _, st := range c.streams {
		st.kill(err)
	}
	clear(c.streams)
	for _, st := range c.queue {
		signal(st.wake)
	}
	c.queue = nil
	c.mu.Unlock()
	c.nc.Close()
}
