package identity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
)

const (
	// lookAgain is about how often everything is looked at while the link is up; retry is how soon after something went wrong.
	lookAgain = time.Hour
	retry     = 5 * time.Minute
	// settle spreads a fleet's requests after an outage.
	settle = 10 * time.Second
)

// Maintenance keeps, while there is an API server, what the node needs when there is none: the keys that tokens are verified
// with, the cluster's addresses in the proxy's own certificate, and a credential that has not expired.
type Maintenance struct {
	Node       string
	Authority  *Authority
	Credential *Credential // nil if the node has a token
	Upstream   Upstream
	// Online tells whether the link is up.
	Online func() bool
	// Document and Keep read and write what is kept of an answer to the node. A nil body was never kept.
	Document func(path string) []byte
	Keep     func(path, contentType string, body []byte)
	Log      *slog.Logger
	// Now is the clock, or the newest time the node has evidence of if that is later.
	Now func() time.Time
	// After is time.After in all but tests.
	After func(time.Duration) <-chan time.Time

	once sync.Once
	kick chan struct{}

	renewed time.Time // when the credential was renewed last; Run's alone

	mu       sync.Mutex
	problems map[string]error // by job
}

func (m *Maintenance) init() {
	m.once.Do(func() { m.kick, m.problems = make(chan struct{}, 1), map[string]error{} })
}

// Reconnected says that the link came up. It does not block.
func (m *Maintenance) Reconnected() {
	m.init()
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// Run works until ctx ends.
func (m *Maintenance) Run(ctx context.Context) {
	m.init()
	wait := time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.kick:
			if wait = rand.N(settle); m.Document(JWKSPath) == nil {
				wait = 0 // a new node has nothing yet, and may be cut off again at once
			}
		case <-m.After(wait):
			wait = lookAgain + rand.N(lookAgain/6)
			if m.Online() && m.pass(ctx) != nil {
				wait = retry + rand.N(retry/2)
			}
		}
	}
}

// pass does each job once; one's trouble is not another's.
func (m *Maintenance) pass(ctx context.Context) error {
	m.init()
	var errs []error
	for _, job := range []struct {
		name string
		do   func(context.Context) error
	}{{"token keys", m.keys}, {"cluster address", m.clusterAddress}, {"node credential", m.credential}} {
		err := job.do(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		m.mu.Lock()
		before := m.problems[job.name]
		m.problems[job.name] = err
		m.mu.Unlock()
		if err != nil && (before == nil || before.Error() != err.Error()) {
			m.Log.Warn("keep what an outage needs", "what", job.name, "err", err)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// keys keeps what tokens are verified with offline.
func (m *Maintenance) keys(ctx context.Context) error {
	for _, path := range []string{DiscoveryPath, JWKSPath} {
		var raw []byte
		code, header, err := m.call(ctx, http.MethodGet, path, nil, &raw)
		if code == http.StatusForbidden {
			return fmt.Errorf("%w; `holdfast install` lets nodes read it", err)
		}
		if err != nil {
			return err
		}
		if _, err := parseKeys(raw); path == JWKSPath && err != nil {
			return err
		}
		if !bytes.Equal(raw, m.Document(path)) {
			m.Keep(path, header.Get("Content-Type"), raw)
		}
	}
	return nil
}

// clusterAddress puts the addresses of service default/kubernetes into the proxy's certificate: some programs know the API
// server by them.
func (m *Maintenance) clusterAddress(ctx context.Context) error {
	var service struct {
		Spec struct {
			ClusterIPs []string `json:"clusterIPs"`
			ClusterIP  string   `json:"clusterIP"`
		} `json:"spec"`
	}
	if _, _, err := m.call(ctx, http.MethodGet, "/api/v1/namespaces/default/services/kubernetes", nil, &service); err != nil {
		return err
	}
	var ips []netip.Addr
	for _, text := range append(service.Spec.ClusterIPs, service.Spec.ClusterIP) {
		if ip, err := netip.ParseAddr(text); err == nil {
			ips = append(ips, ip)
		}
	}
	return m.Authority.Cover(ips...)
}

// credential renews the node's credential when it is time.
func (m *Maintenance) credential(ctx context.Context) error {
	if m.Credential == nil || !m.Credential.Rotates() {
		return nil
	}
	at, err := m.Credential.RenewAt()
	if err != nil {
		return err
	}
	if m.Now().Before(at) {
		return nil
	}
	cert, err := m.Credential.Certificate()
	if err != nil {
		return err
	}
	// A clock that is far ahead finds every certificate too old.
	if !m.renewed.IsZero() && m.Now().Sub(m.renewed) < cert.Leaf.NotAfter.Sub(cert.Leaf.NotBefore)/2 {
		return nil
	}
	return m.rotate(ctx)
}

// Problem says what will be missing in an outage, or what is: nil if nothing. A credential that has expired comes first.
func (m *Maintenance) Problem() error {
	m.init()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.Credential != nil {
		expiry, err := m.Credential.Expiry()
		if err != nil {
			return &Problem{Reason: condition.ReasonCredentialMissing, Err: err}
		}
		// While the link is up the API server takes it, and the clock is wrong.
		if m.Now().After(expiry) && !m.Online() {
			err := fmt.Errorf("the node's certificate for the API server expired at %s: what runs goes on, but the node is cut off until it gets a new one: holdfast-agent enroll with a fresh --kubeconfig", expiry.UTC().Format(time.RFC3339))
			if why := m.problems["node credential"]; why != nil {
				err = fmt.Errorf("%w (it could not be renewed: %w)", err, why)
			}
			return &Problem{Reason: condition.ReasonCredentialExpired, Err: err}
		}
	}
	if err := m.problems["node credential"]; err != nil {
		return &Problem{Reason: condition.ReasonCredentialNotRenewed, Err: err}
	}
	if err := errors.Join(m.problems["token keys"], m.problems["cluster address"]); err != nil {
		return &Problem{Reason: condition.ReasonIdentityNotKept, Err: err}
	}
	return nil
}

// Problem is an error with a stable reason.
type Problem struct {
	Reason string
	Err    error
}

func (p *Problem) Error() string { return p.Err.Error() }

// Unwrap gives the cause.
func (p *Problem) Unwrap() error { return p.Err }

// StableReason gives the reason.
func (p *Problem) StableReason() string { return p.Reason }
