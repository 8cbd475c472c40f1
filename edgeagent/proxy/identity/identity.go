// Package identity tells who calls the autonomy proxy, and keeps the certificates that this hangs on: the node's own
// authorities, and the node's credential for the API server. Nobody gets the node's identity by reaching a port: it takes
// the client certificate that was made for the kubelet at enrolment. A pod's token stays the pod's.
package identity

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// MaxToken bounds a bearer token. Tokens of service accounts have about 1 KiB.
const MaxToken = 32 << 10

// Caller is who sent a request.
type Caller struct {
	// Name is the identity of scopes: "system:node:N", or "SUBJECT@ISSUER" of a service account's token. It is "" for a token
	// that says nothing of itself: pass it on, and keep nothing of the answer. The claims of a token are only claims until
	// upstream took the token, or Verify did.
	Name string
	// Node: the caller holds the node's local client certificate. Its requests go upstream with the node's credential.
	Node bool
	// Token is the bearer token, "" if Node.
	Token string
	// Impersonates: the request asks to be treated as somebody else's.
	Impersonates bool
}

// ServiceAccount tells whether the caller says that it is a service account.
func (c Caller) ServiceAccount() bool { return IsServiceAccount(c.Name) }

// IsServiceAccount tells whether a caller's name is a service account's.
func IsServiceAccount(name string) bool { return strings.HasPrefix(name, "system:serviceaccount:") }

// Unauthenticated is a 401.
type Unauthenticated struct{ Why string }

func (e *Unauthenticated) Error() string { return e.Why }

func unauthenticated(format string, args ...any) error {
	return &Unauthenticated{fmt.Sprintf(format, args...)}
}

// Config is what an Authenticator needs to know.
type Config struct {
	// Node is the name of this node.
	Node string
	// ClientCAs are the authority of local client certificates: Authority.ClientCAs.
	ClientCAs *x509.CertPool
	// Document gives what upstream answered last to the node for a path, JWKSPath or DiscoveryPath; nil if never.
	Document func(path string) []byte
	// Audiences are the API server's (--api-audiences) where they are not its issuer.
	Audiences []string
	// Now is the clock; Newest is the newest time the node has evidence of, which the clock may be behind. Newest may be nil.
	Now    func() time.Time
	Newest func() time.Time
}

// Authenticator tells who calls. It is safe for concurrent use.
type Authenticator struct {
	cfg  Config
	good atomic.Pointer[[]byte] // the local client certificate that was verified last

	mu       sync.Mutex // guards what follows
	keys     *keySet
	verified map[[sha256.Size]byte]claims // of keys
	newest   time.Time                    // issue of the newest token that was verified: it is later than that now
}

// New gives an Authenticator.
func New(cfg Config) *Authenticator {
	if cfg.Newest == nil {
		cfg.Newest = func() time.Time { return time.Time{} }
	}
	return &Authenticator{cfg: cfg}
}

// Identify tells who sent a request. The error is an *Unauthenticated, with a message for the caller.
func (a *Authenticator) Identify(r *http.Request) (Caller, error) {
	if r.TLS == nil {
		return Caller{}, unauthenticated("this connection is not encrypted: the proxy speaks https only")
	}
	c := Caller{Impersonates: impersonates(r.Header)}
	token, err := bearer(r.Header)
	if err != nil {
		return Caller{}, err
	}
	if len(r.TLS.PeerCertificates) > 0 {
		if err := a.local(r.TLS.PeerCertificates[0]); err != nil {
			return Caller{}, err
		}
		if token != "" {
			return Caller{}, unauthenticated("the request has a client certificate and a bearer token: send one of them")
		}
		c.Node, c.Name = true, nodePrefix+a.cfg.Node
		return c, nil
	}
	if token == "" {
		return Caller{}, unauthenticated("no credential: send the client certificate that holdfast-agent made for this node's kubelet, or a bearer token")
	}
	c.Token = token
	if claims, err := peek(token); err == nil {
		c.Name = claims.name()
	}
	return c, nil
}

const nodePrefix = "system:node:"

// local checks a client certificate. Its dates do not matter: a local certificate holds on any clock.
func (a *Authenticator) local(cert *x509.Certificate) error {
	if good := a.good.Load(); good != nil && bytes.Equal(*good, cert.Raw) {
		return nil
	}
	_, err := cert.Verify(x509.VerifyOptions{Roots: a.cfg.ClientCAs, CurrentTime: anyTime, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil || cert.Subject.CommonName != nodePrefix+a.cfg.Node {
		return unauthenticated("the client certificate of %q was not made by this node: the proxy ends TLS, so a certificate of the cluster's CA does not reach the API server through it; "+
			"use the kubeconfig that holdfast-agent wrote, a bearer token, or the API server's own address", cert.Subject.CommonName)
	}
	raw := bytes.Clone(cert.Raw)
	a.good.Store(&raw)
	return nil
}

// webSocketToken is how a browser sends a bearer token: it cannot set a header on a WebSocket.
const webSocketToken = "base64url.bearer.authorization.k8s.io."

// bearer gives the bearer token of a request, "" if there is none.
func bearer(h http.Header) (string, error) {
	values := h.Values("Authorization")
	if len(values) > 1 {
		return "", unauthenticated("the request has %d Authorization headers: send one", len(values))
	}
	if len(values) == 0 || values[0] == "" {
		return bearerOfWebSocket(h)
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	token = strings.TrimSpace(token)
	switch {
	case !strings.EqualFold(scheme, "Bearer"):
		return "", unauthenticated("Authorization has the scheme %.20q: only Bearer is known", scheme)
	case token == "" || strings.ContainsAny(token, " \t"):
		return "", unauthenticated("Authorization: Bearer has no token, or several")
	case len(token) > MaxToken:
		return "", unauthenticated("the bearer token has %d bytes: more than %d are not taken", len(token), MaxToken)
	}
	return token, nil
}

func bearerOfWebSocket(h http.Header) (string, error) {
	token := ""
	for _, line := range h.Values("Sec-Websocket-Protocol") {
		for protocol := range strings.SplitSeq(line, ",") {
			encoded, ok := strings.CutPrefix(strings.TrimSpace(protocol), webSocketToken)
			if !ok {
				continue
			}
			raw, err := base64.RawURLEncoding.DecodeString(encoded)
			if err != nil || len(raw) == 0 || len(raw) > MaxToken || token != "" {
				return "", unauthenticated("Sec-WebSocket-Protocol has no bearer token, or several")
			}
			token = string(raw)
		}
	}
	return token, nil
}

func impersonates(h http.Header) bool {
	for name := range h {
		if strings.HasPrefix(name, "Impersonate-") {
			return true
		}
	}
	return false
}

// Verify tells, without upstream, whether a caller is who it says: the signature, the issuer, the audience and the dates of
// a service account's token. The error is an *Unauthenticated.
func (a *Authenticator) Verify(ctx context.Context, c Caller) error {
	if c.Node {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return a.verify(c)
}
