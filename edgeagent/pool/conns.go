package pool

import (
	"net"
	"sync"

	"github.com/holdfast-dev/holdfast/edgeagent/pool/identity"
)

// maxInbound is how many connections a member may have to this node. One is enough; some may be left of a crash, not noticed yet.
const maxInbound = 8

// conns are all connections, so that a removed member's can be ended. It may be used concurrently. The zero value is ready.
type conns struct {
	mu  sync.Mutex // guards all, and the other fields of each
	all []*conn    // the oldest first
}

// conn is a TCP connection that is being, or was, proved to be a member's. It lies below TLS.
type conn struct {
	net.Conn
	all     *conns
	inbound bool

	proved bool
	member string
	key    identity.Fingerprint
}

// add takes in a connection of nobody yet.
func (c *conns) add(nc net.Conn, inbound bool) *conn {
	added := &conn{Conn: nc, all: c, inbound: inbound}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, added)
	return added
}

// prove notes whose connection it is, if whose says so still: between the handshake and here the members may have changed. Of a member's
// inbound connections those over the bound end, the oldest first.
func (c *conns) prove(of *conn, member string, key identity.Fingerprint, whose func(identity.Fingerprint) string) bool {
	c.mu.Lock()
	if whose(key) != member {
		c.mu.Unlock()
		return false
	}
	of.proved, of.member, of.key = true, member, key
	var inbound []*conn
	for _, other := range c.all {
		if other.proved && other.inbound && other.member == member {
			inbound = append(inbound, other)
		}
	}
	c.mu.Unlock()
	for len(inbound) > maxInbound {
		inbound[0].Close()
		inbound = inbound[1:]
	}
	return true
}

// closeIf ends the connections that f picks.
func (c *conns) closeIf(f func(*conn) bool) {
	c.mu.Lock()
	var picked []*conn
	for _, one := range c.all {
		if f(one) {
			picked = append(picked, one)
		}
	}
	c.mu.Unlock()
	for _, one := range picked {
		one.Close()
	}
}

// count counts a member's connections.
func (c *conns) count(member string) (in, out int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range c.all {
		switch {
		case !one.proved || one.member != member:
		case one.inbound:
			in++
		default:
			out++
		}
	}
	return in, out
}

// Close ends the connection and forgets it.
func (c *conn) Close() error {
	c.all.mu.Lock()
	for i, one := range c.all.all {
		if one == c {
			c.all.all = append(c.all.all[:i:i], c.all.all[i+1:]...)
			break
		}
	}
	c.all.mu.Unlock()
	return c.Conn.Close()
}
