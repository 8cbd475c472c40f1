package trust

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// PGPKey is one OpenPGP key below pgp/.
type PGPKey struct {
	// Principal is the stem of the file's name.
	Principal string
	File      string
	Entity    *openpgp.Entity
}

// Fingerprint gives the primary key's fingerprint in upper-case hex.
func (k PGPKey) Fingerprint() string { return fingerprint(k.Entity.PrimaryKey) }

func fingerprint(k *packet.PublicKey) string {
	return strings.ToUpper(hex.EncodeToString(k.Fingerprint))
}

// pgpConfig refuses what is weak: DSA, RSA under 2048 bits, and SHA-1 and older, also in a key's own certifications.
func pgpConfig() *packet.Config {
	weak := map[crypto.Hash]bool{crypto.SHA1: true, crypto.MD5: true, crypto.RIPEMD160: true}
	return &packet.Config{
		MinRSABits:                  minRSABits,
		RejectPublicKeyAlgorithms:   map[packet.PublicKeyAlgorithm]bool{packet.PubKeyAlgoDSA: true, packet.PubKeyAlgoElGamal: true},
		RejectHashAlgorithms:        weak,
		RejectMessageHashAlgorithms: weak,
	}
}

// readPGP reads one armored file of public keys.
func (t *Trust) readPGP(name, stem string, data []byte) error {
	if err := checkPrincipal(stem); err != nil {
		return errorIn(name, 0, "%v", err)
	}
	list, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(data))
	if err != nil {
		return errorIn(name, 0, "not an armored OpenPGP public key: %v", err)
	}
	if len(list) == 0 {
		return errorIn(name, 0, "holds no key")
	}
	for _, e := range list {
		if e.PrivateKey != nil {
			return errorIn(name, 0, "holds a private key: revoke that key and export the public one with gpg --armor --export")
		}
		k := PGPKey{Principal: stem, File: name, Entity: e}
		if err := strongPGP(e.PrimaryKey); err != nil {
			return errorIn(name, 0, "key %s: %v", k.Fingerprint(), err)
		}
		for _, other := range t.PGPKeys {
			if other.Fingerprint() == k.Fingerprint() {
				return errorIn(name, 0, "key %s is also in %s: a key belongs to one principal and stands in one place", k.Fingerprint(), other.File)
			}
		}
		t.PGPKeys = append(t.PGPKeys, k)
	}
	return nil
}

func strongPGP(k *packet.PublicKey) error {
	switch k.PubKeyAlgo {
	case packet.PubKeyAlgoDSA, packet.PubKeyAlgoElGamal:
		return errors.New("DSA is refused: use ed25519, ECDSA or RSA")
	case packet.PubKeyAlgoRSA, packet.PubKeyAlgoRSASignOnly:
		if bits, err := k.BitLength(); err != nil || bits < minRSABits {
			return fmt.Errorf("an RSA key of %d bits: at least %d", bits, minRSABits)
		}
	}
	return nil
}

// ErrBadSignature: a principal's key, but the signature is not over this message, or is of a refused kind.
var ErrBadSignature = errors.New("bad signature")

// PGPPrincipal gives who made the signature over the message, and the fingerprint of the key it was made with, judging the
// key as of that time: not expired, not revoked, allowed to sign. The error is or wraps ErrUnknownKey, ErrKeyNotValid or
// ErrBadSignature; with the latter two the principal is given, too.
func (t *Trust) PGPPrincipal(sig *packet.Signature, message []byte, at time.Time) (principal, key string, err error) {
	if sig.IssuerKeyId == nil {
		return "", "", fmt.Errorf("%w: the signature names no key", ErrBadSignature)
	}
	t.pgpMu.Lock()
	defer t.pgpMu.Unlock()
	err = fmt.Errorf("%w: OpenPGP key %016X", ErrUnknownKey, *sig.IssuerKeyId)
	for _, k := range t.PGPKeys {
		for _, held := range (openpgp.EntityList{k.Entity}).KeysById(*sig.IssuerKeyId) {
			if sig.IssuerFingerprint != nil && !bytes.Equal(sig.IssuerFingerprint, held.PublicKey.Fingerprint) {
				continue
			}
			principal, key = k.Principal, fingerprint(held.PublicKey)
			if err = k.check(held.PublicKey, sig, message, at); err == nil {
				return principal, key, nil
			}
		}
	}
	return principal, key, err
}

// check holds a signature by one key of the entity against the message.
func (k PGPKey) check(public *packet.PublicKey, sig *packet.Signature, message []byte, at time.Time) error {
	config := pgpConfig()
	if config.RejectMessageHashAlgorithm(sig.Hash) {
		return fmt.Errorf("%w: made with %s, which is refused", ErrBadSignature, sig.Hash)
	}
	for _, n := range sig.Notations {
		if n.IsCritical {
			return fmt.Errorf("%w: a critical notation %q that is not known", ErrBadSignature, n.Name)
		}
	}
	hash, err := sig.PrepareVerify()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBadSignature, err)
	}
	hash.Write(message)
	if err := public.VerifySignature(hash, sig); err != nil {
		return fmt.Errorf("%w: by OpenPGP key %s, over other bytes than these", ErrBadSignature, fingerprint(public))
	}
	usable, ok := k.Entity.SigningKeyById(at, public.KeyId, config)
	if !ok || !bytes.Equal(usable.PublicKey.Fingerprint, public.Fingerprint) {
		return fmt.Errorf("%w: OpenPGP key %s of %s was not there yet, expired, revoked, too weak or not for signing at %s", ErrKeyNotValid, fingerprint(public), k.Principal, stamp(at))
	}
	if sig.SigLifetimeSecs != nil && *sig.SigLifetimeSecs != 0 && at.After(sig.CreationTime.Add(time.Duration(*sig.SigLifetimeSecs)*time.Second)) {
		return fmt.Errorf("%w: the signature by OpenPGP key %s expired before %s", ErrKeyNotValid, fingerprint(public), stamp(at))
	}
	return nil
}
