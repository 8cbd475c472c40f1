// Package identity keeps the key that a node speaks with inside its pool. It is made on the node at enrolment, never leaves it, and lies on
// disk sealed; the fleet repo lists its fingerprint. No authority vouches for it and nothing in it expires: a site that is cut off for
// years, with clocks that are wrong, still knows its nodes.
package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/holdfast-dev/holdfast/policy/enrolment"
)

// Fingerprint names a key.
type Fingerprint = enrolment.Fingerprint

// PublicKey is the public half of a node's key.
type PublicKey = enrolment.PublicKey

// Key is one key of the node, and the certificate that carries it in a TLS handshake. It does not change.
type Key struct {
	private     ed25519.PrivateKey
	public      PublicKey
	fingerprint Fingerprint
	certificate tls.Certificate
}

func newKey(node string, seed []byte) (*Key, error) {
	private := ed25519.NewKeyFromSeed(seed)
	der, err := selfSigned(node, private)
	if err != nil {
		return nil, fmt.Errorf("make the certificate of node %s: %w", node, err)
	}
	public := enrolment.PublicKeyOf(private)
	return &Key{
		private: private, public: public, fingerprint: public.Fingerprint(),
		certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private},
	}, nil
}

// selfSigned makes the certificate: only an envelope for the key. Its dates are the whole of time, since peers look at the key alone.
func selfSigned(node string, key ed25519.PrivateKey) ([]byte, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: node},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	return x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
}

// Public gives the public half.
func (k *Key) Public() PublicKey { return k.public }

// Fingerprint names the key.
func (k *Key) Fingerprint() Fingerprint { return k.fingerprint }

// Certificate is what to show in a handshake. It must not be changed.
func (k *Key) Certificate() *tls.Certificate { return &k.certificate }

// Sign signs a message for one purpose. No purpose's signature counts for another's, for a handshake or for a proof of enrolment.
func (k *Key) Sign(purpose string, message []byte) [ed25519.SignatureSize]byte {
	return [ed25519.SignatureSize]byte(ed25519.Sign(k.private, statement(purpose, message)))
}

// Verify tells whether the key signed the message for the purpose.
func Verify(key PublicKey, purpose string, message []byte, signature [ed25519.SignatureSize]byte) bool {
	return ed25519.Verify(key[:], statement(purpose, message), signature[:])
}

func statement(purpose string, message []byte) []byte {
	return append([]byte("holdfast node key: "+purpose+"\x00"), message...)
}

// ErrNoPeer says that the other end of a TLS connection showed no key of a node.
var ErrNoPeer = errors.New("the other end shows no key of a node")

// Peer names the key that the other end of a connection proved to have. It is for tls.Config.VerifyConnection too: there the proof itself is
// still to come, and the handshake fails without it.
func Peer(state tls.ConnectionState) (Fingerprint, error) {
	switch {
	case state.Version != tls.VersionTLS13:
		return Fingerprint{}, fmt.Errorf("%w: it does not speak TLS 1.3", ErrNoPeer)
	case len(state.PeerCertificates) != 1:
		return Fingerprint{}, fmt.Errorf("%w: %d certificates, want one", ErrNoPeer, len(state.PeerCertificates))
	}
	key, ok := state.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok || len(key) != ed25519.PublicKeySize {
		return Fingerprint{}, fmt.Errorf("%w: its key is %T, not Ed25519", ErrNoPeer, state.PeerCertificates[0].PublicKey)
	}
	return PublicKey(key).Fingerprint(), nil
}
