package proxy

import (
	"container/list"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"
)

// Any user of the node, and any pod, can open connections, and each costs memory. A connection is a stranger until a request on it
// came from someone: strangers are few and short-lived, and a new one takes the oldest's place, so that the node's own clients always
// get in. Who is known may stay, within bounds for each.
const (
	// maxStrangers are the connections of a listener from which nothing good came yet.
	maxStrangers = 128
	// strangerTime is how long a connection may be a stranger. TLS and a first request take milliseconds.
	strangerTime = 10 * time.Second
	// maxKnown are the connections of callers with tokens, for each listener, and maxOfCaller for each of them: many pods may share a
	// service account.
	maxKnown, maxOfCaller = 1024, 256
)

// crowd is the connections of one listener.
type crowd struct {
	mu        sync.Mutex // guards what follows
	strangers list.List  // of *guest, oldest first
	callers   map[string]int
	known     int
	nodes     int
	evicted   int
}

// guest is one connection.
type guest struct {
	net.Conn
	crowd *crowd

	// Guarded by crowd.mu.
	place  *list.Element // among the strangers, or nil
	timer  *time.Timer
	node   bool
	caller string
	gone   bool
}

// door lets connections in.
type door struct {
	net.Listener
	crowd *crowd
}

func (d *door) Accept() (net.Conn, error) {
	c, err := d.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return d.crowd.enter(c), nil
}

func newCrowd() *crowd { return &crowd{callers: map[string]int{}} }

// enter takes a connection in as a stranger.
func (c *crowd) enter(conn net.Conn) *guest {
	g := &guest{Conn: conn, crowd: c}
	c.mu.Lock()
	defer c.mu.Unlock()
	g.place = c.strangers.PushBack(g)
	g.timer = time.AfterFunc(strangerTime, func() { c.evict(g) })
	if c.strangers.Len() > maxStrangers {
		oldest := c.strangers.Front().Value.(*guest)
		c.evicted++
		c.leave(oldest)
		oldest.Conn.Close()
	}
	return g
}

// evict closes a connection that is still a stranger.
func (c *crowd) evict(g *guest) {
	c.mu.Lock()
	stranger := g.place != nil
	if stranger {
		c.evicted++
		c.leave(g)
	}
	c.mu.Unlock()
	if stranger {
		g.Conn.Close()
	}
}

// leave takes a connection off the books. The lock is held.
func (c *crowd) leave(g *guest) {
	if g.place != nil {
		c.strangers.Remove(g.place)
		g.place = nil
		g.timer.Stop()
	}
	switch {
	case g.node:
		c.nodes--
		g.node = false
	case g.caller != "":
		c.known--
		if c.callers[g.caller]--; c.callers[g.caller] == 0 {
			delete(c.callers, g.caller)
		}
		g.caller = ""
	}
	g.gone = true
}

// Close is called when the server is done with the connection.
func (g *guest) Close() error {
	g.crowd.mu.Lock()
	if !g.gone {
		g.crowd.leave(g)
	}
	g.crowd.mu.Unlock()
	return g.Conn.Close()
}

// know makes a stranger known. Who has too many connections already stays a stranger with this one.
func (g *guest) know(node bool, caller string) {
	c := g.crowd
	c.mu.Lock()
	defer c.mu.Unlock()
	if g.place == nil || g.gone {
		return
	}
	if !node && (caller == "" || c.known >= maxKnown || c.callers[caller] >= maxOfCaller) {
		return
	}
	c.strangers.Remove(g.place)
	g.place = nil
	g.timer.Stop()
	if g.node = node; node {
		c.nodes++
		return
	}
	g.caller = caller
	c.known++
	c.callers[caller]++
}

// counts gives how many connections there are.
func (c *crowd) counts() (strangers, known, nodes, evicted int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.strangers.Len(), c.known, c.nodes, c.evicted
}

type guestKey struct{}

// withGuest remembers a request's connection.
func withGuest(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return context.WithValue(ctx, guestKey{}, c)
}

// known says who came over a request's connection.
func known(r *http.Request, node bool, caller string) {
	if g, ok := r.Context().Value(guestKey{}).(*guest); ok {
		g.know(node, caller)
	}
}
