// Package seal keeps what is on disk from being read without a key that lies apart from it. The cache's Secrets and the node's own
// key need the same: a copy of the folder, or a disk that is sold, must not give them away.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
)

// KeySize is the length of a sealing key.
const KeySize = 32

// ErrOpen says that something was not sealed with this key, for this place, or that it was changed since.
var ErrOpen = errors.New("it does not open with this sealing key")

// Sealer seals and opens with AES-256-GCM under a key derived for one purpose. It may be used concurrently.
type Sealer struct{ aead cipher.AEAD }

// Derive gives 32 bytes for one purpose from a sealing key. What is known of one purpose's tells nothing about another's.
func Derive(key []byte, purpose string) ([]byte, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("derive %s: the sealing key has %d bytes, not %d", purpose, len(key), KeySize)
	}
	return hkdf.Key(sha256.New, key, nil, purpose, KeySize)
}

// New makes a sealer for a purpose. What was sealed for another purpose does not open.
func New(key []byte, purpose string) (*Sealer, error) {
	derived, err := Derive(key, purpose)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return &Sealer{aead: aead}, err
}

// Seal appends the sealed body to dst. It opens only under the same bucket and key, so that nothing can be put in another's place.
func (s *Sealer) Seal(dst []byte, bucket string, key, body []byte) []byte {
	return s.aead.Seal(dst, nil, body, bound(bucket, key))
}

// Open gives what was sealed, or ErrOpen.
func (s *Sealer) Open(bucket string, key, sealed []byte) ([]byte, error) {
	body, err := s.aead.Open(nil, nil, sealed, bound(bucket, key))
	if err != nil {
		return nil, ErrOpen
	}
	return body, nil
}

func bound(bucket string, key []byte) []byte {
	return append(append([]byte(bucket), 0), key...)
}
