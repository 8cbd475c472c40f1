// Package upstream is the node's link to its kube-apiservers. It knows whether the link is up, and says so within two seconds also
// when packets are swallowed and nobody refuses anything: the autonomy proxy decides by it who answers, the API server or the
// cache. It chooses among several servers, keeps the connections, and spreads streams over as many as the servers demand.
package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/http2"
)

// State says who answers.
type State int32

// The states.
const (
	// Connecting: not known yet. Requests wait; it lasts for Config.Race at most.
	Connecting State = iota
	// Online: an API server answers this node.
	Online
	// Offline: none does.
	Offline
)

func (s State) String() string {
	switch s {
	case Online:
		return "online"
	case Offline:
		return "offline"
	}
	return "connecting"
}

// What errors.Is finds in the errors of RoundTrip and Dial. Other errors are the request's own: its context ended, its body could not
// be read, or the server broke it off while the link stayed up.
var (
	// ErrOffline: the link is down and nothing of the request was sent.
	ErrOffline = errors.New("no API server answers")
	// ErrLost: the link went down before the answer to this request. The API server may have done what was asked for.
	ErrLost = errors.New("the link to the API server was lost before it answered")
)

// Config is what a Link is made of.
type Config struct {
	// Servers are the API servers, as https://host:port[/path], best first.
	Servers []string
	// ServerName is expected in the servers' certificates instead of their hosts; usually "".
	ServerName string
	// CA verifies the servers; nil means the system's.
	CA *x509.CertPool
	// Certificate gives the node's client certificate, for every new connection anew. It may be nil, and may give nil.
	Certificate func() (*tls.Certificate, error)
	// Token gives the node's bearer token if it has no certificate. It may be nil, and may give "".
	Token func() (string, error)
	// Proxy gives the HTTP proxy for a server's URL, or nil; as in http.Transport. It may be nil.
	Proxy func(*url.URL) (*url.URL, error)
	// UserAgent is what the servers' logs show for the link's own requests.
	UserAgent string

	// Race bounds how long requests wait at the start for the first server to answer. Default 1 s.
	Race time.Duration
	// Idle is how long a link may be silent before it is tried with a PING; Timeout is how long the answer may take. A link that
	// swallows packets is down after both. Defaults 1 s and 0.8 s.
	Idle, Timeout time.Duration
	// Retry is the longest pause between two attempts to reach a server while offline. Default 1 s.
	Retry time.Duration

	Log *slog.Logger
	// DialContext takes the place of net.Dialer's in tests.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
}

func (c Config) withDefaults() Config {
	set := func(field *time.Duration, value time.Duration) {
		if *field == 0 {
			*field = value
		}
	}
	set(&c.Race, time.Second)
	set(&c.Idle, time.Second)
	set(&c.Timeout, 800*time.Millisecond)
	set(&c.Retry, time.Second)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Status is what is known of the link.
type Status struct {
	State State
	// Since is when the state began.
	Since time.Time
	// Server is the one in use, or the one used last.
	Server string
	// Why says why the link is not Online.
	Why string
}

// Link is the node's link to its API servers. Methods are safe for concurrent use. Run does the work: before it the state is
// Connecting, after it Offline.
type Link struct {
	cfg     Config
	log     *slog.Logger
	kinds   [kinds]*http.Transport
	tunnels [2]*http.Transport // HTTP/1.1, as node and as caller

	suspects chan struct{} // a request failed: look at the link now
	replaced chan struct{} // the servers were replaced

	mu          sync.Mutex // guards what follows
	status      Status
	changed     chan struct{} // closed and replaced at each change of status
	subscribers []func(State)
	servers     []*server
	current     *server // what requests go to while Online

}

// New makes a link. It connects to nothing before Run.
func New(cfg Config) (*Link, error) {
	l := &Link{
		cfg: cfg.withDefaults(), log: cfg.withDefaults().Log,
		suspects: make(chan struct{}, 1), replaced: make(chan struct{}, 1), changed: make(chan struct{}),
	}
	l.status.Since = time.Now()
	l.transports()
	servers, err := l.parse(cfg.Servers)
	if err != nil {
		return nil, err
	}
	l.servers = servers
	return l, nil
}

// SetServers replaces the API servers. Those that stay keep their connections; if the one in use is gone another takes over.
func (l *Link) SetServers(addresses []string) error {
	servers, err := l.parse(addresses)
	if err != nil {
		return err
	}
	l.mu.Lock()
	old := l.servers
	for i, s := range servers {
		if at := slices.IndexFunc(old, func(o *server) bool { return o.String() == s.String() }); at >= 0 {
			servers[i] = old[at]
		}
	}
	l.servers = servers
	l.mu.Unlock()
	signal(l.replaced)
	return nil
}

// State says who answers now.
func (l *Link) State() State { return l.Status().State }

// Status says what is known of the link.
func (l *Link) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status
}

// Wait gives the state once it is not Connecting, or Connecting if ctx ends before.
func (l *Link) Wait(ctx context.Context) State {
	for {
		l.mu.Lock()
		state, changed := l.status.State, l.changed
		l.mu.Unlock()
		if state != Connecting {
			return state
		}
		http2.Waiting(ctx)
		select {
		case <-ctx.Done():
			return Connecting
		case <-changed:
		}
	}
}

// Subscribe calls f with each new state, in order. f must not block and must not call the link. There is no way back: subscribers
// live as long as the link.
func (l *Link) Subscribe(f func(State)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.subscribers = append(l.subscribers, f)
}

// set puts a state up and tells everyone.
func (l *Link) set(state State, s *server, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current = nil
	if state == Online {
		l.current = s
	}
	if s != nil {
		l.status.Server = s.String()
	}
	l.status.Why = why
	if l.status.State != state {
		l.log.Info("link to the API server", "state", state.String(), "server", l.status.Server, "after", time.Since(l.status.Since).Round(time.Millisecond), "why", why)
		l.status.State, l.status.Since = state, time.Now()
		for _, f := range l.subscribers {
			f(state)
		}
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// signal puts a token into a channel of one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
