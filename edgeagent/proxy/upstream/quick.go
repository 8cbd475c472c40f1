package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/http2"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
)

// A GET over HTTP/2 costs both ends several goroutine switches; over HTTP/1.1 on a connection of its own it costs a write and a read.
// So where many GETs come, as when a kubelet starts, they go over a few such connections. They are opened only while it is busy: an idle
// node has none.
const (
	// busyAfter is how many GETs within busyTime make it busy.
	busyAfter, busyTime = 10, time.Second
	// maxQuick bounds the connections to a server for each credential, quickIdle how long one waits for its next request.
	maxQuick, quickIdle = 4, 5 * time.Second
	// quickBuffer takes most answers whole.
	quickBuffer = 16 << 10
	// maxProvisional bounds the 1xx answers before an answer.
	maxProvisional = 5
)

// quick is the HTTP/1.1 connections to a server for short requests.
type quick struct {
	mu      sync.Mutex // guards what follows
	idle    []*quickConn
	all     map[*quickConn]struct{}
	dialing bool
	emptied int
	since   time.Time // when counting began
	count   int
}

// quickConn carries one request at a time.
type quickConn struct {
	net.Conn
	from  *quick
	r     *bufio.Reader
	w     *bufio.Writer
	timer *time.Timer // ends it when it was idle for long
}

// short tells whether a request may go over a quick connection.
func short(req *http.Request) bool {
	return req.Method == http.MethodGet && repeatable(req) && !request.Lasts(req.URL)
}

// take gives a connection that is idle, or nil. It has one more opened if it is busy.
func (q *quick) take(dial func(context.Context) (net.Conn, error)) *quickConn {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	if now.Sub(q.since) > busyTime {
		q.since, q.count = now, 0
	}
	q.count++
	if n := len(q.idle); n > 0 {
		c := q.idle[n-1]
		q.idle = q.idle[:n-1]
		if c.timer.Stop() {
			return c
		}
		return nil // it is being closed
	}
	if q.count >= busyAfter && len(q.all) < maxQuick && !q.dialing {
		q.dialing = true
		go q.open(dial, q.emptied)
	}
	return nil
}

// open opens one more connection.
func (q *quick) open(dial func(context.Context) (net.Conn, error), emptied int) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	conn, err := dial(ctx)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dialing = false
	if err != nil {
		return // requests go over HTTP/2, which says what is wrong
	}
	if q.emptied != emptied {
		conn.Close()
		return
	}
	c := &quickConn{Conn: conn, from: q, r: bufio.NewReaderSize(conn, quickBuffer), w: bufio.NewWriterSize(conn, 2<<10)}
	c.timer = time.AfterFunc(quickIdle, c.end)
	if q.all == nil {
		q.all = map[*quickConn]struct{}{}
	}
	q.all[c] = struct{}{}
	q.idle = append(q.idle, c)
}

// end closes a connection.
func (c *quickConn) end() {
	q := c.from
	q.mu.Lock()
	delete(q.all, c)
	for i, o := range q.idle {
		if o == c {
			q.idle = append(q.idle[:i], q.idle[i+1:]...)
			break
		}
	}
	q.mu.Unlock()
	c.Conn.Close()
}

// back makes a connection idle again.
func (c *quickConn) back() {
	q := c.from
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, ok := q.all[c]; !ok {
		return // closed meanwhile
	}
	c.timer.Reset(quickIdle)
	q.idle = append(q.idle, c)
}

// empty takes all connections out.
func (q *quick) empty() []io.Closer {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []io.Closer
	for c := range q.all {
		c.timer.Stop()
		out = append(out, c.Conn)
	}
	clear(q.all)
	q.idle, q.emptied = nil, q.emptied+1
	return out
}

// roundTrip sends one request. After an error the connection is closed.
func (c *quickConn) roundTrip(req *http.Request) (*http.Response, error) {
	stop := context.AfterFunc(req.Context(), c.end)
	err := c.send(req)
	http2.Waiting(req.Context())
	var resp *http.Response
	var body io.Reader
	if err == nil {
		resp, body, err = c.receive(req)
	}
	if err != nil {
		stop()
		c.end()
		if ctx := req.Context(); ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("ask over HTTP/1.1: %w", err)
	}
	resp.Body = &quickBody{Reader: body, conn: c, stop: stop, reuse: !resp.Close}
	return resp, nil
}

// send writes a request.
func (c *quickConn) send(req *http.Request) error {
	if b, ok := appendRequest(c.w.AvailableBuffer(), req); ok {
		c.w.Write(b) // Flush gives its error
	} else if err := req.Write(c.w); err != nil {
		return err
	}
	return c.w.Flush()
}

// receive reads the head of an answer.
func (c *quickConn) receive(req *http.Request) (*http.Response, io.Reader, error) {
	resp, body, err := readAnswer(c.r, req)
	if resp != nil || err != nil {
		return resp, body, err
	}
	for range maxProvisional {
		resp, err := http.ReadResponse(c.r, req)
		if err != nil {
			return nil, nil, err
		}
		if resp.StatusCode >= 200 {
			return resp, resp.Body, nil
		}
	}
	return nil, nil, errors.New("no answer after many provisional ones")
}

// quickBody is an answer's body. Once all of it was read the connection takes the next request.
type quickBody struct {
	io.Reader
	conn  *quickConn
	stop  func() bool
	reuse bool
	done  bool
}

func (b *quickBody) Read(p []byte) (int, error) {
	if b.done {
		return 0, io.EOF
	}
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		b.finish(b.reuse)
	}
	return n, err
}

func (b *quickBody) Close() error {
	b.finish(false)
	return nil
}

func (b *quickBody) finish(whole bool) {
	if b.done {
		return
	}
	b.done = true
	if b.stop() && whole && b.conn.r.Buffered() == 0 {
		b.conn.back()
	} else {
		b.conn.end()
	}
}

// dialQuick opens an HTTP/1.1 connection to a server.
func (l *Link) dialQuick(s *server, node bool) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		conf := l.tunnels[1].TLSClientConfig
		if node {
			conf = l.tunnels[0].TLSClientConfig
		}
		if conf.ServerName == "" {
			conf = conf.Clone()
			conf.ServerName = s.url.Hostname()
		}
		raw, err := l.kinds[asCaller].DialContext(ctx, "tcp", s.host)
		if err != nil {
			return nil, err
		}
		conn := tls.Client(raw, conf)
		if err := conn.HandshakeContext(ctx); err != nil {
			raw.Close()
			return nil, err
		}
		return conn, nil
	}
}
