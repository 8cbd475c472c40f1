package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// attemptTimeout bounds one attempt to reach a server. It is longer than the pause between two, so that a slow link gets through
// while a link that comes back is tried at once.
const attemptTimeout = 3 * time.Second

// hangUps is how often in Retry a server that hangs up at the first attempt is tried again.
const hangUps = 10

// Run keeps the link until ctx ends. It is called once.
//
//	Connecting ── a server answers ──▶ Online ── it says nothing for Idle + Timeout ──▶ Offline
//	     │                               │ ▲                                             ▲  │
//	     │                               │ └────────────── a server answers ─────────────┼──┘
//	     │              it hung up       ▼                                               │
//	     └── all refused, or Race passed ┴─ Connecting ── all refused, or Race passed ───┘
func (l *Link) Run(ctx context.Context) {
	s := l.seek(ctx, l.all())
	for {
		c, ok := l.settle(ctx, s)
		s.stop()
		if !ok {
			break
		}
		c.server.node.add(c.conn)
		l.set(Online, c.server, "")
		s = l.hold(ctx, c)
		c.server.close()
	}
	l.set(Offline, nil, "the agent stops")
	for _, s := range l.all() {
		s.close()
	}
}

func (l *Link) all() []*server {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.servers
}

// settle waits until a server answers. If none does within Race, or all refuse, the link is offline from then on.
func (l *Link) settle(ctx context.Context, s *search) (*candidate, bool) {
	race := time.NewTimer(l.cfg.Race)
	defer race.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, false
		case c := <-s.found:
			return c, true
		case <-l.replaced:
			s.stop()
			s.start(l.all())
		case err := <-s.refused:
			l.offline(s, err.Error())
		case <-race.C:
			l.offline(s, fmt.Sprintf("no API server answered within %v", l.cfg.Race))
		}
	}
}

// offline says so, unless an answer came at the same moment.
func (l *Link) offline(s *search, why string) {
	if len(s.found) == 0 && l.State() != Offline {
		l.set(Offline, nil, why)
	}
}

// hold watches over an answering server until it does so no more, and gives the search for the next.
func (l *Link) hold(ctx context.Context, c *candidate) *search {
	s := l.seek(ctx, nil)
	lost := make(chan struct{})
	var once sync.Once
	c.conn.SetStateHook(func(conn *http.ClientConn) {
		if conn.Err() != nil {
			once.Do(func() { close(lost) })
		}
	})
	defer c.conn.SetStateHook(nil)
	alarm := l.cfg.Idle + l.cfg.Timeout/4 // from then on others are asked, so that one is ready when this one is given up
	watch := time.NewTimer(alarm)
	defer watch.Stop()
	for {
		select {
		case <-ctx.Done():
			return s
		case <-lost:
			l.lost(s, c, "it closed the connection")
			return s
		case <-l.suspects:
			if err := l.check(ctx, c); err != nil {
				l.lost(s, c, err.Error())
				return s
			}
		case <-l.replaced:
			if !slices.Contains(l.all(), c.server) {
				l.lost(s, c, "it is an API server no more")
				return s
			}
		case <-watch.C:
			silent := c.heard.silent()
			if others := l.others(c.server); silent >= alarm && len(others) > 0 {
				s.start(others)
			} else {
				s.stop()
			}
			watch.Reset(max(alarm-silent, l.cfg.Timeout/4))
		}
	}
}

// lost gives up a server. One that fell silent is down: who waits now is answered from the cache. One that hung up may have been
// restarted: that is clear within Race.
func (l *Link) lost(s *search, c *candidate, why string) {
	silent := c.heard.silent() >= l.cfg.Timeout
	if silent {
		why = fmt.Sprintf("it has said nothing for %v", c.heard.silent().Round(time.Millisecond))
	}
	why = c.server.String() + ": " + why
	switch {
	case len(s.found) > 0: // the next is ready
		return
	case silent:
		l.set(Offline, c.server, why)
	default:
		l.set(Connecting, c.server, why)
	}
	s.stop() // it asks the others alone, if any, and not this one
	s.start(l.all())
}

// check asks a server that a request failed on whether it is still there.
func (l *Link) check(ctx context.Context, c *candidate) error {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	err := l.probe(ctx, c.server, c.conn)
	if err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		close(l.changed) // wakes those who wait for what comes of this
		l.changed = make(chan struct{})
	}
	return err
}

