package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/upstream"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
)

// Buffers for copying answers. A watch holds one as long as it lives. Other answers are passed on in blocks as large as a buffer, and so
// are small ones in one: each write to a client costs both ends a system call.
const (
	watchBuffer = 2 << 10
	bodyBuffer  = 32 << 10
)

var (
	watchBuffers = sync.Pool{New: func() any { return new([watchBuffer]byte) }}
	bodyBuffers  = sync.Pool{New: func() any { return new([bodyBuffer]byte) }}
)

// online passes the request upstream, and the answer back.
func (c *call) online() {
	if protocol := upgrade(c.r.Header); protocol != "" && protocol != "h2c" && c.r.ProtoMajor == 1 {
		c.tunnel()
		return
	}
	if c.watches() && c.s.epoch.expired(c) {
		c.refuse(gone(c.req))
		return
	}
	out := c.outgoing()
	memo := c.remember(out)
	held := func(int) {}
	if c.writes() {
		held = c.s.cfg.Offline.Hold(c.req, c.who())
	}
	if c.r.Method == http.MethodGet && c.err == nil && c.req.Resourceful() {
		c.since = c.s.version(c.key())
	}
	resp, err := c.s.cfg.Link.RoundTrip(out, c.caller.Node)
	if err != nil {
		held(0)
		c.failed(err)
		return
	}
	defer resp.Body.Close()
	c.s.metrics.request(live, c)
	if resp.StatusCode != http.StatusUnauthorized {
		known(c.r, false, c.caller.Name)
	}
	defer func() { held(resp.StatusCode) }()
	if memo != nil {
		resp.Body = memo.record(resp.Body)
	}
	if c.rewrites() && resp.StatusCode == http.StatusOK {
		if encoding, ok := encodingOf(resp.Header); ok {
			c.rewritten(resp, encoding)
			return
		}
	}
	c.pass(resp)
	if memo != nil {
		memo.keep(c, resp)
	}
}

// outgoing gives the request as it goes upstream. The path stays as the client wrote it.
func (c *call) outgoing() *http.Request {
	out := c.r.WithContext(c.r.Context())
	out.Header = outward(c.r.Header, c.caller.Node)
	out.Trailer, out.TransferEncoding, out.Close = nil, nil, false
	if c.r.ContentLength == 0 {
		out.Body = http.NoBody
	}
	if c.rewrites() {
		out.Header.Del("Accept-Encoding")
	}
	return out
}

// reads tells whether the request changes nothing.
func (c *call) reads() bool { return c.r.Method == http.MethodGet || c.r.Method == http.MethodHead }

// writes tells whether the request may change what an entry of the outbox changes too.
func (c *call) writes() bool {
	return c.err == nil && c.req.Resourceful() && (c.r.Method == http.MethodPatch || c.r.Method == http.MethodPut)
}

// watches tells whether the answer is a stream of events.
func (c *call) watches() bool { return c.err == nil && c.req.Verb == "watch" }

// failed answers a request that upstream did not.
func (c *call) failed(err error) {
	switch {
	case c.r.Context().Err() != nil:
		panic(http.ErrAbortHandler) // nobody is there to be answered
	case errors.Is(err, upstream.ErrOffline), errors.Is(err, upstream.ErrLost) && c.reads():
		c.offline()
	default:
		c.s.log.Debug("request", "method", c.r.Method, "path", c.r.URL.Path, "err", err)
		c.refuse(wire.Status{Code: http.StatusServiceUnavailable, Reason: "ServiceUnavailable", RetryAfter: 1, Message: "holdfast: " + err.Error()})
	}
}

// pass streams the answer to the client as it comes, and shows the tap a copy.
func (c *call) pass(resp *http.Response) {
	t := c.tap(resp)
	inward(c.w.Header(), resp.Header)
	c.w.WriteHeader(resp.StatusCode)
	whole, atFrame := c.copy(resp.Body, t, c.flushes(resp))
	if t != nil {
		t.done(whole)
	}
	if !whole && !atFrame {
		panic(http.ErrAbortHandler) // so that the client sees that the answer is not complete
	}
}

