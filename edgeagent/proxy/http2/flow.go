package http2

import (
	"slices"

	frames "golang.org/x/net/http2"
)

// wakeNext wakes the stream that waits longest for the connection, if there is something for it. It wakes the next when it is done. The
// lock is held.
func (c *conn) wakeNext() {
	for len(c.queue) > 0 && (c.window > 0 || !c.queue[0].response.sent) && c.room() {
		st := c.queue[0]
		c.queue[0] = nil
		if c.queue = c.queue[1:]; len(c.queue) == 0 {
			c.queue = nil
		}
		st.queued = false
		if st.err == nil {
			signal(st.wake)
			return
		}
	}
}

// send adds headers, if they were not sent, and a piece of the body to what is to be written, as the windows allow. end: it is the last
// piece. Nothing is written yet.
func (st *stream) send(p []byte, end bool) error {
	c := st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	defer st.leaveQueue()
	for {
		if st.err != nil {
			return st.err
		}
		if err := late(st.deadline); err != nil {
			delete(c.streams, st.id)
			c.drop(st.id, frames.ErrCodeInternal)
			st.kill(err)
			c.push(st)
			return err
		}
		if !st.response.sent && c.room() {
			st.sendHead(end && len(p) == 0)
			if end && len(p) == 0 {
				return nil
			}
		}
		n := int(max(0, min(int64(len(p)), st.window, c.window, dataFrame))) // a window is below zero once the client makes all smaller
		if st.response.sent && c.room() && (n > 0 || len(p) == 0) {
			if len(p) == 0 && !end {
				return nil
			}
			c.appendData(st.id, p[:n], end && n == len(p))
			st.window -= int64(n)
			c.window -= int64(n)
			if p = p[n:]; len(p) == 0 {
				return nil
			}
			if len(c.out) >= maxOut {
				c.push(st)
			}
			continue
		}
		st.hold()
	}
}

// leaveQueue takes the stream out, if another cause than its turn woke it, and wakes the next. A stream that stayed would be kept in
// memory, and swallow a turn. The lock is held.
func (st *stream) leaveQueue() {
	c := st.c
	if st.queued {
		st.queued = false
		c.queue = slices.DeleteFunc(c.queue, func(o *stream) bool { return o == st })
	}
	c.wakeNext()
}

// hold waits for the client to take something. The lock is held before and after, not meanwhile.
func (st *stream) hold() {
	c := st.c
	st.lead()
	c.flush()
	if st.err != nil || st.window > 0 && c.window > 0 && c.room() {
		return
	}
	if (st.window > 0 || !st.response.sent) && !st.queued {
		st.queued = true
		c.queue = append(c.queue, st)
	}
	c.await(st.wake, st.deadline)
}
