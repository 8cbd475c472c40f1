package verifytest

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/pem"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"

	"github.com/holdfast-dev/holdfast/policy/trust"
)

// Key is a principal with a fresh ed25519 key.
type Key struct {
	Principal string
	ssh.Signer
	private ed25519.PrivateKey
}

// NewKey makes a key.
func NewKey(tb TB, principal string) *Key {
	tb.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	check(tb, err)
	return keyOf(tb, principal, private)
}

// seededKey makes the key that belongs to a name, the same every time.
func seededKey(tb TB, principal string) *Key {
	tb.Helper()
	seed := sha256.Sum256([]byte("verifytest " + principal))
	return keyOf(tb, principal, ed25519.NewKeyFromSeed(seed[:]))
}

func keyOf(tb TB, principal string, private ed25519.PrivateKey) *Key {
	tb.Helper()
	signer, err := ssh.NewSignerFromKey(private)
	check(tb, err)
	return &Key{Principal: principal, Signer: signer, private: private}
}

// AuthorizedKey gives the public key as OpenSSH's .pub files have it.
func (k *Key) AuthorizedKey() string {
	return string(ssh.MarshalAuthorizedKey(k.PublicKey()))
}

// AllowedSigner gives the key's entry of allowed_signers, without bounds; set them on the result.
func (k *Key) AllowedSigner() trust.Signer {
	return trust.Signer{Principal: k.Principal, Key: k.PublicKey()}
}

// WriteFiles writes the private key, unencrypted, as OpenSSH does, and the public key beside it as FILE.pub. It gives the private key's path.
func (k *Key) WriteFiles(tb TB, dir string) string {
	tb.Helper()
	block, err := ssh.MarshalPrivateKey(k.private, k.Principal)
	check(tb, err)
	file := filepath.Join(dir, k.Principal)
	check(tb, os.WriteFile(file, pem.EncodeToMemory(block), 0o600))
	check(tb, os.WriteFile(file+".pub", []byte(k.AuthorizedKey()), 0o644))
	return file
}

func check(tb TB, err error) {
	if err != nil {
		tb.Helper()
		tb.Fatalf("%v", err)
	}
}
