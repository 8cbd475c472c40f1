package http2

import (
	"errors"
	"io"
	"net/http"
	"time"

	frames "golang.org/x/net/http2"
)

// keptBuffer is the largest buffer that a body keeps while it is empty.
const keptBuffer = 16 << 10

// body is a request's. All of it is guarded by conn.mu. What was not read is held, up to the stream's window.
type body struct {
	st       *stream
	buf      []byte // not read yet, from off
	off      int
	ended    bool  // nothing comes any more
	err      error // what Read gives once buf is empty
	left     int64 // of the declared length, -1 if none was declared
	window   int64 // what may still come before the client is given more
	read     int   // what was read and is not given back yet
	expected bool  // the client waits for 100 Continue before it sends
	deadline time.Time
	wake     chan struct{}
}

// take takes what came. n is what it counts for in windows. The lock is held.
func (b *body) take(p []byte, n int, end bool) error {
	c, id := b.st.c, b.st.id
	switch {
	case int64(n) > b.window:
		c.giveBack(n)
		return streamError(id, frames.ErrCodeFlowControl, "more DATA than the stream's window")
	case b.left >= 0 && (int64(len(p)) > b.left || end && int64(len(p)) < b.left):
		c.giveBack(n)
		return streamError(id, frames.ErrCodeProtocol, "the body is not as long as its content-length")
	}
	if b.left >= 0 {
		b.left -= int64(len(p))
	}
	b.window -= int64(n)
	if b.err != nil { // nobody reads it
		c.giveBack(n)
	} else {
		if b.off > 0 && len(b.buf)+len(p) > cap(b.buf) { // what was read makes room: a slow reader's buffer is never empty
			b.buf = b.buf[:copy(b.buf, b.buf[b.off:])]
			b.off = 0
		}
		b.buf = append(b.buf, p...)
		b.giveBack(n - len(p))
	}
	if end {
		b.ended = true
		if b.err == nil {
			b.err = io.EOF
		}
	}
	if b.wake != nil {
		signal(b.wake)
	}
	return nil
}

// giveBack lets the client send as much more. The lock is held.
func (b *body) giveBack(n int) {
	c := b.st.c
	c.giveBack(n)
	if b.read += n; !b.ended && b.read > c.srv.cfg.StreamWindow/4 {
		c.appendWindowUpdate(b.st.id, b.read)
		b.window += int64(b.read)
		b.read = 0
	}
}

// giveBack lets the client send as much more on the connection. The lock is held.
func (c *conn) giveBack(n int) {
	if c.consumed += n; c.consumed > c.srv.cfg.ConnWindow/4 {
		c.appendWindowUpdate(0, c.consumed)
		c.received += int64(c.consumed)
		c.consumed = 0
	}
}

// close ends reading: what was not read is thrown away. The lock is held.
func (b *body) close(err error) {
	if b.err == nil || b.off < len(b.buf) {
		b.err = err
	}
	b.st.c.giveBack(len(b.buf) - b.off)
	b.buf, b.off = nil, 0
	if b.wake != nil {
		signal(b.wake)
	}
}

var errBodyClosed = http.ErrBodyReadAfterClose

// Close is part of io.ReadCloser.
func (b *body) Close() error {
	c := b.st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !errors.Is(b.err, errBodyClosed) {
		b.close(errBodyClosed)
		c.push(b.st)
	}
	return nil
}

// Read is part of io.Reader.
func (b *body) Read(p []byte) (int, error) {
	c := b.st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	for b.off == len(b.buf) {
		if b.err != nil {
			return 0, b.err
		}
		if err := late(b.deadline); err != nil {
			b.close(err)
			return 0, err
		}
		if b.wake == nil {
			b.wake = make(chan struct{}, 1)
		}
		if b.expected {
			b.ask()
			continue // it was written without the lock
		}
		b.st.lead()
		c.await(b.wake, b.deadline)
	}
	n := copy(p, b.buf[b.off:])
	if b.off += n; b.off == len(b.buf) {
		b.off = 0
		if b.buf = b.buf[:0]; cap(b.buf) > keptBuffer {
			b.buf = nil
		}
	}
	pending := len(c.out)
	if b.giveBack(n); len(c.out) > pending {
		c.push(b.st)
	}
	return n, nil
}

// ask sends 100 Continue to a client that waits for it. The lock is held.
func (b *body) ask() {
	b.expected = false
	if b.st.err == nil && !b.st.response.sent {
		b.st.c.appendContinue(b.st.id)
		b.st.c.push(b.st)
	}
}
