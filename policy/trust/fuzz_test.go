package trust_test

import (
	"testing"

	"github.com/holdfast-dev/holdfast/policy/trust"
)

// FuzzSigners: what is read is written so that it is read as the same, and no key has two holders.
func FuzzSigners(f *testing.F) {
	f.Add([]byte("alice namespaces=\"git\",valid-after=\"20260102Z\" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ7TS0Lr4NxkGRfrbFCcAH0sC0oGDwVnLtKBYeWQ9mgV c\n"))
	f.Add([]byte("# a comment\n\nbob valid-before=\"202601021504\" ssh-rsa AAAA\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		signers, err := trust.ParseSigners(data)
		if err != nil {
			return
		}
		again, err := trust.ParseSigners(trust.FormatSigners(signers))
		if err != nil || len(again) != len(signers) {
			t.Fatalf("%d signers became %d: %v", len(signers), len(again), err)
		}
		holder := map[string]string{}
		for i, s := range signers {
			k := string(s.Key.Marshal())
			if h := holder[k]; h != "" && h != s.Principal {
				t.Fatalf("a key of %s and %s", h, s.Principal)
			}
			holder[k] = s.Principal
			if again[i].Format() != s.Format() {
				t.Fatalf("%q became %q", s.Format(), again[i].Format())
			}
		}
	})
}

// FuzzPolicy: what is read is written so that it is read as the same, and keeps the rules.
func FuzzPolicy(f *testing.F) {
	f.Add([]byte(goodPolicy))
	f.Add([]byte(`{"fleet":"a","roles":{"root":{"principals":["a"],"threshold":1,"paths":["trust/**"]}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := trust.ParsePolicy(data)
		if err != nil {
			return
		}
		again, err := trust.ParsePolicy(p.JSON())
		if err != nil || string(again.JSON()) != string(p.JSON()) {
			t.Fatalf("%s became %s: %v", p.JSON(), again.JSON(), err)
		}
		for name, r := range p.Roles {
			if r.Threshold < 1 || r.Threshold > len(r.Principals) {
				t.Fatalf("role %s: threshold %d of %d", name, r.Threshold, len(r.Principals))
			}
		}
	})
}

// FuzzPGPKeys: no file makes the reader fail in another way than by an error.
func FuzzPGPKeys(f *testing.F) {
	f.Add([]byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEZ\n-----END PGP PUBLIC KEY BLOCK-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		files := trust.Files{"policy.json": []byte(goodPolicy), "pgp/alice.asc": data, "pgp/bob.asc": data}
		if _, err := trust.Parse(files); err == nil {
			t.Fatal("one key passed for two principals")
		}
	})
}