// flushes tells whether the client is to have every piece at once.
func (c *call) flushes(resp *http.Response) bool {
	switch {
	case resp.ContentLength >= 0:
		return false
	case c.watches(), c.err != nil, c.req.Subresource != "":
		return true
	}
	return !c.req.Resourceful()
}

// copy copies the body. whole: upstream said that it is complete. atFrame: it broke off, but between two events of a watch, which is
// no different from a watch that upstream ended.
func (c *call) copy(body io.Reader, t tap, flush bool) (whole, atFrame bool) {
	var buf []byte
	if c.watches() {
		b := watchBuffers.Get().(*[watchBuffer]byte)
		defer watchBuffers.Put(b)
		buf = b[:]
	} else {
		b := bodyBuffers.Get().(*[bodyBuffer]byte)
		defer bodyBuffers.Put(b)
		buf = b[:]
	}
	c.flush(flush)
	for {
		n, err := body.Read(buf)
		for !flush && err == nil && n < len(buf) {
			var more int
			more, err = body.Read(buf[n:])
			n += more
		}
		if n > 0 {
			if _, err := c.w.Write(buf[:n]); err != nil {
				return false, false
			}
			c.flush(flush)
			if t != nil {
				t.take(buf[:n])
			}
		}
		if err == io.EOF {
			return true, true
		}
		if err != nil {
			return false, c.r.Context().Err() == nil && c.watches() && t != nil && t.between()
		}
	}
}

// flush sends what was written so far, if that is wanted.
func (c *call) flush(wanted bool) {
	if f, ok := c.w.(http.Flusher); ok && wanted {
		f.Flush()
	}
}

// tunnel connects the client with upstream: exec, attach, port-forward. Failures pass as they are.
func (c *call) tunnel() {
	out := c.outgoing()
	out.Header["Connection"], out.Header["Upgrade"] = []string{"Upgrade"}, c.r.Header["Upgrade"]
	resp, err := c.s.cfg.Link.Upgrade(out, c.caller.Node)
	if err != nil {
		c.failed(err)
		return
	}
	defer resp.Body.Close()
	c.s.metrics.request(live, c)
	if resp.StatusCode != http.StatusUnauthorized {
		known(c.r, false, c.caller.Name)
	}
	far, ok := resp.Body.(io.ReadWriteCloser)
	if resp.StatusCode != http.StatusSwitchingProtocols || !ok {
		c.pass(resp)
		return
	}
	near, buffered, err := http.NewResponseController(c.w).Hijack()
	if err != nil {
		c.refuse(status(http.StatusInternalServerError, "InternalError", fmt.Sprintf("take over the connection: %v", err)))
		return
	}
	defer near.Close()
	h := http.Header{}
	inward(h, resp.Header)
	h["Connection"], h["Upgrade"] = []string{"Upgrade"}, resp.Header["Upgrade"]
	answer := http.Response{StatusCode: resp.StatusCode, ProtoMajor: 1, ProtoMinor: 1, Header: h}
	if answer.Write(near) != nil {
		return
	}
	c.s.join(near, buffered, far)
}

// join carries bytes both ways until either end closes, as without a proxy: half-closed connections are in neither protocol.
func (s *Server) join(near net.Conn, buffered io.Reader, far io.ReadWriteCloser) {
	ended := make(chan struct{}, 2)
	go func() {
		io.Copy(far, buffered) // what the client sent early is in there
		ended <- struct{}{}
	}()
	go func() {
		io.Copy(near, far)
		ended <- struct{}{}
	}()
	left := 2
	select {
	case <-ended:
		left--
	case <-s.stopped:
	}
	near.Close()
	far.Close()
	for range left {
		<-ended
	}
}
