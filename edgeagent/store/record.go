package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
)

// A record is the SHA-256 of its key, a zero byte and its JSON, followed by the JSON. bbolt guards only its two meta pages,
// so a record guards itself, also against being found under another key.

func encode(key string, v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", key, err)
	}
	sum := checksum(key, body)
	return append(sum[:], body...), nil
}

// decode reads a record into into. An error wraps ErrDamaged.
func decode(key string, raw []byte, into any) error {
	if len(raw) < sha256.Size {
		return fmt.Errorf("record %s: %w: cut short", key, ErrDamaged)
	}
	body := raw[sha256.Size:]
	if sum := checksum(key, body); !bytes.Equal(sum[:], raw[:sha256.Size]) {
		return fmt.Errorf("record %s: %w: its checksum does not match", key, ErrDamaged)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("record %s: %w: %w", key, ErrDamaged, err)
	}
	return nil
}

func checksum(key string, body []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte(key))
	h.Write([]byte{0})
	h.Write(body)
	return [sha256.Size]byte(h.Sum(nil))
}
