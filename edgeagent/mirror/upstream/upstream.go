// Package upstream is the mirror's client to the registries that a fleet declares. What other clients do is not enough at the edge: here
// a registry that cannot be reached is known within a second and costs nothing until it is tried again, one that is merely slow is waited
// for, a download goes on where it stopped, a secret goes nowhere but to the hosts the fleet names, and every way in which a registry
// can fail has a name of its own, because the mirror answers each differently. The package keeps nothing on disk.
package upstream

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

// Config declares a registry.
type Config struct {
	// Name is what images call it, and so what containerd sends as ns: "docker.io", "registry.example:5000".
	Name string
	// Host is where it is, as host[:port]; "" means at its name. It always speaks https.
	Host string
	// Hosts are further hosts, as host[:port], that this registry may involve: token servers, which may then get credentials, and
	// hosts of blobs, which may then have private addresses. Hosts not named here are reached without any secret, at public addresses.
	Hosts []string
	// CA verifies the registry and Hosts; nil means the system's. Other hosts are always verified by the system's.
	CA *x509.CertPool
	// Credentials gives what to log in with. nil means nothing.
	Credentials Credentials
	// Proxy gives the HTTP proxy for an address, or nil; as in http.Transport. It may be nil.
	Proxy func(*url.URL) (*url.URL, error)
	// Limit bounds the bytes a second of all that share it. nil means no bound.
	Limit *Limiter
	// UserAgent is what the registry's log shows.
	UserAgent string

	// Connect is how long a request waits for a connection. Default 0.9 s, so that a miss is known within a second.
	Connect time.Duration
	// Idle is how long a connected registry may be silent. Default 30 s.
	Idle time.Duration
	// Retry is the longest pause between two attempts to reach a host that cannot be connected. Default 30 s.
	Retry time.Duration

	Log *slog.Logger
	// DialContext takes the place of net.Dialer's in tests.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
}

// Credentials says what to log in with. It is called often and concurrently. The zero Credential means that there is nothing.
type Credentials interface {
	Credential(ctx context.Context, repository string) (Credential, error)
}

// Credential is a way to log in: a user with a password, or an identity token that a token server gave out. It shows itself to nobody.
type Credential struct {
	Username, Password string
	IdentityToken      string
}

// IsZero tells whether there is nothing to log in with.
func (c Credential) IsZero() bool { return c == Credential{} }

// String hides the secret.
func (c Credential) String() string {
	if c.IsZero() {
		return "no credential"
	}
	return "a credential"
}

// GoString hides the secret.
func (c Credential) GoString() string { return c.String() }

// LogValue hides the secret.
func (c Credential) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalText hides the secret.
func (c Credential) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// Credential makes a Credential a source of itself, for any repository.
func (c Credential) Credential(context.Context, string) (Credential, error) { return c, nil }

// Registry is the client to one registry. Its methods may be called concurrently. Their errors are *Error, or the context's.
type Registry struct {
	*link
	credentials Credentials
}

// link is what all views of a registry share.
type link struct {
	cfg      Config
	declared map[string]bool // host:port of the registry and of Config.Hosts
	host     string          // host:port of the registry
	log      *slog.Logger
	// private tells which addresses an undeclared host may not have. Tests, whose servers are all on loopback, replace it.
	private func(netip.Addr) bool

	own, foreign *http.Transport // for declared hosts, for others
	tokens       tokens
	secret       [32]byte // keys the hash of credentials

	mu        sync.Mutex // guards what follows
	challenge *challenge // the last one: what the registry will ask for next time
	breakers  map[string]*breaker
}

// wellKnown are registries whose parts everybody knows.
func wellKnown(name string) (host string, hosts []string) {
	switch name {
	case "docker.io":
		return "registry-1.docker.io", []string{"auth.docker.io"}
	case "registry.gitlab.com":
		return name, []string{"gitlab.com"}
	}
	return name, nil
}

// New makes the client. It connects to nothing.
func New(cfg Config) (*Registry, error) {
	if err := oci.CheckRegistry(cfg.Name); err != nil {
		return nil, err
	}
	known, more := wellKnown(cfg.Name)
	cfg.Host = cmp.Or(cfg.Host, known)
	cfg.Connect = cmp.Or(cfg.Connect, 900*time.Millisecond)
	cfg.Idle = cmp.Or(cfg.Idle, 30*time.Second)
	cfg.Retry = cmp.Or(cfg.Retry, 30*time.Second)
	l := &link{cfg: cfg, log: cfg.Log, declared: map[string]bool{}, private: isPrivate, breakers: map[string]*breaker{}}
	if l.log == nil {
		return nil, errors.New("make client of a registry: there is no log")
	}
	for _, host := range append([]string{cfg.Host}, append(more, cfg.Hosts...)...) {
		if err := oci.CheckRegistry(host); err != nil {
			return nil, fmt.Errorf("registry %s: %w", cfg.Name, err)
		}
		l.declared[hostPort(host)] = true
	}
	l.host = hostPort(cfg.Host)
	l.tokens.init()
	rand.Read(l.secret[:]) // never fails
	l.own, l.foreign = l.transport(false), l.transport(true)
	return &Registry{link: l, credentials: cmp.Or[Credentials](cfg.Credentials, Credential{})}, nil
}

// Name is what images call the registry.
func (r *Registry) Name() string { return r.cfg.Name }

// As is the same registry asked by somebody else: with c alone, or with nothing if c is zero. It shares connections and breakers, and
// no token.
func (r *Registry) As(c Credential) *Registry { return &Registry{link: r.link, credentials: c} }

// Retry forgets that hosts could not be connected, because the network came back: the next request tries.
func (r *Registry) Retry() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.breakers)
}

// Close ends connections that nobody uses.
func (r *Registry) Close() {
	r.own.CloseIdleConnections()
	r.foreign.CloseIdleConnections()
}

// hostPort writes a host with its port, so that hosts compare.
func hostPort(host string) string {
	host = strings.ToLower(host)
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), "443")
}

// address is where something of a repository is. Names have been checked, so nothing needs escaping.
func (r *Registry) address(repository, kind, reference string) *url.URL {
	return &url.URL{Scheme: "https", Host: r.cfg.Host, Path: "/v2/" + repository + "/" + kind + "/" + reference}
}
