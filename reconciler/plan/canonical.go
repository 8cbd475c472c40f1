package plan

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// Canonical gives v's canonical JSON: object keys sorted, no white space, no HTML escaping, whole numbers only. It is
// RFC 8785 for what plans are made of: ASCII keys, strings, integers, booleans, lists, objects (but that encoding/json
// writes U+2028 and U+2029 as escapes).
func Canonical(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode plan: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var tree any
	if err := dec.Decode(&tree); err != nil {
		return nil, fmt.Errorf("encode plan: %w", err)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(tree); err != nil { // encoding/json sorts the keys of maps
		return nil, fmt.Errorf("encode plan: %w", err)
	}
	return bytes.TrimRight(out.Bytes(), "\n"), nil
}

// Digest names the plan: "sha256:" and the hex SHA-256 of its canonical JSON. It does not depend on the revision, so a
// commit that changes nothing for a node leaves the node's digest as it was.
func (n Node) Digest() string { return digest(n) }

// Digest names the pool's plan as Node.Digest names a node's.
func (p Pool) Digest() string { return digest(p) }

func digest(v any) string {
	b, err := Canonical(v)
	if err != nil {
		panic(err) // plans hold nothing that encoding/json refuses
	}
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}
