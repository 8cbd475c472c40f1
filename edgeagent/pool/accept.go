package pool

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/pool/identity"
)

const (
	// shakeWithin bounds a handshake.
	shakeWithin = 5 * time.Second
	// maxShaking bounds the handshakes under way, in all and from one address. Over it the oldest is ended: a member's takes milliseconds,
	// so the oldest is a stranger's.
	maxShaking, maxShakingFrom = 64, 8
	// acceptAgain is how long to wait when the process has no file left for a connection.
	acceptAgain = 100 * time.Millisecond
)

// accept shakes hands with whoever comes, until the listener is closed.
func (p *Pool) accept(ctx context.Context) {
	var shaking sync.WaitGroup
	defer shaking.Wait()
	for {
		nc, err := p.listener.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			p.log.Warn("a connection to the pool was not accepted", "error", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(acceptAgain):
			}
			continue
		}
		c := p.conns.add(nc, true)
		if p.strangers.barred(host(c)) && !p.cfg.Book.Has(host(c)) { // a stranger behind a member's address must not keep the member out
			c.Close()
			continue
		}
		p.door.shake(c)
		shaking.Go(func() { p.admit(ctx, c) })
	}
}

// admit proves who comes. A stranger is gone after it, and HTTP has not seen a byte of his.
func (p *Pool) admit(ctx context.Context, c *conn) {
	t := tls.Server(c, p.tlsConfig(p.checkAny))
	within, cancel := context.WithTimeout(ctx, shakeWithin)
	err := t.HandshakeContext(within)
	cancel()
	p.door.shaken(c)
	var key identity.Fingerprint
	if err == nil {
		key, err = identity.Peer(t.ConnectionState())
	}
	member := p.nameOf(key)
	if err == nil && (member == "" || !p.conns.prove(c, member, key, p.nameOf)) {
		err = ErrForeign
	}
	if err != nil {
		p.strangers.refused(p.log, host(c), err)
		c.Close()
		return
	}
	p.met(member, host(c))
	select {
	case p.door.admitted <- t:
	case <-ctx.Done():
		c.Close()
	}
}

// door hands connections whose handshake is done to the HTTP server: it is a net.Listener.
type door struct {
	admitted chan net.Conn
	once     sync.Once
	shut     chan struct{}

	mu      sync.Mutex // guards shaking
	shaking []*conn    // handshakes under way, the oldest first
}

// shake notes a handshake, and ends others where there are too many.
func (d *door) shake(c *conn) {
	d.mu.Lock()
	d.shaking = append(d.shaking, c)
	var same []*conn
	for _, other := range d.shaking {
		if host(other) == host(c) {
			same = append(same, other)
		}
	}
	var ended *conn
	switch {
	case len(same) > maxShakingFrom:
		ended = same[0]
	case len(d.shaking) > maxShaking:
		ended = d.shaking[0]
	}
	d.mu.Unlock()
	if ended != nil {
		d.shaken(ended)
		ended.Close()
	}
}

// shaken forgets a handshake.
func (d *door) shaken(c *conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, other := range d.shaking {
		if other == c {
			d.shaking = append(d.shaking[:i:i], d.shaking[i+1:]...)
			return
		}
	}
}

func host(c *conn) netip.Addr {
	a, _ := netip.ParseAddrPort(c.RemoteAddr().String())
	return a.Addr().Unmap()
}

// met notes where a member came from. By agreement a pool's nodes have one port; where they do not, this is one more address that does not
// answer, so it is noted only where the host is news.
func (p *Pool) met(member string, from netip.Addr) {
	known := slices.ContainsFunc(p.cfg.Book.Candidates(member), func(address string) bool {
		a, err := netip.ParseAddrPort(address)
		return err == nil && a.Addr() == from
	})
	if !known && from.IsValid() {
		p.cfg.Book.Heard(member, []netip.AddrPort{netip.AddrPortFrom(from, p.port())})
	}
	p.heard(member, false)
}

// Accept gives the next member's connection.
func (d *door) Accept() (net.Conn, error) {
	select {
	case c := <-d.admitted:
		return c, nil
	case <-d.shut:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (d *door) Close() error {
	d.once.Do(func() { close(d.shut) })
	return nil
}

// Addr is part of net.Listener.
func (d *door) Addr() net.Addr { return &net.TCPAddr{} }
