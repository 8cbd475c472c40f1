package http2

import (
	"context"
	"errors"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"time"

	frames "golang.org/x/net/http2"
)

// streamKey is the key under which a request's context gives its stream.
type streamKey struct{}

// stream is one request and its answer. It is the request's context too.
type stream struct {
	context.Context
	cancel  context.CancelFunc
	c       *conn
	id      uint32
	head    int // the size of its headers
	req     *http.Request
	handler http.Handler
	wake    chan struct{} // what the answer waits for may be there

	// Guarded by conn.mu.
	window   int64 // what may still be sent
	queued   bool  // it waits for the connection
	err      error // nothing can be sent any more
	deadline time.Time
	body     body

	response response // the handler's
}

// Value is part of context.Context.
func (st *stream) Value(key any) any {
	if _, ok := key.(streamKey); ok {
		return st
	}
	return st.Context.Value(key)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// waiting gives the lead away if this request's goroutine has it.
func (st *stream) waiting() {
	st.c.mu.Lock()
	st.lead()
	st.c.mu.Unlock()
}

// lead gives the lead away. The lock is held.
func (st *stream) lead() {
	if st.c.leader == st {
		st.c.handOver()
	}
}

// handle answers the request, and tells whether its goroutine still leads.
func (st *stream) handle() (leads bool) {
	returned := false
	defer func() {
		var why any
		if !returned {
			if why = recover(); why == nil { // the handler ended its goroutine
				st.waiting()
			} else if why != http.ErrAbortHandler {
				st.c.srv.cfg.Log.Error("panic while answering a request", "method", st.req.Method, "path", st.req.URL.Path, "client", st.c.remote, "panic", why, "stack", string(debug.Stack()))
			}
		}
		leads = st.finish(returned)
	}()
	st.handler.ServeHTTP(&st.response, st.req)
	returned = true
	return
}

// finish ends the answer, and tells whether its goroutine still leads.
func (st *stream) finish(whole bool) (leads bool) {
	c := st.c
	if whole {
		st.response.end()
	}
	st.response.over = true
	c.mu.Lock()
	if _, alive := c.streams[st.id]; alive {
		delete(c.streams, st.id)
		if !st.response.complete {
			c.drop(st.id, frames.ErrCodeInternal)
		} else if !st.body.ended { // nobody reads the rest
			c.drop(st.id, frames.ErrCodeNo)
		}
	}
	st.kill(errDone)
	c.heads -= st.head
	if c.handlers--; c.handlers == 0 {
		c.since = time.Now()
	}
	if leads = c.leader == st; leads {
		c.leader = nil
	}
	if !leads || len(c.out) > dataFrame { // less is written before more is read
		c.flush()
	}
	c.settle()
	c.mu.Unlock()
	st.response.release()
	return leads
}

var errDone = errors.New("the handler has returned")

// kill ends a stream for its handler. The lock is held.
func (st *stream) kill(err error) {
	if st.err == nil {
		st.err = err
	}
	st.body.close(err)
	signal(st.wake)
	st.cancel()
}

// drop resets a stream for the client. The lock is held.
func (c *conn) drop(id uint32, code frames.ErrCode) {
	c.appendReset(id, code)
	c.dropped[c.drops%remembered] = id
	c.drops++
}

// wasDropped tells whether a stream was reset here not long ago. The lock is held.
func (c *conn) wasDropped(id uint32) bool { return slices.Contains(c.dropped[:], id) }

// refuse resets a stream that did what it must not.
func (c *conn) refuse(e frames.StreamError) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.StreamID > c.last {
		return connError{e.Code, e.Error()}
	}
	c.drop(e.StreamID, e.Code)
	if st := c.streams[e.StreamID]; st != nil {
		delete(c.streams, st.id)
		st.kill(e)
	}
	c.settle()
	if err := c.bounded(); err != nil {
		return err
	}
	return c.calm.reset(c.srv.cfg.MaxStreams)
}

// SetWriteDeadline is for http.ResponseController. What is sent later fails. The timer is only there while something waits.
func (r *response) SetWriteDeadline(t time.Time) error {
	c := r.st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	r.st.deadline = t
	signal(r.st.wake)
	return nil
}

// SetReadDeadline is for http.ResponseController. What is read of the body later fails.
func (r *response) SetReadDeadline(t time.Time) error {
	c := r.st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	r.st.body.deadline = t
	if r.st.body.wake != nil {
		signal(r.st.body.wake)
	}
	return nil
}

// EnableFullDuplex is for http.ResponseController: in HTTP/2 it is always so.
func (r *response) EnableFullDuplex() error { return nil }

// late tells whether a deadline has passed.
func late(deadline time.Time) error {
	if !deadline.IsZero() && !time.Now().Before(deadline) {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// await waits until wake is signalled or the deadline has passed, without the lock, which is held before and after.
func (c *conn) await(wake chan struct{}, deadline time.Time) {
	c.mu.Unlock()
	defer c.mu.Lock()
	if deadline.IsZero() {
		<-wake
		return
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-wake:
	case <-timer.C:
	}
}
