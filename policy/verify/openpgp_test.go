package verify_test

import (
	"bytes"
	"crypto"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/holdfast-dev/holdfast/policy/trust"
	"github.com/holdfast-dev/holdfast/policy/verify"
	vt "github.com/holdfast-dev/holdfast/policy/verify/verifytest"
)

// pgpConfig makes keys and signatures of that time.
func pgpConfig(at time.Time, change func(*packet.Config)) *packet.Config {
	c := &packet.Config{Time: func() time.Time { return at }, Algorithm: packet.PubKeyAlgoEdDSA, DefaultHash: crypto.SHA256}
	if change != nil {
		change(c)
	}
	return c
}

func pgpKey(t *testing.T, at time.Time, change func(*packet.Config)) *openpgp.Entity {
	t.Helper()
	e, err := openpgp.NewEntity("Greta", "", "greta@example.com", pgpConfig(at, change))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func armored(t *testing.T, kind string, write func(*bytes.Buffer)) string {
	t.Helper()
	var raw, out bytes.Buffer
	write(&raw)
	w, err := armor.Encode(&out, kind, nil)
	if err == nil {
		_, err = w.Write(raw.Bytes())
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.String() + "\n"
}

func public(t *testing.T, e *openpgp.Entity) string {
	return armored(t, openpgp.PublicKeyType, func(b *bytes.Buffer) {
		if err := e.Serialize(b); err != nil {
			t.Fatal(err)
		}
	})
}

// signature makes a detached signature, once per call of write's loop if times is more than one.
func signature(t *testing.T, e *openpgp.Entity, payload []byte, times int, c *packet.Config) string {
	return armored(t, openpgp.SignatureType, func(b *bytes.Buffer) {
		for range times {
			if err := openpgp.DetachSign(b, []*openpgp.Entity{e}, bytes.NewReader(payload), c); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// pgpCommit makes a commit of that date, signed with what sign gives for its payload.
func pgpCommit(t *testing.T, r *vt.Repo, date time.Time, sign func(payload []byte) string) string {
	t.Helper()
	plain := r.Commit(vt.Commit{Files: cue(date.String()), Date: date, Detached: true})
	payload := r.Raw(plain)
	head, body, _ := bytes.Cut(payload, []byte("\n\n"))
	raw := bytes.Join([][]byte{head, []byte("\n" + vt.Header("gpgsig", sign(payload)) + "\n"), body}, nil)
	id := r.Write("commit", raw)
	r.SetRef("refs/heads/main", id)
	return id
}

// pgpRepo is a repo whose trust holds the key as greta's.
func pgpRepo(t *testing.T, key string) (*vt.Repo, verify.State) {
	t.Helper()
	p := vt.DefaultPolicy()
	ops := p.Roles["ops"]
	ops.Principals = append(ops.Principals, "greta")
	p.Roles["ops"] = ops
	r := vt.New(t, vt.InMemory(), vt.WithPolicy(p))
	files := r.TrustFiles(p)
	files["trust/pgp/greta.asc"] = key
	signers, err := trust.ParseSigners([]byte(files["trust/allowed_signers"]))
	if err != nil {
		t.Fatal(err)
	}
	files["trust/allowed_signers"] = string(trust.FormatSigners(signers[:len(signers)-1])) // greta has no SSH key
	r.Push("alice", files)
	return r, accepted(t, r, enrol(t, r))
}

func TestOpenPGP(t *testing.T) {
	made := vt.Start.Add(-24 * time.Hour)
	day := 24 * time.Hour
	month := func(c *packet.Config) { c.KeyLifetimeSecs = uint32((30 * day).Seconds()) }
	revoke := func(reason packet.ReasonForRevocation, at time.Time) func(*testing.T, *openpgp.Entity) {
		return func(t *testing.T, e *openpgp.Entity) {
			if err := e.Revoke(reason, "", pgpConfig(at, nil)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		key    func(*packet.Config)
		then   func(*testing.T, *openpgp.Entity)
		date   time.Time
		sign   func(*packet.Config)
		reason string
	}{
		"good":                {nil, nil, vt.Start.Add(day), nil, verify.Accepted},
		"before it expires":   {month, nil, made.Add(29 * day), nil, verify.Accepted},
		"expired":             {month, nil, made.Add(31 * day), nil, verify.KeyNotValid},
		"revoked, superseded": {nil, revoke(packet.KeySuperseded, vt.Start.Add(day)), vt.Start.Add(2 * day), nil, verify.KeyNotValid},
		"superseded later":    {nil, revoke(packet.KeySuperseded, vt.Start.Add(3*day)), vt.Start.Add(2 * day), nil, verify.Accepted},
		"compromised later":   {nil, revoke(packet.KeyCompromised, vt.Start.Add(3*day)), vt.Start.Add(2 * day), nil, verify.KeyNotValid},
		"RSA":                 {func(c *packet.Config) { c.Algorithm, c.RSABits = packet.PubKeyAlgoRSA, 2048 }, nil, vt.Start.Add(day), nil, verify.Accepted},
		"an expired signature": {nil, nil, vt.Start.Add(day), func(c *packet.Config) {
			c.SigLifetimeSecs = 60
			c.Time = func() time.Time { return vt.Start }
		}, verify.KeyNotValid},
	} {
		t.Run(name, func(t *testing.T) {
			e := pgpKey(t, made, c.key)
			if c.then != nil {
				c.then(t, e)
			}
			r, s := pgpRepo(t, public(t, e))
			signer := *e
			signer.Revocations = nil
			pgpCommit(t, r, c.date, func(payload []byte) string {
				at := c.date
				if c.reason == verify.KeyNotValid {
					at = made.Add(time.Hour) // the key would refuse later
				}
				return signature(t, &signer, payload, 1, pgpConfig(at, c.sign))
			})
			if v := judge(t, r, s); v.Reason != c.reason {
				t.Fatalf("verdict is %s: %s", v.Reason, v.Message)
			} else if v.Accepted && (v.Commits[0].Signer != "greta" || len(v.Commits[0].Key) != 40) {
				t.Fatalf("signed by %+v", v.Commits[0])
			}
		})
	}
}

func TestOpenPGPRefused(t *testing.T) {
	made, date := vt.Start.Add(-time.Hour), vt.Start.Add(24*time.Hour)
	greta, other := pgpKey(t, made, nil), pgpKey(t, made, nil)
	config := pgpConfig(date, nil)
	for name, c := range map[string]struct {
		sign   func(payload []byte) string
		reason string
	}{
		"another key":  {func(p []byte) string { return signature(t, other, p, 1, config) }, verify.UnknownKey},
		"other bytes":  {func([]byte) string { return signature(t, greta, []byte("x"), 1, config) }, verify.BadSignature},
		"twice in one": {func(p []byte) string { return signature(t, greta, p, 2, config) }, verify.MultipleSignatures},
		"twice": {func(p []byte) string {
			one := signature(t, greta, p, 1, config)
			return one + one
		}, verify.MultipleSignatures},
		"of text": {func(p []byte) string { return handmade(t, greta, packet.SigTypeText, crypto.SHA256, p, date) }, verify.BadSignature},
		"handmade, of bytes by SHA-256": {func(p []byte) string {
			return handmade(t, greta, packet.SigTypeBinary, crypto.SHA256, p, date)
		}, verify.Accepted},
		"a key for a signature": {func([]byte) string {
			return strings.ReplaceAll(public(t, greta), "PUBLIC KEY BLOCK", "SIGNATURE")
		}, verify.BadSignature},
	} {
		t.Run(name, func(t *testing.T) {
			r, s := pgpRepo(t, public(t, greta))
			pgpCommit(t, r, date, c.sign)
			if v := judge(t, r, s); v.Reason != c.reason {
				t.Fatalf("verdict is %s: %s; want %s", v.Reason, v.Message, c.reason)
			}
		})
	}
}

// handmade makes signatures that the library's own signer would not.
func handmade(t *testing.T, e *openpgp.Entity, typ packet.SignatureType, hash crypto.Hash, payload []byte, at time.Time) string {
	t.Helper()
	return armored(t, openpgp.SignatureType, func(b *bytes.Buffer) {
		sig := &packet.Signature{Version: 4, SigType: typ, PubKeyAlgo: e.PrimaryKey.PubKeyAlgo, Hash: hash, CreationTime: at, IssuerKeyId: &e.PrimaryKey.KeyId}
		h := hash.New()
		h.Write(payload)
		if err := sig.Sign(h, e.PrivateKey, pgpConfig(at, nil)); err != nil {
			t.Fatal(err)
		}
		if err := sig.Serialize(b); err != nil {
			t.Fatal(err)
		}
	})
}

// TestWeakOpenPGPKeys: trust/ does not take them.
func TestWeakOpenPGPKeys(t *testing.T) {
	weak := pgpKey(t, vt.Start, func(c *packet.Config) { c.Algorithm, c.RSABits = packet.PubKeyAlgoRSA, 1024 })
	private := armored(t, openpgp.PrivateKeyType, func(b *bytes.Buffer) {
		if err := pgpKey(t, vt.Start, nil).SerializePrivate(b, nil); err != nil {
			t.Fatal(err)
		}
	})
	strong := public(t, pgpKey(t, vt.Start, nil))
	policy := vt.DefaultPolicy().JSON()
	for name, c := range map[string]struct {
		files trust.Files
		want  string
	}{
		"RSA of 1024 bits": {trust.Files{"pgp/greta.asc": []byte(public(t, weak))}, "an RSA key of 1024 bits: at least 2048"},
		"a private key":    {trust.Files{"pgp/greta.asc": []byte(private)}, "private key"},
		"one key for two":  {trust.Files{"pgp/a.asc": []byte(strong), "pgp/b.asc": []byte(strong)}, "a key belongs to one principal"},
	} {
		t.Run(name, func(t *testing.T) {
			c.files["policy.json"] = policy
			if _, err := trust.Parse(c.files); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v", err)
			}
		})
	}
}
