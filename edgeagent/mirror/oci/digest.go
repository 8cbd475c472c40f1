package oci

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"
)

// Algorithm names a hash.
type Algorithm string

// The algorithms that the image specification registers. There are no others.
const (
	SHA256 Algorithm = "sha256"
	SHA512 Algorithm = "sha512"
)

// New begins a hash. It panics for an algorithm that is none of the constants; a Digest never holds one.
func (a Algorithm) New() hash.Hash {
	switch a {
	case SHA256:
		return sha256.New()
	case SHA512:
		return sha512.New()
	}
	panic("oci: no such algorithm: " + string(a))
}

// hexLength is 0 for what is no algorithm.
func (a Algorithm) hexLength() int {
	switch a {
	case SHA256:
		return hex.EncodedLen(sha256.Size)
	case SHA512:
		return hex.EncodedLen(sha512.Size)
	}
	return 0
}

// FromBytes is the digest of data.
func (a Algorithm) FromBytes(data []byte) Digest {
	h := a.New()
	h.Write(data) // a hash never fails
	return FromHash(a, h)
}

// Digest names content by its hash. It can only be made by parsing or hashing, so one that is not zero is always well-formed: an
// algorithm, a colon, lower-case hex of the right length. Digests compare with == and serve as keys of maps. The zero Digest names nothing.
type Digest struct{ text string }

// ParseDigest reads a digest such as "sha256:6c3c62…".
func ParseDigest(s string) (Digest, error) {
	algorithm, sum, found := strings.Cut(s, ":")
	length := Algorithm(algorithm).hexLength()
	switch {
	case !found || length == 0:
		return Digest{}, fmt.Errorf("digest %s: begins with neither %s nor %s and a colon", quote(s), SHA256, SHA512)
	case len(sum) != length:
		return Digest{}, fmt.Errorf("digest %s: has %d characters after the colon, %s has %d", quote(s), len(sum), algorithm, length)
	}
	for _, c := range []byte(sum) {
		if !isDigit(c) && (c < 'a' || c > 'f') {
			return Digest{}, fmt.Errorf("digest %s: %q is not lower-case hex", quote(s), c)
		}
	}
	return Digest{s}, nil
}

// FromHash is the digest of all that was written to h, which a.New made.
func FromHash(a Algorithm, h hash.Hash) Digest {
	return Digest{string(a) + ":" + hex.EncodeToString(h.Sum(nil))}
}

// String is the digest as it is written everywhere, or "" for the zero Digest.
func (d Digest) String() string { return d.text }

// IsZero tells whether d names nothing.
func (d Digest) IsZero() bool { return d.text == "" }

// Algorithm is "" for the zero Digest.
func (d Digest) Algorithm() Algorithm {
	algorithm, _, _ := strings.Cut(d.text, ":")
	return Algorithm(algorithm)
}

// Hex is the part after the colon.
func (d Digest) Hex() string {
	_, sum, _ := strings.Cut(d.text, ":")
	return sum
}

// ReferrersTag is the tag under which a registry without the referrers API lists what refers to d: "sha256-…", cut as the
// specification says.
func (d Digest) ReferrersTag() string {
	sum := d.Hex()
	return string(d.Algorithm()) + "-" + sum[:min(len(sum), 64)]
}

// MarshalText writes a digest into JSON.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.text), nil }

// UnmarshalText is ParseDigest.
func (d *Digest) UnmarshalText(text []byte) error {
	parsed, err := ParseDigest(string(text))
	if err == nil {
		*d = parsed
	}
	return err
}

// quote keeps hostile input in an error short and on one line.
func quote(s string) string {
	const most = 160
	if len(s) > most {
		return fmt.Sprintf("%q…", s[:most])
	}
	return fmt.Sprintf("%q", s)
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
