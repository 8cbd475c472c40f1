package pool

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/pool/identity"
)

const (
	// dialWithin bounds the search for a member, attemptWithin one address, and stagger is how long an address has before the next is
	// tried beside it.
	dialWithin, attemptWithin, stagger = 5 * time.Second, 3 * time.Second, 250 * time.Millisecond
	// maxCandidates bounds the addresses of one search.
	maxCandidates = 16
)

// reach finds a member: it tries the addresses one after the other, without waiting for one that is silent, until one proves the member's key.
func (p *Pool) reach(ctx context.Context, m Member) (*tls.Conn, error) {
	if len(m.Keys) == 0 {
		return nil, fmt.Errorf("%w: the fleet repo lists no key of it", ErrUnreachable)
	}
	addresses := p.cfg.Book.Candidates(m.Name)
	if len(addresses) == 0 {
		return nil, fmt.Errorf("%w: no address of it is known: it was never heard, and the fleet repo declares none", ErrUnreachable)
	}
	addresses = addresses[:min(len(addresses), maxCandidates)]
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()

	type outcome struct {
		conn *tls.Conn
		err  error
	}
	outcomes := make(chan outcome, len(addresses))
	started, ended := 0, 0
	start := func() {
		address := addresses[started]
		started++
		p.dials.Go(func() {
			c, err := p.attempt(ctx, m, address)
			outcomes <- outcome{c, err}
		})
	}
	defer func() { // those still under way are ended by the context
		left := started - ended
		p.dials.Go(func() {
			for range left {
				if o := <-outcomes; o.conn != nil {
					o.conn.NetConn().Close()
				}
			}
		})
	}()
	errs := []any{ErrUnreachable}
	for start(); ; {
		var next <-chan time.Time
		if started < len(addresses) {
			next = time.After(stagger)
		}
		select {
		case o := <-outcomes:
			if ended++; o.err == nil {
				return o.conn, nil
			}
			if errs = append(errs, o.err); ended == len(addresses) {
				return nil, inOneLine(errs)
			}
			if started < len(addresses) {
				start()
			}
		case <-next:
			start()
		case <-ctx.Done():
			return nil, inOneLine(append(errs, fmt.Errorf("nothing more within %s", dialWithin)))
		}
	}
}

// inOneLine joins errors for a log.
func inOneLine(errs []any) error {
	return fmt.Errorf("%w"+strings.Repeat("; %w", len(errs)-1), errs...)
}

// attempt connects to one address and has it prove the member's key.
func (p *Pool) attempt(ctx context.Context, m Member, address string) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptWithin)
	defer cancel()
	nc, err := (&net.Dialer{KeepAlive: -1, Control: setSocket}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := p.conns.add(nc, false)
	t := tls.Client(c, p.tlsConfig(checkOne(m)))
	if err := t.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	key, err := identity.Peer(t.ConnectionState())
	if err != nil || !p.conns.prove(c, m.Name, key, p.nameOf) {
		c.Close()
		return nil, fmt.Errorf("%s: %w: it was removed just now", address, ErrForeign)
	}
	if at, err := netip.ParseAddrPort(nc.RemoteAddr().String()); err == nil {
		p.cfg.Book.Proven(m.Name, netip.AddrPortFrom(at.Addr().Unmap(), at.Port()))
	}
	return t, nil
}
