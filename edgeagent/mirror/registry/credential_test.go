package registry

import (
	"bytes"
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/upstream"
)

// TestKey: no two credentials share a key, the same one has the same for ever, and another node's is another.
func TestKey(t *testing.T) {
	handler := func(b byte) *Handler { return &Handler{cfg: Config{Key: bytes.Repeat([]byte{b}, 32)}} }
	seen := map[Key]upstream.Credential{}
	for _, credential := range []upstream.Credential{
		{}, {Username: "ab", Password: "c"}, {Username: "a", Password: "bc"}, {Username: "abc"}, {Password: "abc"}, {IdentityToken: "abc"},
	} {
		for _, b := range []byte{1, 2} {
			key := handler(b).key(credential)
			if other, found := seen[key]; found && !credential.IsZero() {
				t.Errorf("%#v has the key of another credential, %#v", credential, other)
			}
			if key != handler(b).key(credential) || (key == Key{}) != credential.IsZero() {
				t.Errorf("%#v: %x", credential, key)
			}
			seen[key] = credential
		}
	}
}
