package cache

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/holdfast-dev/holdfast/edgeagent/durable"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
	"github.com/holdfast-dev/holdfast/edgeagent/seal"
)

// sealer seals records, and names contents so that their names tell nothing about them.
type sealer struct {
	records *seal.Sealer
	names   []byte
}

// openKey reads the sealing key, or makes one. A file of another length holds no key: what was sealed with it is lost. After an error
// the cache may have a key all the same, which is kept in memory until it can be written.
func (c *Cache) openKey() error {
	path := c.o.SealingKeyFile
	raw, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read sealing key: %w", err)
	}
	if len(raw) == seal.KeySize && c.key == nil {
		if err := os.Chmod(path, 0o600); err != nil { // where it was restored from a backup
			return fmt.Errorf("protect sealing key: %w", err)
		}
		c.keyed, c.key = true, raw
		c.seal, err = newSealer(raw)
		return err
	}
	if c.key == nil {
		c.key = make([]byte, seal.KeySize)
		rand.Read(c.key)
		if c.seal, err = newSealer(c.key); err != nil {
			return err
		}
	}
	if err := durable.WriteFile(path, c.key); err != nil {
		return fmt.Errorf("write sealing key %s: %w", path, err)
	}
	c.keyed = true
	c.o.Step("key")
	return nil
}

func newSealer(raw []byte) (*sealer, error) {
	names, err := seal.Derive(raw, "holdfast cache: names")
	if err != nil {
		return nil, err
	}
	records, err := seal.New(raw, "holdfast cache: seal")
	return &sealer{records: records, names: names}, err
}

// seal appends the sealed body to dst. A record that is found under another key, or in another bucket, does not open.
func (s *sealer) seal(dst []byte, bucket string, key, body []byte) []byte {
	return s.records.Seal(dst, bucket, key, body)
}

func (s *sealer) open(bucket string, key, sealed []byte) ([]byte, error) {
	body, err := s.records.Open(bucket, key, sealed)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return body, nil
}

// id names something by what it is: a keyed hash, since the hash of a guessed Secret would confirm the guess.
type id [16]byte

func (s *sealer) name(parts ...string) id {
	h := hmac.New(sha256.New, s.names)
	var n [8]byte
	for _, p := range parts {
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write([]byte(p))
	}
	return id(h.Sum(nil))
}

// content names an object's content. Two identities that read the same get the same; what differs in a single byte, as from an API
// server that was put back in time and counts its versions again, does not.
func (s *sealer) content(r scope.Resource, it *scope.Item) id {
	raw := sha256.Sum256(it.Raw)
	var tail [9]byte
	tail[0] = byte(it.Encoding)
	binary.BigEndian.PutUint64(tail[1:], it.Essence)
	return s.name("object", r.Group, r.Version, r.Resource, it.Namespace, it.Name, it.UID, it.Version, it.APIVersion, it.Kind, string(tail[:]), string(raw[:]))
}
