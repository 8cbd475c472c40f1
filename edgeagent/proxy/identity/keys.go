package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha256" // the hashes of algorithms
	_ "crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
)

// algorithms are those that tokens may be signed with. There is no "none", and none with a shared secret.
var algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// hashes by the number in an algorithm's name.
var hashes = map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}

const (
	maxKeys    = 64      // in a document
	minRSA     = 2048    // bits
	maxRSA     = 16384   // bits
	maxJWKS    = 1 << 20 // bytes
	wordOfUse  = "sig"
	curveOfEd  = "Ed25519"
	typeOfEd   = "OKP"
	algorithmE = "EdDSA"
)

// publicKey is one key of a JSON Web Key Set.
type publicKey struct {
	id, algorithm string // algorithm is "" if the document does not say
	key           crypto.PublicKey
}

// parseKeys reads a JSON Web Key Set. Keys of kinds that are not known are left out: a cluster may add some.
func parseKeys(raw []byte) ([]publicKey, error) {
	var set struct {
		Keys []jwk `json:"keys"`
	}
	if len(raw) > maxJWKS {
		return nil, errors.New("the key set is too large")
	}
	if err := json.Unmarshal(raw, &set); err != nil {
		return nil, fmt.Errorf("read key set: %w", err)
	}
	var keys []publicKey
	for _, k := range set.Keys[:min(len(set.Keys), maxKeys)] {
		if k.Use != "" && k.Use != wordOfUse {
			continue
		}
		if key := k.public(); key != nil {
			keys = append(keys, publicKey{id: k.ID, algorithm: k.Algorithm, key: key})
		}
	}
	return keys, nil
}

// jwk is a key as the document has it.
type jwk struct {
	Type      string `json:"kty"`
	Use       string `json:"use"`
	ID        string `json:"kid"`
	Algorithm string `json:"alg"`
	Curve     string `json:"crv"`
	N         string `json:"n"`
	E         string `json:"e"`
	X         string `json:"x"`
	Y         string `json:"y"`
}

func number(text string) []byte {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil
	}
	return raw
}

// public gives the key, or nil if it is not one that can be used.
func (k jwk) public() crypto.PublicKey {
	switch k.Type {
	case "RSA":
		n, e := new(big.Int).SetBytes(number(k.N)), new(big.Int).SetBytes(number(k.E))
		if n.BitLen() < minRSA || n.BitLen() > maxRSA || !e.IsInt64() || e.Int64() < 3 || e.Int64() > 1<<31-1 {
			return nil
		}
		return &rsa.PublicKey{N: n, E: int(e.Int64())}
	case "EC":
		for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
			if curve.Params().Name != k.Curve {
				continue
			}
			size := (curve.Params().BitSize + 7) / 8
			x, y := number(k.X), number(k.Y)
			if len(x) > size || len(y) > size {
				return nil
			}
			point := make([]byte, 1+2*size)
			point[0] = 4
			copy(point[1+size-len(x):], x)
			copy(point[1+2*size-len(y):], y)
			if key, err := ecdsa.ParseUncompressedPublicKey(curve, point); err == nil {
				return key
			}
		}
	case typeOfEd:
		if x := number(k.X); k.Curve == curveOfEd && len(x) == ed25519.PublicKeySize {
			return ed25519.PublicKey(x)
		}
	}
	return nil
}

// fits tells whether a token may be signed with this key. A token without a key's name may be signed with any.
func (k publicKey) fits(algorithm, id string) bool {
	if (id != "" && k.id != "" && id != k.id) || (k.algorithm != "" && k.algorithm != algorithm) {
		return false
	}
	switch key := k.key.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(algorithm, "RS") || strings.HasPrefix(algorithm, "PS")
	case *ecdsa.PublicKey:
		return algorithm == map[string]string{"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}[key.Params().Name]
	case ed25519.PublicKey:
		return algorithm == algorithmE
	}
	return false
}

// verify checks a token's signature with a key that fits.
func (k publicKey) verify(t token) bool {
	if key, ok := k.key.(ed25519.PublicKey); ok {
		return ed25519.Verify(key, []byte(t.signed), t.signature)
	}
	hash := hashes[t.algorithm[2:]]
	h := hash.New()
	h.Write([]byte(t.signed))
	digest := h.Sum(nil)
	switch key := k.key.(type) {
	case *rsa.PublicKey:
		if strings.HasPrefix(t.algorithm, "PS") {
			return rsa.VerifyPSS(key, hash, digest, t.signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
		return rsa.VerifyPKCS1v15(key, hash, digest, t.signature) == nil
	case *ecdsa.PublicKey:
		size := (key.Params().BitSize + 7) / 8
		if len(t.signature) != 2*size {
			return false
		}
		r, s := new(big.Int).SetBytes(t.signature[:size]), new(big.Int).SetBytes(t.signature[size:])
		return ecdsa.Verify(key, digest, r, s)
	}
	return false
}
