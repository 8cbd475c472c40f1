package enrolment_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/policy/enrolment"
)

// newKey makes a key that is the same in each run.
func newKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func fingerprint(key ed25519.PrivateKey) enrolment.Fingerprint {
	return enrolment.PublicKeyOf(key).Fingerprint()
}

func TestFingerprintIsOfTheSubjectPublicKeyInfo(t *testing.T) {
	key := newKey("a")
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if got := fingerprint(key); got != sha256.Sum256(der) {
		t.Errorf("fingerprint %s is not that of the standard library's SubjectPublicKeyInfo", got)
	}
}

func TestKeysHaveOneSpelling(t *testing.T) {
	key := enrolment.PublicKeyOf(newKey("a"))
	if again, err := enrolment.ParsePublicKey(key.String()); err != nil || again != key {
		t.Errorf("%s became %s: %v", key, again, err)
	}
	f := key.Fingerprint()
	if again, err := enrolment.ParseFingerprint(f.String()); err != nil || again != f {
		t.Errorf("%s became %s: %v", f, again, err)
	}
	good := f.String()
	for what, text := range map[string]string{
		"nothing": "", "no prefix": good[len("SHA256:"):], "another hash": strings.Replace(good, "SHA256", "SHA512", 1),
		"case of the prefix": strings.ToLower(good[:7]) + good[7:], "padded": good + "=", "cut": good[:len(good)-1], "longer": good + "A",
		"a line's end": good[:20] + "\n" + good[21:], "loose last bits": good[:len(good)-1] + "B", "URL alphabet": "SHA256:" + strings.Repeat("_", 43),
	} {
		if again, err := enrolment.ParseFingerprint(text); err == nil && (what != "loose last bits" || again == f) {
			t.Errorf("%s: %q was read as %s", what, text, again)
		}
	}
}

// TestKeysOfSmallOrder: under such a key a signature of zeroes holds for some message, under a real key for none.
func TestKeysOfSmallOrder(t *testing.T) {
	signature := make([]byte, ed25519.SignatureSize)
	signature[0] = 1 // R is the neutral element, S is zero
	forged := func(key []byte) bool {
		for m := range 255 {
			if ed25519.Verify(key, []byte{byte(m)}, signature) {
				return true
			}
		}
		return false
	}
	if key := newKey("a").Public().(ed25519.PublicKey); forged(key) {
		t.Fatal("a signature was forged for a good key")
	}
	for _, text := range []string{
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"0000000000000000000000000000000000000000000000000000000000000080",
	} {
		raw, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if !forged(raw) {
			t.Errorf("%s: this test is wrong: nothing was forged", text)
		}
		key := enrolment.PublicKey(raw)
		if _, err := enrolment.ParsePublicKey(key.String()); err == nil {
			t.Errorf("%s was taken, for which anyone can sign", text)
		}
	}
}

func TestSecret(t *testing.T) {
	s := enrolment.NewSecret()
	text := s.Reveal()
	if len(text) != 35 || strings.Count(text, "-") != 5 {
		t.Fatalf("secret %q", text)
	}
	for what, typed := range map[string]string{
		"as shown": text, "lower case": strings.ToLower(text), "no dashes": strings.ReplaceAll(text, "-", ""),
		"blanks": " " + strings.ReplaceAll(text, "-", "  ") + "\r\n", "I for 1": strings.ReplaceAll(text, "1", "I"),
		"l for 1": strings.ReplaceAll(text, "1", "l"), "o for 0": strings.ReplaceAll(text, "0", "o"),
	} {
		again, err := enrolment.ParseSecret(typed)
		if err != nil || again != s || again.PublicKey() != s.PublicKey() {
			t.Errorf("%s: %v", what, err)
		}
	}
	if enrolment.NewSecret().Reveal() == text {
		t.Error("two secrets are one")
	}
	if strings.Contains(strings.Join([]string{s.String(), s.GoString(), s.LogValue().String()}, " "), text[:5]) {
		t.Error("a secret prints")
	}
}

// TestSlipsAreSeen changes each character to each other: none makes another secret.
func TestSlipsAreSeen(t *testing.T) {
	text, err := enrolment.ParseSecret("00000-00000-00000-00000-00000-1AAAA")
	if err == nil {
		t.Fatalf("a secret without its checksum was taken: %s", text.Reveal())
	}
	s := enrolment.NewSecret().Reveal()
	slips := 0
	for i := range s {
		for _, r := range "0123456789ABCDEFGHJKMNPQRSTVWXYZUI*é" {
			wrong := s[:i] + string(r) + s[i+1:]
			got, err := enrolment.ParseSecret(wrong)
			if err == nil && got.Reveal() != s {
				slips++
			}
		}
	}
	// A slip passes once in 2^22; with a thousand slips two passing is as good as a bug.
	if slips > 1 {
		t.Errorf("%d slips of one character passed for another secret", slips)
	}
}

// TestDerivationStays: fleet repos hold public keys that were derived so.
func TestDerivationStays(t *testing.T) {
	s, err := enrolment.ParseSecret(goldenSecret)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.PublicKey().String(); got != goldenPublic {
		t.Errorf("public key %s, want %s", got, goldenPublic)
	}
}

const (
	goldenSecret = "008J4-CT4AN-K7F24-SNAXW-SQFEZ-WFSF4"
	goldenPublic = "ed25519:kWMtPmymJBapeouEz7J0GeO7T7OmGsce6Qm50lUzVL8"
)
