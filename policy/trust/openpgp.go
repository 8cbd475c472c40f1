package trust

import (
	"bytes"
	"encoding/hex"
	"strings"

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
func (k PGPKey) Fingerprint() string {
	return strings.ToUpper(hex.EncodeToString(k.Entity.PrimaryKey.Fingerprint))
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
		for _, other := range t.PGPKeys {
			if other.Fingerprint() == k.Fingerprint() {
				return errorIn(name, 0, "key %s is also in %s: a key belongs to one principal", k.Fingerprint(), other.File)
			}
		}
		t.PGPKeys = append(t.PGPKeys, k)
	}
	return nil
}
