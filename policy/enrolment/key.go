// Package enrolment decides which key a node of the fleet speaks with. The fleet repo lists each node's keys by fingerprint; this package
// makes and checks the proofs by which a new key gets onto that list: signed with the node's one-time secret, or with the key before it.
// It is pure: node, hub and command line all ask it, and a person signs the change that comes of it.
package enrolment

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

const (
	fingerprintPrefix = "SHA256:"
	keyPrefix         = "ed25519:"
)

// encoding writes keys, fingerprints and signatures. Strict: each has one spelling.
var encoding = base64.RawStdEncoding.Strict()

// Fingerprint names a key: the SHA-256 of its SubjectPublicKeyInfo. It is comparable. The zero value names none.
type Fingerprint [sha256.Size]byte

// ParseFingerprint reads "SHA256:" and 43 characters of base64, as String writes them.
func ParseFingerprint(s string) (Fingerprint, error) {
	var f Fingerprint
	if err := decode(f[:], s, fingerprintPrefix); err != nil {
		return Fingerprint{}, fmt.Errorf("fingerprint %q: %w", shown(s), err)
	}
	return f, nil
}

func (f Fingerprint) String() string { return fingerprintPrefix + encoding.EncodeToString(f[:]) }

// IsZero tells whether it names no key.
func (f Fingerprint) IsZero() bool { return f == Fingerprint{} }

// MarshalText writes it as String does.
func (f Fingerprint) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText reads what ParseFingerprint reads.
func (f *Fingerprint) UnmarshalText(text []byte) (err error) {
	*f, err = ParseFingerprint(string(text))
	return err
}

// PublicKey is an Ed25519 public key. It is comparable. The zero value is none.
type PublicKey [ed25519.PublicKeySize]byte

// ParsePublicKey reads "ed25519:" and 43 characters of base64, as String writes them. Keys of small order, for which anyone can sign,
// are refused.
func ParsePublicKey(s string) (PublicKey, error) {
	var k PublicKey
	err := decode(k[:], s, keyPrefix)
	if err == nil {
		err = k.check()
	}
	if err != nil {
		return PublicKey{}, fmt.Errorf("public key %q: %w", shown(s), err)
	}
	return k, nil
}

// PublicKeyOf gives the public half of a private key.
func PublicKeyOf(key ed25519.PrivateKey) PublicKey {
	return PublicKey(key.Public().(ed25519.PublicKey))
}

func (k PublicKey) String() string { return keyPrefix + encoding.EncodeToString(k[:]) }

// IsZero tells whether it is none.
func (k PublicKey) IsZero() bool { return k == PublicKey{} }

// MarshalText writes it as String does; none as nothing.
func (k PublicKey) MarshalText() ([]byte, error) {
	if k.IsZero() {
		return nil, nil
	}
	return []byte(k.String()), nil
}

// UnmarshalText reads what ParsePublicKey reads.
func (k *PublicKey) UnmarshalText(text []byte) (err error) {
	*k, err = ParsePublicKey(string(text))
	return err
}

// spki is what stands before an Ed25519 key in its SubjectPublicKeyInfo (RFC 8410).
const spki = "\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00"

// Fingerprint names the key.
func (k PublicKey) Fingerprint() Fingerprint {
	return sha256.Sum256(append([]byte(spki), k[:]...))
}

// smallOrder are the encodings of points of small order, but for the bit of the sign. A signature under such a key proves nothing.
var smallOrder = []string{
	"0000000000000000000000000000000000000000000000000000000000000000",
	"0100000000000000000000000000000000000000000000000000000000000000",
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
}

func (k PublicKey) check() error {
	k[len(k)-1] &= 0x7f
	if slices.Contains(smallOrder, hex.EncodeToString(k[:])) {
		return fmt.Errorf("it is of small order: anyone could sign for it")
	}
	return nil
}

// signature is an Ed25519 signature.
type signature [ed25519.SignatureSize]byte

func (s signature) MarshalText() ([]byte, error) { return []byte(encoding.EncodeToString(s[:])), nil }

func (s *signature) UnmarshalText(text []byte) error { return decode(s[:], string(text), "") }

// decode fills into from base64 after a prefix.
func decode(into []byte, s, prefix string) error {
	body, ok := strings.CutPrefix(s, prefix)
	if want := encoding.EncodedLen(len(into)); !ok || len(body) != want || strings.ContainsAny(body, "\r\n") {
		return fmt.Errorf("want %q and %d characters of base64", prefix, want)
	}
	_, err := encoding.Decode(into, []byte(body))
	return err
}

// shown bounds what an error repeats of its input.
func shown(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
