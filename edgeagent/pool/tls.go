package pool

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-dev/holdfast/edgeagent/pool/identity"
)

// alpn is the only protocol spoken: HTTP/2.
const alpn = "h2"

var (
	// ErrForeign says that who was met is not the member it should be.
	ErrForeign = errors.New("not a member's key")
	// ErrUnreachable says that a member answered at none of its addresses.
	ErrUnreachable = errors.New("the member cannot be reached")
)

// tlsConfig is what both ends have in common. Names, dates and chains in certificates mean nothing here: check looks at the key, on every
// connection, and the handshake proves it. No session is resumed, so that a key that is removed cannot come back with a ticket.
func (p *Pool) tlsConfig(check func(identity.Fingerprint) error) *tls.Config {
	own := func() (*tls.Certificate, error) { return p.cfg.Key().Certificate(), nil }
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{alpn}, SessionTicketsDisabled: true,
		GetCertificate:       func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return own() },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own() },
		ClientAuth:           tls.RequireAnyClientCert,
		InsecureSkipVerify:   true, // VerifyConnection does it
		VerifyConnection: func(state tls.ConnectionState) error {
			key, err := identity.Peer(state)
			if err != nil {
				return err
			}
			if state.NegotiatedProtocol != alpn {
				return fmt.Errorf("it speaks %q, not %q", state.NegotiatedProtocol, alpn)
			}
			return check(key)
		},
	}
}

// checkAny lets in every other member.
func (p *Pool) checkAny(key identity.Fingerprint) error {
	switch name := p.nameOf(key); name {
	case "":
		return fmt.Errorf("%w: %s", ErrForeign, key)
	case p.cfg.Node:
		return fmt.Errorf("%w: %s is this node's own: another machine has it", ErrForeign, key)
	}
	return nil
}

// checkOne lets a handshake go on with one member only.
func checkOne(m Member) func(identity.Fingerprint) error {
	return func(key identity.Fingerprint) error {
		if !slices.Contains(m.Keys, key) {
			return fmt.Errorf("%w: it shows %s, and %s has %s", ErrForeign, key, m.Name, m.Keys)
		}
		return nil
	}
}
