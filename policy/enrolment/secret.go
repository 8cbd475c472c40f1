package enrolment

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"log/slog"
	"strings"
)

const (
	secretBytes = 16
	// checkBits make a secret 30 characters, and a slip of the hand known at once.
	checkBits   = 30*5 - secretBytes*8
	secretRunes = 30
)

// alphabet is Crockford's: a person types it, so it has no I, L, O and U.
var alphabet = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

// ErrSecret says that a text is no enrolment secret.
var ErrSecret = errors.New("not an enrolment secret, or mistyped: it is six groups of five letters and digits")

// Secret lets one node enrol one key. The fleet repo holds only its PublicKey; whoever holds the secret may once say which key the node
// has. It prints and logs as a placeholder: Reveal gives the text.
type Secret struct{ raw [secretBytes]byte }

// NewSecret makes a secret of 128 random bits.
func NewSecret() Secret {
	var s Secret
	rand.Read(s.raw[:])
	return s
}

// ParseSecret reads what Reveal gives. Case, blanks and dashes do not matter; I and L are read as 1, O as 0.
func ParseSecret(text string) (Secret, error) {
	clean := strings.Map(func(r rune) rune {
		switch r {
		case '-', ' ', '\t', '\r', '\n':
			return -1
		case 'i', 'I', 'l', 'L':
			return '1'
		case 'o', 'O':
			return '0'
		}
		return r
	}, text)
	if len(text) > 100 || len(clean) != secretRunes {
		return Secret{}, ErrSecret
	}
	// 32 characters are 20 bytes: the two more are zeroes.
	all, err := alphabet.DecodeString(strings.ToUpper(clean) + "00")
	if err != nil {
		return Secret{}, ErrSecret
	}
	s := Secret{raw: [secretBytes]byte(all)}
	if !bytes.Equal(all, s.checked()) {
		return Secret{}, ErrSecret
	}
	return s, nil
}

// checked is the secret with its checksum.
func (s Secret) checked() []byte {
	sum := sha256.Sum256(append([]byte("holdfast enrolment secret: checksum"), s.raw[:]...))
	sum[checkBits/8] &^= 0xff >> (checkBits % 8)
	sum[checkBits/8+1] = 0
	return append(bytes.Clone(s.raw[:]), sum[:20-secretBytes]...)
}

// Reveal gives the secret as a person types it.
func (s Secret) Reveal() string {
	text := alphabet.EncodeToString(s.checked())[:secretRunes]
	var groups []string
	for ; text != ""; text = text[5:] {
		groups = append(groups, text[:5])
	}
	return strings.Join(groups, "-")
}

// String hides the secret.
func (Secret) String() string { return "(enrolment secret)" }

// GoString hides the secret.
func (s Secret) GoString() string { return s.String() }

// LogValue hides the secret.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// PublicKey is what the fleet repo holds for a node that is to be enrolled with the secret. It does not give the secret away.
func (s Secret) PublicKey() PublicKey { return PublicKeyOf(s.key()) }

// key signs for the secret.
func (s Secret) key() ed25519.PrivateKey {
	seed, err := hkdf.Key(sha256.New, s.raw[:], nil, "holdfast enrolment secret: signing key", ed25519.SeedSize)
	if err != nil {
		panic(err) // only a length out of bounds, or FIPS mode refusing a key below 112 bits
	}
	return ed25519.NewKeyFromSeed(seed)
}
