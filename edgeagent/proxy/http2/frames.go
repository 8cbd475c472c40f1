package http2

import (
	"errors"
	"fmt"
	"io"
	"time"

	frames "golang.org/x/net/http2"
)

// streamError resets one stream.
func streamError(id uint32, code frames.ErrCode, why string) error {
	return frames.StreamError{StreamID: id, Code: code, Cause: errors.New(why)}
}

// connError ends a connection, and says why to the client.
type connError struct {
	code frames.ErrCode
	why  string
}

func (e connError) Error() string { return fmt.Sprintf("%v: %s", e.code, e.why) }

// preface reads what a connection begins with, and tells whether it was that.
func (c *conn) preface() bool {
	if c.hs.ReadHeaderTimeout > 0 {
		c.nc.SetReadDeadline(time.Now().Add(c.hs.ReadHeaderTimeout))
	}
	var got [len(frames.ClientPreface)]byte
	_, err := io.ReadFull(c.br, got[:])
	if err == nil && string(got[:]) != frames.ClientPreface {
		err = connError{frames.ErrCodeProtocol, "the connection does not begin as HTTP/2 does"}
	}
	if err != nil {
		c.fail(err)
		close(c.turn)
		return false
	}
	c.greeted = false
	return true
}

// next reads frames until there is a request to answer. nil: the connection is over.
func (c *conn) next() *stream {
	for {
		st, err := c.readFrame()
		if e, ok := err.(frames.StreamError); ok {
			err = c.refuse(e)
		}
		if err != nil {
			c.fail(err)
			return nil
		}
		if st != nil {
			return st
		}
	}
}

// readFrame reads one frame.
func (c *conn) readFrame() (*stream, error) {
	h, err := c.fr.ReadFrameHeader()
	if err != nil {
		return nil, err
	}
	f, err := c.fr.ReadFrameForHeader(h)
	if e, ok := err.(frames.StreamError); ok && h.Type == frames.FrameHeaders {
		return nil, connError{e.Code, "malformed HEADERS"} // the headers in it would be missing from those that follow
	}
	if err != nil {
		return nil, err
	}
	return c.frame(f)
}

// frame handles a frame, and gives the request that it completes.
func (c *conn) frame(f frames.Frame) (*stream, error) {
	if s, ok := f.(*frames.SettingsFrame); !c.greeted {
		if !ok || s.IsAck() {
			return nil, connError{frames.ErrCodeProtocol, "the first frame is not SETTINGS"}
		}
		c.greeted = true
		c.nc.SetReadDeadline(time.Time{})
	}
	switch f := f.(type) {
	case *frames.HeadersFrame:
		return c.headers(f)
	case *frames.ContinuationFrame:
		return c.fragment(f.HeaderBlockFragment(), f.HeadersEnded())
	case *frames.DataFrame:
		return nil, c.data(f)
	case *frames.SettingsFrame:
		return nil, c.settings(f)
	case *frames.PingFrame:
		return nil, c.ping(f)
	case *frames.WindowUpdateFrame:
		return nil, c.windowUpdate(f)
	case *frames.RSTStreamFrame:
		return nil, c.resetByClient(f)
	case *frames.PriorityFrame:
		if f.StreamDep == f.StreamID {
			return nil, streamError(f.StreamID, frames.ErrCodeProtocol, "a stream depends on itself")
		}
	case *frames.GoAwayFrame:
		c.drain()
	case *frames.PushPromiseFrame:
		return nil, connError{frames.ErrCodeProtocol, "a client does not push"}
	}
	return nil, c.calm.cheap()
}

// data handles a piece of a request's body.
func (c *conn) data(f *frames.DataFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	id, n := f.StreamID, int64(f.Length)
	if (id > c.last || id%2 == 0) && !c.ignored(id) {
		return connError{frames.ErrCodeProtocol, "DATA of a stream that was not opened"}
	}
	if n > c.received {
		return connError{frames.ErrCodeFlowControl, "more DATA than the connection's window"}
	}
	c.received -= n
	st := c.streams[id]
	if st == nil || st.body.ended {
		c.giveBack(int(n))
		if st == nil && (c.wasDropped(id) || c.ignored(id)) {
			return c.calm.cheap()
		}
		return streamError(id, frames.ErrCodeStreamClosed, "DATA after the end")
	}
	if len(f.Data()) == 0 && !f.StreamEnded() {
		if err := c.calm.cheap(); err != nil {
			return err
		}
	}
	return st.body.take(f.Data(), int(n), f.StreamEnded())
}

// ignored tells whether a stream came after the last one that is served: the client did not know yet. The lock is held.
func (c *conn) ignored(id uint32) bool { return c.end.final && id > c.end.last && id%2 == 1 }

// settings puts the client's settings in force.
func (c *conn) settings(f *frames.SettingsFrame) error {
	if err := c.calm.cheap(); err != nil || f.IsAck() {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	initial := c.initial
	err := f.ForeachSetting(func(s frames.Setting) error {
		switch s.ID {
		case frames.SettingHeaderTableSize:
			c.enc.SetMaxDynamicTableSize(min(s.Val, tableSize))
		case frames.SettingInitialWindowSize:
			initial = int64(s.Val)
		}
		return s.Valid()
	})
	if err != nil {
		return err
	}
	if err := c.resize(initial); err != nil {
		return err
	}
	c.appendSettingsAck()
	return c.bounded()
}

// resize gives every stream another window. The lock is held.
func (c *conn) resize(initial int64) error {
	grown := initial - c.initial
	if grown == 0 {
		return nil
	}
	c.initial = initial
	for _, st := range c.streams {
		if st.window += grown; st.window > maxWindow {
			return connError{frames.ErrCodeFlowControl, "a window is larger than allowed"}
		}
		if grown > 0 {
			signal(st.wake)
		}
	}
	return nil
}

func (c *conn) ping(f *frames.PingFrame) error {
	if err := c.calm.cheap(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !f.IsAck():
		c.appendPing(f.Data, true)
	case f.Data == drainPing && c.end.draining && !c.end.final:
		c.goAway(frames.ErrCodeNo, "")
		c.settle()
	}
	return c.bounded()
}

func (c *conn) windowUpdate(f *frames.WindowUpdateFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.calm.update(c.sent); err != nil {
		return err
	}
	n := int64(f.Increment)
	if f.StreamID == 0 {
		if c.window += n; c.window > maxWindow {
			return connError{frames.ErrCodeFlowControl, "the connection's window is larger than allowed"}
		}
		c.wakeNext()
		return nil
	}
	st := c.streams[f.StreamID]
	switch {
	case st == nil && (f.StreamID > c.last || f.StreamID%2 == 0) && !c.ignored(f.StreamID):
		return connError{frames.ErrCodeProtocol, "WINDOW_UPDATE of a stream that was not opened"}
	case st == nil:
		return nil
	}
	if st.window += n; st.window > maxWindow {
		return streamError(st.id, frames.ErrCodeFlowControl, "the window is larger than allowed")
	}
	signal(st.wake)
	return nil
}

func (c *conn) resetByClient(f *frames.RSTStreamFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if (f.StreamID > c.last || f.StreamID%2 == 0) && !c.ignored(f.StreamID) {
		return connError{frames.ErrCodeProtocol, "RST_STREAM of a stream that was not opened"}
	}
	st := c.streams[f.StreamID]
	if st == nil {
		return c.calm.cheap()
	}
	delete(c.streams, st.id)
	st.kill(fmt.Errorf("the client reset the stream: %v", f.ErrCode))
	c.settle()
	return c.calm.reset(c.srv.cfg.MaxStreams)
}
