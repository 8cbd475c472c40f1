package identity

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/durable"
)

// Credential is the certificate that upstream knows this node by. Only the agent holds it: the kubelet has a local one, so a
// certificate that expires while the node is cut off stops nothing on the node.
type Credential struct {
	read func() (cert, key []byte, err error)
	path string // "" if somebody else renews it

	mu   sync.Mutex
	last *tls.Certificate // what was read last: a file that is being replaced is missing for a moment
}

// OpenCredential gives the node's own credential: certificate and key, as PEM, in one file.
func OpenCredential(path string) *Credential {
	return &Credential{path: path, read: func() ([]byte, []byte, error) {
		raw, err := os.ReadFile(path)
		return raw, raw, err
	}}
}

// BorrowCredential gives one that somebody else renews: a kubelet that is not behind the proxy.
func BorrowCredential(read func() (cert, key []byte, err error)) *Credential {
	return &Credential{read: read}
}

// WriteCredential puts a certificate and its key into a file for OpenCredential, all at once.
func WriteCredential(path string, cert, key []byte) error {
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		return fmt.Errorf("write the node's credential: %w", err)
	}
	var out []byte
	for _, part := range []struct {
		raw  []byte
		cert bool
	}{{cert, true}, {key, false}} {
		for block, rest := pem.Decode(part.raw); block != nil; block, rest = pem.Decode(rest) {
			if (block.Type == "CERTIFICATE") == part.cert {
				out = append(out, pem.EncodeToMemory(block)...)
			}
		}
	}
	if err := durable.WriteFile(path, out); err != nil {
		return fmt.Errorf("write the node's credential: %w", err)
	}
	return nil
}

// Certificate gives the credential as it is now. It is read again each time, which is once per connection.
func (c *Credential) Certificate() (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cert, key, err := c.read()
	if err == nil {
		var pair tls.Certificate
		if pair, err = tls.X509KeyPair(cert, key); err == nil {
			c.last = &pair
		}
	}
	if c.last == nil {
		return nil, fmt.Errorf("read the node's credential for the API server: %w", err)
	}
	return c.last, nil
}

// Rotates tells whether the agent has to renew it.
func (c *Credential) Rotates() bool { return c.path != "" }

// Expiry is when upstream stops taking it.
func (c *Credential) Expiry() (time.Time, error) {
	cert, err := c.Certificate()
	if err != nil {
		return time.Time{}, err
	}
	return cert.Leaf.NotAfter, nil
}

// RenewAt is when it is to be renewed: when 75 to 85 % of its life are over. Which it is follows from the certificate, so that
// a fleet that enrolled on one day does not renew on one day, and a restart changes nothing.
func (c *Credential) RenewAt() (time.Time, error) {
	cert, err := c.Certificate()
	if err != nil {
		return time.Time{}, err
	}
	sum := sha256.Sum256(cert.Leaf.Raw)
	share := 0.75 + 0.1*float64(binary.BigEndian.Uint32(sum[:]))/float64(1<<32)
	life := cert.Leaf.NotAfter.Sub(cert.Leaf.NotBefore)
	return cert.Leaf.NotBefore.Add(time.Duration(share * float64(life))), nil
}

// replace puts a new certificate in place.
func (c *Credential) replace(cert, key []byte) error {
	if c.path == "" {
		return errors.New("the kubelet renews this credential")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return WriteCredential(c.path, cert, key)
}
