package http2

import (
	"strings"
	"testing"
	"time"
)

// still is a connection on which nothing is written: as if another goroutine were writing all the time.
func still() *conn {
	c := &conn{srv: &server{cfg: Config{}.withDefaults()}, streams: map[uint32]*stream{}}
	c.writer.init()
	c.writing = true
	return c
}

// TestSlowBody: a body that is read more slowly than it comes holds no more than its window, however much came already.
func TestSlowBody(t *testing.T) {
	c := still()
	c.received = int64(c.srv.cfg.ConnWindow)
	st := &stream{c: c}
	st.body = body{st: st, left: -1, window: int64(c.srv.cfg.StreamWindow)}
	piece := make([]byte, 16<<10)
	take := func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if err := st.body.take(piece, len(piece), false); err != nil {
			t.Fatal(err)
		}
	}
	take() // it is never empty from now on
	for range 4096 {
		take()
		for left := len(piece); left > 0; {
			n, err := st.body.Read(make([]byte, left))
			if err != nil {
				t.Fatal(err)
			}
			left -= n
		}
		c.out = c.out[:0]
	}
	if n := cap(st.body.buf); n > 2*c.srv.cfg.StreamWindow {
		t.Errorf("%d bytes are held, the window is %d", n, c.srv.cfg.StreamWindow)
	}
}

// TestDeadStreamsAreForgotten: a stream that was reset while it waited for the connection's window does not wait any more.
func TestDeadStreamsAreForgotten(t *testing.T) {
	c := still()
	c.window = 0
	st := &stream{c: c, wake: make(chan struct{}, 1), window: 100}
	st.response.sent = true
	sent := make(chan error, 1)
	go func() { sent <- st.send([]byte("x"), true) }()
	queue := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.queue)
	}
	for deadline := time.Now().Add(30 * time.Second); queue() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not wait")
		}
	}
	c.mu.Lock()
	st.err = errDone
	signal(st.wake)
	c.mu.Unlock()
	if err := <-sent; err != errDone {
		t.Errorf("sent: %v", err)
	}
	if n := queue(); n != 0 {
		t.Errorf("%d streams wait", n)
	}
}

// TestLongNamesAreNotRemembered: header names cost a connection little.
func TestLongNamesAreNotRemembered(t *testing.T) {
	c := still()
	for _, name := range []string{"x-short", strings.Repeat("x", maxName+1)} {
		if got := c.canonical(name); len(got) != len(name) || got[0] != 'X' {
			t.Errorf("%q became %q", name, got)
		}
	}
	if len(c.names) != 1 {
		t.Errorf("%d names are remembered", len(c.names))
	}
}
