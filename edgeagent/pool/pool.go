// Package pool connects the nodes of one site: mutual TLS between members whose keys the signed fleet repo lists, wherever on the LAN they are.
// Mirror, tunnels and devices all need to know that they speak with the node they mean, with no cloud, no authority and no correct
// clock, so it is done once, here. A stranger is refused before a byte of HTTP is read.
package pool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/pool/discovery"
	"github.com/holdfast-dev/holdfast/edgeagent/pool/identity"
)

// DefaultPort is the TCP port of the pool's listener.
const DefaultPort = 7440

// Config is what a Pool is made of.
type Config struct {
	// Node is this node's name, Key its key now.
	Node string
	Key  func() *identity.Key
	// Listen is the address to listen on, as ":7440".
	Listen string
	// Book remembers where members are.
	Book *discovery.Book
	// Wire carries announcements, and is closed by who opened it, after Run. Nil means none: members are found where the fleet repo says,
	// and where they were.
	Wire discovery.Wire
	Log  *slog.Logger
}

// Pool is this node among the members of its pool. It may be used concurrently. Without SetMembers nobody is let in.
type Pool struct {
	cfg       Config
	log       *slog.Logger
	listener  *net.TCPListener
	server    *http.Server
	mux       *http.ServeMux
	transport *http.Transport
	discovery *discovery.Discovery // nil without a Wire
	members   atomic.Pointer[roster]
	conns     conns
	door      door
	strangers strangers

	life    context.Context // ends with Close
	end     context.CancelFunc
	closing sync.Once
	dials   sync.WaitGroup

	mu    sync.Mutex // guards links, and orders SetMembers
	links map[string]*link

	ending sync.Mutex // guards ended, and that no dial begins after it
	ended  bool
}

// Open listens. Run lets members in.
func Open(ctx context.Context, cfg Config) (*Pool, error) {
	l, err := (&net.ListenConfig{KeepAlive: -1, Control: setSocket}).Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen for the pool's members: %w", err)
	}
	p := &Pool{cfg: cfg, log: cfg.Log, listener: l.(*net.TCPListener), mux: http.NewServeMux(), links: map[string]*link{}}
	p.life, p.end = context.WithCancel(context.WithoutCancel(ctx))
	p.members.Store(&roster{})
	p.door.admitted = make(chan net.Conn)
	p.server, p.transport = p.newServer(), p.newTransport()
	if cfg.Wire != nil {
		p.discovery = discovery.New(discovery.Config{
			Node: cfg.Node, Key: cfg.Key, Port: p.port(), Member: p.nameOf, Book: cfg.Book, Heard: p.heard, Wire: cfg.Wire, Log: cfg.Log,
		})
	}
	return p, nil
}

// Addr is where the pool listens.
func (p *Pool) Addr() net.Addr { return p.listener.Addr() }

func (p *Pool) port() uint16 { return uint16(p.listener.Addr().(*net.TCPAddr).Port) }

// Run lets members in and announces this node, until the context ends. It then closes the pool.
func (p *Pool) Run(ctx context.Context) error {
	defer p.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	defer running.Wait()
	defer context.AfterFunc(ctx, func() { p.Close() })()
	if p.discovery != nil {
		running.Go(func() { p.discovery.Run(ctx) })
	}
	running.Go(func() { p.accept(ctx) })
	err := p.server.Serve(&p.door)
	cancel()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve the pool's members: %w", err)
}

// Close ends every connection, and returns when nothing of the pool runs any more but Run. It may be called again.
func (p *Pool) Close() (err error) {
	p.closing.Do(func() {
		p.ending.Lock()
		p.ended = true
		p.ending.Unlock()
		p.end()
		err = errors.Join(p.listener.Close(), p.server.Close())
		p.dials.Wait()
		p.conns.closeIf(func(*conn) bool { return true })
	})
	return err
}

// begin runs a dial, unless the pool is closed.
func (p *Pool) begin(dial func()) bool {
	p.ending.Lock()
	defer p.ending.Unlock()
	if !p.ended {
		p.dials.Go(dial)
	}
	return !p.ended
}

// SetMembers says who is in the pool from now on, this node included. Connections of keys that are no longer listed end before it returns.
// It is all or nothing: after an error the members are as before.
func (p *Pool) SetMembers(members []Member) error {
	r, err := newRoster(members)
	if err != nil {
		return fmt.Errorf("set the pool's members: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.members.Store(r)
	declared := map[string][]string{}
	for name, m := range r.byName {
		if name != p.cfg.Node {
			declared[name] = m.Addresses
		}
	}
	p.cfg.Book.SetNodes(declared)
	for name := range p.links {
		if _, stays := declared[name]; !stays {
			delete(p.links, name)
		} else {
			p.links[name].hopeful() // a key or an address may be new
		}
	}
	p.strangers.forgive()
	p.conns.closeIf(func(c *conn) bool { return c.proved && p.nameOf(c.key) != c.member })
	return nil
}

// nameOf names the member that has a key, "" if none has.
func (p *Pool) nameOf(key identity.Fingerprint) string { return p.members.Load().byKey[key] }

// heard is told that a member is there, so that it is tried again at once. If it may have moved, the connection to where it was is tried,
// too: what is under way on it would else wait for an answer that does not come.
func (p *Pool) heard(member string, moved bool) {
	p.mu.Lock()
	l := p.links[member]
	p.mu.Unlock()
	if l == nil {
		return
	}
	l.hopeful()
	if moved {
		l.mu.Lock()
		c := l.conn
		l.mu.Unlock()
		if c != nil {
			p.begin(func() { p.probe(member, c) })
		}
	}
}

// Status is how this node stands with a member.
type Status struct {
	Name string
	// In and Out count the connections the member made, and those made to it.
	In, Out int
	// Addresses are where it would be looked for, in this order.
	Addresses []string
	// Problem is why it could not be reached when it was tried last, nil if it was reached.
	Problem error
	// Tried is when that was.
	Tried time.Time
}

// Status gives all other members, in no order.
func (p *Pool) Status() []Status {
	var all []Status
	for name := range p.members.Load().byName {
		if name == p.cfg.Node {
			continue
		}
		s := Status{Name: name, Addresses: p.cfg.Book.Candidates(name)}
		s.In, s.Out = p.conns.count(name)
		p.mu.Lock()
		l := p.links[name]
		p.mu.Unlock()
		if l != nil {
			s.Tried, s.Problem = l.outcome()
		}
		all = append(all, s)
	}
	return all
}
