package registry

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash"
	"net/http"
	"strings"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/upstream"
)

// credentialOf reads what a caller logs in with. Only Basic is understood, as the mirror's challenge asks for it: it carries the pull
// secret itself, which stays the same, so that a decision about it holds while nobody can be asked. A bearer token is another one an
// hour later.
func credentialOf(r *http.Request) (upstream.Credential, error) {
	values := r.Header.Values("Authorization")
	if len(values) == 0 {
		return upstream.Credential{}, nil
	}
	scheme, encoded, _ := strings.Cut(values[0], " ")
	if len(values) > 1 || !strings.EqualFold(scheme, "Basic") {
		return upstream.Credential{}, unauthorized("the mirror takes the user and password of the registry, as Basic authorization, and nothing else")
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	user, password, found := strings.Cut(string(raw), ":")
	if err != nil || !found || user == "" && password == "" {
		return upstream.Credential{}, unauthorized("the Basic authorization cannot be read")
	}
	return upstream.Credential{Username: user, Password: password}, nil
}

func unauthorized(message string) error {
	return &refusal{status: http.StatusUnauthorized, code: codeUnauthorized, message: message, challenge: true}
}

// key gives the name under which decisions about a credential are kept. Who reads it learns nothing, and cannot try passwords either: the
// key of the hash lies elsewhere.
func (h *Handler) key(credential upstream.Credential) Key {
	if credential.IsZero() {
		return Key{}
	}
	mac := hmac.New(sha256.New, h.cfg.Key)
	for _, field := range []string{"holdfast mirror credential", credential.Username, credential.Password, credential.IdentityToken} {
		writeField(mac, field)
	}
	return Key(mac.Sum(nil))
}

// writeField writes the length first, so that no two credentials give the same bytes.
func writeField(h hash.Hash, field string) {
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(field))))
	h.Write([]byte(field))
}
