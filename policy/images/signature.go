package images

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"slices"
)

// isSignature tells whether a key made a signature over a message in one of the ways that cosign signs with such a key. A
// signature does not say in which; none of them is weak, and none is a valid signature over another message in another way.
func isSignature(public crypto.PublicKey, message, signature []byte) bool {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		return slices.ContainsFunc(hashesOf(key.Curve, message), func(sum []byte) bool { return ecdsa.VerifyASN1(key, sum, signature) })
	case ed25519.PublicKey:
		sum := sha512.Sum512(message)
		return ed25519.Verify(key, message, signature) ||
			ed25519.VerifyWithOptions(key, sum[:], signature, &ed25519.Options{Hash: crypto.SHA512}) == nil
	case *rsa.PublicKey:
		sum := sha256.Sum256(message)
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature) == nil
	}
	return false
}

// hashesOf gives the hashes of a message that a key on a curve may have signed: SHA-256, as keys in a cloud's key store do, or
// one as long as the curve, as cosign does with keys it imported. Never an empty one: signatures over that can be made without a key.
func hashesOf(curve elliptic.Curve, message []byte) [][]byte {
	short := sha256.Sum256(message)
	switch curve {
	case elliptic.P384():
		long := sha512.Sum384(message)
		return [][]byte{short[:], long[:]}
	case elliptic.P521():
		long := sha512.Sum512(message)
		return [][]byte{short[:], long[:]}
	}
	return [][]byte{short[:]}
}