func (l *Link) others(s *server) []*server {
	return slices.DeleteFunc(slices.Clone(l.all()), func(o *server) bool { return o == s })
}

// candidate is a server that answered, with the connection that it answered on.
type candidate struct {
	server *server
	conn   *http.ClientConn
	heard  *tracker
}

// search asks servers until one answers.
type search struct {
	link    *Link
	ctx     context.Context
	cancel  context.CancelFunc // nil if it is not running
	wg      sync.WaitGroup
	found   chan *candidate // the first that answered
	refused chan error      // all said at once that they are not there
}

// seek makes a search, and starts it if there are servers.
func (l *Link) seek(ctx context.Context, servers []*server) *search {
	s := &search{link: l, ctx: ctx, found: make(chan *candidate, 1), refused: make(chan error, 1)}
	s.start(servers)
	return s
}

// start asks servers, unless that is under way.
func (s *search) start(servers []*server) {
	if s.cancel != nil || len(servers) == 0 {
		return
	}
	ctx, cancel := context.WithCancel(s.ctx)
	s.cancel = cancel
	first := make(chan error, len(servers))
	for _, server := range servers {
		s.wg.Go(func() { s.ask(ctx, server, first) })
	}
	s.wg.Go(func() {
		var errs []error
		for range servers {
			select {
			case <-ctx.Done():
				return
			case err := <-first:
				errs = append(errs, err)
			}
		}
		s.refused <- join(errs)
	})
}

// stop ends the search and lets go of what it found.
func (s *search) stop() {
	if s.cancel == nil {
		return
	}
	s.cancel()
	s.wg.Wait()
	s.cancel = nil
	select {
	case c := <-s.found:
		c.conn.Close()
	default:
	}
	select {
	case <-s.refused:
	default:
	}
}

// ask tries one server again and again. The first attempt's error is told, unless the server only hung up.
func (s *search) ask(ctx context.Context, server *server, first chan<- error) {
	for i := 0; ; i++ {
		s.wg.Go(func() {
			c, err := s.link.attempt(ctx, server)
			for again := 0; i == 0 && again < hangUps && hungUp(err) && pause(ctx, s.link.cfg.Retry/hangUps); again++ {
				c, err = s.link.attempt(ctx, server)
			}
			switch {
			case err != nil && i == 0:
				first <- err
			case err == nil:
				select {
				case s.found <- c:
				default:
					c.conn.Close()
				}
			}
		})
		if !pause(ctx, s.link.cfg.Retry/2+rand.N(s.link.cfg.Retry/2+1)) {
			return
		}
	}
}

// pause waits, and tells whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// hungUp tells whether a server was there and broke the connection off, as one does that is being restarted.
func hungUp(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// attempt connects to a server and has it answer.
func (l *Link) attempt(ctx context.Context, s *server) (*candidate, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	c := &candidate{server: s, heard: new(tracker)}
	var err error
	if c.conn, err = l.kinds[sentinel].NewClientConn(context.WithValue(ctx, trackerKey{}, c.heard), "https", s.host); err != nil {
		return nil, fmt.Errorf("connect to %s: %w", s, err)
	}
	if err := l.probe(ctx, s, c.conn); err != nil {
		c.conn.Close()
		return nil, err
	}
	return c, nil
}

// probe sends a cheap request as the node.
func (l *Link) probe(ctx context.Context, s *server, conn *http.ClientConn) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+s.host+s.base+"/version", nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", l.cfg.UserAgent)
	if err := l.authorize(req); err != nil {
		return err
	}
	resp, err := conn.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("ask %s: %w", s, err)
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	switch {
	case err != nil:
		return fmt.Errorf("ask %s: %w", s, err)
	case resp.ProtoMajor != 2:
		return fmt.Errorf("%s does not speak HTTP/2: name the kube-apiserver itself, or a balancer that passes TCP through", s)
	case resp.StatusCode == http.StatusUnauthorized:
		return fmt.Errorf("%s does not accept the node's credential (401): if its certificate has expired, enrol again with a new kubeconfig", s)
	case resp.StatusCode >= 500:
		return fmt.Errorf("%s answers %s", s, resp.Status)
	}
	return nil
}

func join(errs []error) error {
	lines := strings.Split(errors.Join(errs...).Error(), "\n")
	return errors.New(strings.Join(lines, "; "))
}
