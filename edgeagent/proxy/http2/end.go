package http2

import (
	"errors"
	"fmt"
	"io"
	"time"

	frames "golang.org/x/net/http2"
)

// ending is how far a connection's end has come.
type ending struct {
	draining bool   // GOAWAY was sent, and what comes before the client knows is still served
	final    bool   // what comes after stream last is not served
	last     uint32 // valid if final
	hungUp   bool   // nothing is written any more
	err      error  // the connection is broken, or closed
}

var errClosed = errors.New("the connection is closed")

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

// fail ends the connection: the client is told why if it can be.
func (c *conn) fail(err error) {
	code, why := frames.ErrCodeProtocol, ""
	var own connError
	var framing frames.ConnectionError
	switch {
	case errors.As(err, &own):
		code, why = own.code, own.why
	case errors.As(err, &framing):
		code = frames.ErrCode(framing)
		if detail := c.fr.ErrorDetail(); detail != nil {
			why = detail.Error()
		}
	case errors.Is(err, frames.ErrFrameTooLarge):
		code, why = frames.ErrCodeFrameSize, "a frame is longer than allowed"
	default: // the client is gone
		c.close(fmt.Errorf("%w: %w", errClosed, err))
		return
	}
	c.srv.cfg.Log.Debug("HTTP/2 connection ends", "client", c.remote, "code", code.String(), "why", why)
	c.mu.Lock()
	for id, st := range c.streams {
		st.kill(errClosed)
		delete(c.streams, id)
	}
	c.goAway(code, why)
	c.hangUp()
	c.mu.Unlock()
	c.discard()
	c.close(fmt.Errorf("%w: %w", errClosed, err))
}

// discard reads what the client still sends, for a while: closing a connection with unread bytes would take what was sent last away.
func (c *conn) discard() {
	c.nc.SetReadDeadline(time.Now().Add(lingerTime))
	io.CopyN(io.Discard, c.nc, 4<<20)
}
