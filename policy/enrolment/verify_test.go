package enrolment_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/policy/enrolment"
)

const fleet, node = "kelp", "berlin-1"

var (
	secret     = enrolment.NewSecret()
	other      = enrolment.NewSecret()
	a, b, c, d = newKey("a"), newKey("b"), newKey("c"), newKey("d")
)

// must gives the proof that was made.
func must(t testing.TB) func(enrolment.Proof, error) enrolment.Proof {
	return func(p enrolment.Proof, err error) enrolment.Proof {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
}

func bySecret(t testing.TB, s enrolment.Secret, key ed25519.PrivateKey) enrolment.Proof {
	return must(t)(enrolment.ProveBySecret(s, fleet, node, key))
}

func byPrevious(t testing.TB, previous, key ed25519.PrivateKey) enrolment.Proof {
	return must(t)(enrolment.ProveByPrevious(previous, fleet, node, key))
}

func keys(list ...ed25519.PrivateKey) (names []enrolment.Fingerprint) {
	for _, k := range list {
		names = append(names, fingerprint(k))
	}
	return names
}

func TestVerify(t *testing.T) {
	open := secret.PublicKey()
	first, ab, bc := bySecret(t, secret, a), byPrevious(t, a, b), byPrevious(t, b, c)
	foreign := must(t)(enrolment.ProveBySecret(secret, fleet, "berlin-2", a))
	elsewhere := must(t)(enrolment.ProveBySecret(secret, "coral", node, a))
	for _, test := range []struct {
		name   string
		known  enrolment.Known
		proofs []enrolment.Proof
		want   []enrolment.Fingerprint // nil: nothing changes
		secret bool
		reason string
	}{
		{"nothing is reported", enrolment.Known{Secret: open}, nil, nil, false, ""},
		{"the first key", enrolment.Known{Secret: open}, []enrolment.Proof{first}, keys(a), true, ""},
		{"the first key, already listed", enrolment.Known{Keys: keys(a)}, []enrolment.Proof{first}, nil, false, ""},
		{"rotated before the first was listed", enrolment.Known{Secret: open}, []enrolment.Proof{first, ab, bc}, keys(c), true, ""},
		{"a key after another", enrolment.Known{Keys: keys(a)}, []enrolment.Proof{first, ab}, keys(a, b), false, ""},
		{"only the last step", enrolment.Known{Keys: keys(a)}, []enrolment.Proof{ab}, keys(a, b), false, ""},
		{"two keys after another", enrolment.Known{Keys: keys(a)}, []enrolment.Proof{ab, bc}, keys(a, c), false, ""},
		{"an older key leaves the list", enrolment.Known{Keys: keys(a, b)}, []enrolment.Proof{ab, bc}, keys(b, c), false, ""},
		{"an older report", enrolment.Known{Keys: keys(a, b)}, []enrolment.Proof{first}, nil, false, ""},
		{"a new machine under the old name", enrolment.Known{Secret: open, Keys: keys(c, d)}, []enrolment.Proof{first}, keys(a), true, ""},

		{"the secret was used", enrolment.Known{Keys: keys(b)}, []enrolment.Proof{first}, nil, false, enrolment.NotVouched},
		{"no secret, no key", enrolment.Known{}, []enrolment.Proof{first}, nil, false, enrolment.NotVouched},
		{"no key to follow", enrolment.Known{}, []enrolment.Proof{ab}, nil, false, enrolment.NotVouched},
		{"another secret", enrolment.Known{Secret: other.PublicKey()}, []enrolment.Proof{first}, nil, false, enrolment.NotVouched},
		{"by a key that is not the newest", enrolment.Known{Keys: keys(a, d)}, []enrolment.Proof{ab}, nil, false, enrolment.NotVouched},
		{"by a key of long ago", enrolment.Known{Keys: keys(c, d)}, []enrolment.Proof{ab}, nil, false, enrolment.NotVouched},
		{"a gap in the chain", enrolment.Known{Secret: open}, []enrolment.Proof{first, bc}, nil, false, enrolment.NotVouched},
		{"a second secret within the chain", enrolment.Known{Secret: open}, []enrolment.Proof{first, bySecret(t, other, d)}, nil, false, enrolment.NotVouched},
		{"another node's", enrolment.Known{Secret: open}, []enrolment.Proof{foreign}, nil, false, enrolment.ProofForeign},
		{"another fleet's", enrolment.Known{Secret: open}, []enrolment.Proof{elsewhere}, nil, false, enrolment.ProofForeign},
		{"too many", enrolment.Known{Secret: open}, slices.Repeat([]enrolment.Proof{first}, enrolment.MaxProofs+1), nil, false, enrolment.ProofInvalid},
	} {
		t.Run(test.name, func(t *testing.T) {
			change, err := enrolment.Verify(fleet, node, test.known, test.proofs)
			if reason(err) != test.reason {
				t.Fatalf("got %v, want reason %q", err, test.reason)
			}
			switch {
			case test.want == nil && change != nil:
				t.Errorf("changes to %v", change.Keys)
			case test.want != nil && (change == nil || change.Node != node || !slices.Equal(change.Keys, test.want) || change.SecretUsed != test.secret):
				t.Errorf("got %+v, want keys %v, secret used: %v", change, test.want, test.secret)
			}
		})
	}
}

// TestEveryFieldIsSigned: a proof that was changed anywhere proves nothing.
func TestEveryFieldIsSigned(t *testing.T) {
	good := byPrevious(t, a, b)
	for what, change := range map[string]func(*enrolment.Proof){
		"fleet":         func(p *enrolment.Proof) { p.Fleet = "coral" },
		"node":          func(p *enrolment.Proof) { p.Node = "berlin-2" },
		"kind":          func(p *enrolment.Proof) { p.Kind = enrolment.BySecret },
		"key":           func(p *enrolment.Proof) { p.Key = enrolment.PublicKeyOf(c) },
		"by":            func(p *enrolment.Proof) { p.By = enrolment.PublicKeyOf(c) },
		"vouched":       func(p *enrolment.Proof) { p.Vouched[7]++ },
		"possessed":     func(p *enrolment.Proof) { p.Possessed[7]++ },
		"swapped":       func(p *enrolment.Proof) { p.Vouched, p.Possessed = p.Possessed, p.Vouched },
		"self":          func(p *enrolment.Proof) { p.By = p.Key },
		"a bad name":    func(p *enrolment.Proof) { p.Node = "../berlin-1" },
		"no name":       func(p *enrolment.Proof) { p.Node = "" },
		"a bad fleet":   func(p *enrolment.Proof) { p.Fleet = "Kelp" },
		"another kind":  func(p *enrolment.Proof) { p.Kind = "admin" },
		"a weak key":    func(p *enrolment.Proof) { p.Key = enrolment.PublicKey{1} },
		"no key at all": func(p *enrolment.Proof) { p.By = enrolment.PublicKey{} },
	} {
		p := good
		change(&p)
		if reason(p.Check()) != enrolment.ProofInvalid {
			t.Errorf("%s: %v", what, p.Check())
		}
	}
}

// TestAnothersKey: who holds the secret cannot enrol a key that is not its own.
func TestAnothersKey(t *testing.T) {
	p := bySecret(t, secret, a)
	p.Key = enrolment.PublicKeyOf(b)
	signed := bySecret(t, secret, b) // what a thief would need, and cannot make: b's own signature
	p.Vouched = signed.Vouched
	if reason(p.Check()) != enrolment.ProofInvalid {
		t.Errorf("a key was enrolled that signed nothing: %v", p.Check())
	}
}

func TestProofsAreReadStrictly(t *testing.T) {
	good, err := json.Marshal(bySecret(t, secret, a))
	if err != nil {
		t.Fatal(err)
	}
	if p, err := enrolment.ParseProof(good); err != nil || p.Key != enrolment.PublicKeyOf(a) {
		t.Fatalf("%+v, %v", p, err)
	}
	for what, text := range map[string]string{
		"nothing": "", "cut": string(good[:len(good)-2]), "two": string(good) + string(good), "an unknown field": strings.Replace(string(good), "{", `{"admin":true,`, 1),
		"no signature": strings.Replace(string(good), `"vouched"`, `"possessed"`, 1), "too long": string(good) + strings.Repeat(" ", enrolment.MaxProofBytes),
		"null": "null", "a list": "[" + string(good) + "]",
	} {
		if _, err := enrolment.ParseProof([]byte(text)); reason(err) != enrolment.ProofInvalid {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestCollect(t *testing.T) {
	prove := func(s enrolment.Secret, node string, key ed25519.PrivateKey) enrolment.Report {
		return enrolment.Report{Node: node, Proofs: []enrolment.Proof{must(t)(enrolment.ProveBySecret(s, fleet, node, key))}}
	}
	longer := prove(secret, "n4", c)
	longer.Proofs = append(longer.Proofs, must(t)(enrolment.ProveByPrevious(c, fleet, "n4", newKey("e"))))
	known := map[string]enrolment.Known{
		"n1": {Secret: secret.PublicKey()}, "n2": {Secret: other.PublicKey()}, "n3": {Secret: secret.PublicKey()},
		"n4": {Secret: secret.PublicKey()}, "n5": {Secret: secret.PublicKey()}, "n6": {Secret: secret.PublicKey()}, "n7": {Keys: keys(d)},
		"n8": {Secret: secret.PublicKey()},
	}
	reports := []enrolment.Report{
		prove(secret, "n1", a), prove(other, "n1", b), // the second proves nothing, and does not stand in the first's way
		prove(secret, "n2", b),                                             // by n1's secret
		prove(secret, "n3", newKey("x")), prove(secret, "n3", newKey("y")), // the secret was used twice
		longer, prove(secret, "n4", c), // one report is older
		prove(secret, "n5", newKey("z")), prove(secret, "n6", newKey("z")), // one key for two nodes
		prove(secret, "n8", d), // a key that is n7's
		prove(secret, "n9", newKey("q")),
	}
	check := func(t *testing.T) {
		changes, refused := enrolment.Collect(fleet, known, reports)
		var got []string
		for _, change := range changes {
			got = append(got, change.Node+" "+change.Keys[len(change.Keys)-1].String())
		}
		want := []string{"n1 " + fingerprint(a).String(), "n4 " + fingerprint(newKey("e")).String()}
		if !slices.Equal(got, want) {
			t.Errorf("changes %v, want %v", got, want)
		}
		var why []string
		for _, r := range refused {
			why = append(why, r.Node+" "+reason(r.Err))
		}
		want = []string{"n1 NotVouched", "n2 NotVouched", "n3 Conflicting", "n5 KeyTaken", "n6 KeyTaken", "n8 KeyTaken", "n9 UnknownNode"}
		if !slices.Equal(why, want) {
			t.Errorf("refused %v, want %v", why, want)
		}
	}
	t.Run("in order", check)
	slices.Reverse(reports)
	t.Run("backwards", check)
}

// FuzzParseProof: what is read was signed, and is written as it was read.
func FuzzParseProof(f *testing.F) {
	good, err := json.Marshal(bySecret(f, secret, a))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(bytes.Replace(good, []byte("kelp"), []byte("coral"), 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := enrolment.ParseProof(data)
		if err != nil {
			if reason(err) != enrolment.ProofInvalid {
				t.Fatalf("refused without its reason: %v", err)
			}
			return
		}
		out, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := enrolment.ParseProof(out); err != nil || again != p {
			t.Fatalf("%s became %s: %v", data, out, err)
		}
	})
}

// FuzzParseSecret: what is read as a secret is written as one spelling.
func FuzzParseSecret(f *testing.F) {
	f.Add(goldenSecret)
	f.Add("00000-00000-00000-00000-00000-00000")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := enrolment.ParseSecret(text)
		if err != nil {
			return
		}
		if again, err := enrolment.ParseSecret(s.Reveal()); err != nil || again != s {
			t.Fatalf("%q became %q: %v", text, s.Reveal(), err)
		}
	})
}

// FuzzParseKeys: a fingerprint or key is written as it was read.
func FuzzParseKeys(f *testing.F) {
	f.Add(fingerprint(a).String())
	f.Add(enrolment.PublicKeyOf(a).String())
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := enrolment.ParseFingerprint(text); err == nil && p.String() != text {
			t.Fatalf("%q became %q", text, p)
		}
		if k, err := enrolment.ParsePublicKey(text); err == nil && k.String() != text {
			t.Fatalf("%q became %q", text, k)
		}
	})
}

// reason is the stable reason of an error.
func reason(err error) string {
	var r interface{ StableReason() string }
	if errors.As(err, &r) {
		return r.StableReason()
	}
	if err != nil {
		return "none: " + err.Error()
	}
	return ""
}
