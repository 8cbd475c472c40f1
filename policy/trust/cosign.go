package trust

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// CosignKey is one public key below cosign/, which images and releases are signed with.
type CosignKey struct {
	// Name is the file's name without ".pub".
	Name string
	// Public is an *ecdsa.PublicKey on P-256, P-384 or P-521, an ed25519.PublicKey or an *rsa.PublicKey of 2,048 to 8,192 bits.
	Public crypto.PublicKey

	fingerprint string
}

// Fingerprint gives the SHA-256 of the key's SubjectPublicKeyInfo as "SHA256:" and unpadded base64.
func (k CosignKey) Fingerprint() string { return k.fingerprint }

// MaxCosignKeys bounds how many keys cosign/ holds.
const MaxCosignKeys = 64

const (
	maxCosignKeyBytes = 16 << 10
	maxRSABits        = 8192
)

// readCosign reads one file below cosign/.
func (t *Trust) readCosign(name, stem string, data []byte) error {
	if err := checkKeyName(stem); err != nil {
		return errorIn(name, 0, "%v", err)
	}
	if len(t.Cosign) >= MaxCosignKeys {
		return errorIn(name, 0, "more than %d keys in %s/", MaxCosignKeys, cosignFolder)
	}
	key, err := parseCosignKey(data)
	if err != nil {
		return errorIn(name, 0, "%v", err)
	}
	key.Name = stem
	for _, other := range t.Cosign {
		if other.fingerprint == key.fingerprint {
			return errorIn(name, 0, "key %s is also in %s/%s.pub: a key that stood in two places would count twice", key.fingerprint, cosignFolder, other.Name)
		}
	}
	t.Cosign[stem] = key
	return nil
}

// parseCosignKey reads what `cosign generate-key-pair` writes to cosign.pub: one PEM block and nothing else.
func parseCosignKey(data []byte) (CosignKey, error) {
	if len(data) > maxCosignKeyBytes {
		return CosignKey{}, fmt.Errorf("%d bytes, over the bound of %d for a key", len(data), maxCosignKeyBytes)
	}
	block, rest := pem.Decode(data)
	switch {
	case block == nil:
		return CosignKey{}, errors.New("not a PEM public key: put the cosign.pub here that `cosign generate-key-pair` wrote")
	case strings.HasSuffix(block.Type, "PRIVATE KEY"):
		return CosignKey{}, errors.New("holds a private key: it is no secret any more, so make another pair, and put only its cosign.pub here")
	case block.Type != "PUBLIC KEY":
		return CosignKey{}, fmt.Errorf("holds a PEM %q: it must be a \"PUBLIC KEY\"", block.Type)
	case len(block.Headers) > 0, !bytes.HasPrefix(data, []byte("-----BEGIN ")), len(bytes.TrimSpace(rest)) > 0:
		return CosignKey{}, errors.New("holds more than one PEM public key: a file has one, and nothing else")
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return CosignKey{}, fmt.Errorf("the key cannot be read: %w", err)
	}
	if err := strongCosignKey(public); err != nil {
		return CosignKey{}, err
	}
	// Encoded again: the fingerprint is the key's, however its file encodes it.
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return CosignKey{}, fmt.Errorf("encode the key: %w", err)
	}
	sum := sha256.Sum256(spki)
	return CosignKey{Public: public, fingerprint: "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])}, nil
}

func strongCosignKey(public crypto.PublicKey) error {
	switch k := public.(type) {
	case ed25519.PublicKey:
		return nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return nil
		}
		return fmt.Errorf("an ECDSA key on %s: use P-256, P-384 or P-521", k.Curve.Params().Name)
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return fmt.Errorf("an RSA key of %d bits: from %d to %d", bits, minRSABits, maxRSABits)
		}
		return nil
	}
	return fmt.Errorf("a key of type %T: use ECDSA, Ed25519 or RSA", public)
}

// checkKeyName refuses names of keys that would need quoting. They have the form of principals' names.
func checkKeyName(name string) error {
	if !principal.fits(name) {
		return fmt.Errorf("key %q: a key's name is up to 128 letters, digits and . _ @ + -, and begins with a letter or a digit", name)
	}
	return nil
}
