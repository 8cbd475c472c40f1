package trust

import (
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// keyTypes are the key types a principal may hold.
var keyTypes = map[string]bool{
	ssh.KeyAlgoED25519: true, ssh.KeyAlgoECDSA256: true, ssh.KeyAlgoECDSA384: true, ssh.KeyAlgoECDSA521: true,
	ssh.KeyAlgoRSA: true, ssh.KeyAlgoSKED25519: true, ssh.KeyAlgoSKECDSA256: true,
}

func refusedTypes(name string) bool {
	return strings.HasPrefix(name, "ssh-") || strings.HasPrefix(name, "ecdsa-") || strings.HasPrefix(name, "sk-")
}

const minRSABits = 2048

// parseKey reads "keytype base64-key [comment]".
func parseKey(text string) (ssh.PublicKey, string, error) {
	fields := strings.SplitN(text, " ", 3)
	if len(fields) < 2 {
		return nil, "", errors.New("no key: want \"keytype base64-key\"")
	}
	if !keyTypes[fields[0]] {
		return nil, "", fmt.Errorf("key type %q is refused: use ed25519, ecdsa, rsa or a security key (sk-…)", fields[0])
	}
	wire, err := base64.StdEncoding.Strict().DecodeString(fields[1])
	if err != nil {
		return nil, "", fmt.Errorf("the key is not base64: %w", err)
	}
	key, err := ssh.ParsePublicKey(wire)
	if err != nil {
		return nil, "", fmt.Errorf("the key cannot be read: %w", err)
	}
	if key.Type() != fields[0] {
		return nil, "", fmt.Errorf("the key is of type %q, not %q", key.Type(), fields[0])
	}
	if bits := rsaBits(key); bits > 0 && bits < minRSABits {
		return nil, "", fmt.Errorf("an RSA key of %d bits: at least %d", bits, minRSABits)
	}
	comment := ""
	if len(fields) == 3 {
		comment = strings.TrimSpace(fields[2])
	}
	return key, comment, nil
}

// rsaBits gives an RSA key's size, and 0 for other keys.
func rsaBits(key ssh.PublicKey) int {
	if c, ok := key.(ssh.CryptoPublicKey); ok {
		if k, ok := c.CryptoPublicKey().(*rsa.PublicKey); ok {
			return k.N.BitLen()
		}
	}
	return 0
}
