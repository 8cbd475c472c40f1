package images_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha512"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/policy/images"
	"github.com/holdfast-dev/holdfast/policy/trust"
)

func verify(t testing.TB, tr *trust.Trust, m *memory, digest string) (images.Verdict, error) {
	t.Helper()
	return images.Verify(t.Context(), images.Request{Trust: tr, Repository: repository, Digest: digest, Store: m})
}

// mustAllow wants an image to be allowed by these keys.
func mustAllow(t testing.TB, tr *trust.Trust, m *memory, digest string, keys ...string) images.Verdict {
	t.Helper()
	v, err := verify(t, tr, m, digest)
	if err != nil || !v.Required || !slices.Equal(v.Keys, keys) {
		t.Fatalf("got %+v, %v, want it allowed by %q", v, err, keys)
	}
	return v
}

// mustRefuse wants an image to be refused for a reason, with these words.
func mustRefuse(t testing.TB, tr *trust.Trust, m *memory, digest, reason, words string) {
	t.Helper()
	v, err := verify(t, tr, m, digest)
	var refusal *images.Refusal
	if !errors.As(err, &refusal) || refusal.StableReason() != reason || !strings.Contains(err.Error(), words) {
		t.Fatalf("got %+v, %v, want %s: %s", v, err, reason, words)
	}
	if len(v.Keys) > 0 || v.Digest != "" {
		t.Fatalf("a refusal with the verdict %+v", v)
	}
}

// places are the four ways in which cosign attaches signatures.
var places = map[string]func(m *memory, s signer, about, to string){
	"tag": func(m *memory, s signer, about, to string) {
		p := payloadOf(about)
		m.attachTag(to, m.simple(p, s.sign(p)))
	},
	"bundle, referrers API": func(m *memory, s signer, about, to string) {
		m.attachReferrers(to, bundleType, m.bundle(bundleOf(s, statementOf(about))))
	},
	"bundle, fallback tag": func(m *memory, s signer, about, to string) {
		m.manifests[images.ReferrersTag(to)] = m.attachReferrers(to, "application/vnd.oci.empty.v1+json", m.bundle(bundleOf(s, statementOf(about))))
		delete(m.referrers, to)
	},
	"payload, referrers API": func(m *memory, s signer, about, to string) {
		p := payloadOf(about)
		m.attachReferrers(to, "application/vnd.dev.cosign.artifact.sig.v1+json", m.simple(p, s.sign(p)))
	},
}

func TestEveryPlace(t *testing.T) {
	key, stranger := anySigner(t), anySigner(t)
	tr := trustOf(t, map[string]signer{"build": key}, trust.Image{})
	for name, attach := range places {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			image, other := m.image("a"), m.image("b")
			mustRefuse(t, tr, m, image, images.SignatureMissing, "must be signed, and no signature of it is stored")
			attach(m, stranger, image, image)
			mustRefuse(t, tr, m, image, images.SignatureInvalid, "was made with none of the keys build")
			attach(m, key, other, image)
			mustRefuse(t, tr, m, image, images.SignatureInvalid, "is over another image")
			attach(m, key, image, image)
			if v := mustAllow(t, tr, m, image, "build"); v.Digest != image {
				t.Fatalf("got %+v", v)
			}
			mustRefuse(t, tr, m, other, images.SignatureMissing, "must be signed")
			for digest := range m.blobs {
				delete(m.blobs, digest)
			}
			mustRefuse(t, tr, m, image, images.SignatureInvalid, "is not stored")
		})
	}
}

func TestEveryKindOfKey(t *testing.T) {
	for name, key := range map[string]signer{
		"P-256":           ecdsaSigner(t, elliptic.P256(), crypto.SHA256),
		"P-384, SHA-256":  ecdsaSigner(t, elliptic.P384(), crypto.SHA256),
		"P-384, SHA-384":  ecdsaSigner(t, elliptic.P384(), crypto.SHA384),
		"P-521, SHA-256":  ecdsaSigner(t, elliptic.P521(), crypto.SHA256),
		"P-521, SHA-512":  ecdsaSigner(t, elliptic.P521(), crypto.SHA512),
		"Ed25519":         ed25519Signer(t, &ed25519.Options{}),
		"Ed25519, hashed": ed25519Signer(t, &ed25519.Options{Hash: crypto.SHA512}),
		"RSA":             rsaSigner(t),
	} {
		t.Run(name, func(t *testing.T) {
			tr := trustOf(t, map[string]signer{"build": key}, trust.Image{})
			for _, attach := range places {
				m := newMemory()
				image := m.image("a")
				attach(m, key, image, image)
				mustAllow(t, tr, m, image, "build")
				twisted := signer{key.public, func(message []byte) []byte {
					signature := key.sign(message)
					signature[len(signature)-1] ^= 1
					return signature
				}}
				attach(m, twisted, image, image)
				mustRefuse(t, tr, m, image, images.SignatureInvalid, "was made with none of the keys build")
			}
		})
	}
}

// TestSignatureOverNothing makes what anybody can make of a public ECDSA key: a signature over an empty hash.
func TestSignatureOverNothing(t *testing.T) {
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		key := ecdsaSigner(t, curve, crypto.SHA256)
		public := key.public.(*ecdsa.PublicKey)
		// With R = Q, r = x(Q) and s = r, the hash that fits is 0.
		point, err := public.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		x := new(big.Int).SetBytes(point[1 : 1+(len(point)-1)/2])
		r := x.Mod(x, curve.Params().N)
		forged, err := asn1.Marshal(struct{ R, S *big.Int }{r, r})
		if err != nil {
			t.Fatal(err)
		}
		if !ecdsa.VerifyASN1(public, make([]byte, 32), forged) {
			t.Fatal("the forgery is no good: the test proves nothing")
		}
		tr := trustOf(t, map[string]signer{"build": key}, trust.Image{})
		m := newMemory()
		image := m.image("a")
		places["tag"](m, signer{nil, func([]byte) []byte { return forged }}, image, image)
		mustRefuse(t, tr, m, image, images.SignatureInvalid, "was made with none of the keys build")
	}
}

func TestNotRequired(t *testing.T) {
	m := newMemory()
	tr := trustOf(t, map[string]signer{"build": anySigner(t)}, trust.Image{Repository: "registry.example.com/other/**"})
	v, err := verify(t, tr, m, m.image("a"))
	if err != nil || v.Required || m.reads > 0 {
		t.Fatalf("got %+v, %v after %d reads", v, err, m.reads)
	}
}

func TestNames(t *testing.T) {
	m := newMemory()
	tr := trustOf(t, map[string]signer{"build": anySigner(t)}, trust.Image{})
	digest := m.image("a")
	for _, bad := range []images.Request{
		{Repository: "", Digest: digest},
		{Repository: "registry.example.com", Digest: digest},
		{Repository: "registry.example.com/", Digest: digest},
		{Repository: "registry.example.com/app//api", Digest: digest},
		{Repository: "registry.example.com/app/api/", Digest: digest},
		{Repository: "registry.example.com/app/../app/api", Digest: digest},
		{Repository: "registry.example.com/APP/api", Digest: digest},
		{Repository: "https://registry.example.com/app/api", Digest: digest},
		{Repository: "registry.example.com/" + strings.Repeat("a/", 300) + "a", Digest: digest},
		{Repository: repository, Digest: ""},
		{Repository: repository, Digest: "latest"},
		{Repository: repository, Digest: strings.ToUpper(digest)},
		{Repository: repository, Digest: digest[:len(digest)-1]},
		{Repository: repository, Digest: "md5:" + strings.Repeat("0", 32)},
		{Repository: repository, Digest: "sha256:" + strings.Repeat("/", 64)},
	} {
		bad.Trust, bad.Store = tr, m
		_, err := images.Verify(t.Context(), bad)
		var refusal *images.Refusal
		if !errors.As(err, &refusal) || refusal.Reason != images.ImageNameInvalid {
			t.Errorf("%s@%s: got %v", bad.Repository, bad.Digest, err)
		}
	}
	if m.reads > 0 {
		t.Errorf("%d reads under such names", m.reads)
	}
}

// TestSHA512: an image may go by the longer hash.
func TestSHA512(t *testing.T) {
	key := anySigner(t)
	tr := trustOf(t, map[string]signer{"build": key}, trust.Image{})
	sum := sha512.Sum512([]byte("image"))
	digest := "sha512:" + hex.EncodeToString(sum[:])
	for _, attach := range places {
		m := newMemory()
		mustRefuse(t, tr, m, digest, images.SignatureMissing, "")
		attach(m, key, digest, digest)
		mustAllow(t, tr, m, digest, "build")
	}
}

func TestThreshold(t *testing.T) {
	build, release, dev := anySigner(t), anySigner(t), anySigner(t)
	keys := map[string]signer{"build": build, "release": release, "dev": dev}
	tr := trustOf(t, keys, trust.Image{Keys: []string{"build", "release"}, Threshold: 2})
	m := newMemory()
	image := m.image("a")
	p := payloadOf(image)
	by := func(s signer) object { return m.simple(p, s.sign(p)) }

	m.attachTag(image, by(dev))
	mustRefuse(t, tr, m, image, images.SignatureInvalid, "was made with none of the keys build, release")
	m.attachTag(image, by(build), by(build), by(dev))
	mustRefuse(t, tr, m, image, images.TooFewSignatures, "is signed with build, and 2 of the keys build, release must have")
	m.attachTag(image, by(dev), by(release), by(build))
	mustAllow(t, tr, m, image, "build", "release")

	// One beside the image, the other as a referrer.
	m.attachTag(image, by(build))
	m.attachReferrers(image, bundleType, m.bundle(bundleOf(release, statementOf(image))))
	mustAllow(t, tr, m, image, "build", "release")

	// A key that left the trust counts no more.
	delete(keys, "release")
	mustRefuse(t, trustOf(t, keys, trust.Image{Threshold: 2}), m, image, images.TooFewSignatures, "is signed with build")
}

// TestClaims: what a key that counts signed is no signature of an image unless it says so.
func TestClaims(t *testing.T) {
	key := anySigner(t)
	tr := trustOf(t, map[string]signer{"build": key}, trust.Image{})
	m := newMemory()
	image := m.image("a")
	good := string(payloadOf(image))
	for name, c := range map[string]struct{ payload, want string }{
		"another type":   {strings.Replace(good, "cosign container", "atomic container", 1), `it is of type "atomic container image signature"`},
		"no type":        {strings.Replace(good, `"type"`, `"kind"`, 1), `it is of type ""`},
		"no digest":      {strings.Replace(good, image, "", 1), `it is over another image: ""`},
		"twice":          {strings.Replace(good, `"image":`, `"image":{},"image":`, 1), `key "image" stands twice`},
		"another case":   {strings.Replace(good, `"image":`, `"Image":{},"image":`, 1), `key "image" stands twice`},
		"a folded case":  {strings.Replace(good, `"docker-manifest-digest":`, "\"docker-manifest-dige\u017ft\":\"\",\"docker-manifest-digest\":", 1), `stands twice`},
		"something more": {good + "{}", "something follows it"},
		"no JSON":        {"sha256", "no plain JSON"},
		"deep":           {strings.Repeat("[", 1000), "nested too deeply"},
		"a list":         {"[]", "not as cosign writes it"},
	} {
		t.Run("payload: "+name, func(t *testing.T) {
			m.attachTag(image, m.simple([]byte(c.payload), key.sign([]byte(c.payload))))
			mustRefuse(t, tr, m, image, images.SignatureInvalid, c.want)
		})
	}
	m.attachTag(image)
	for name, c := range map[string]struct {
		key, value any
		want       string
	}{
		"a bill of materials": {"predicateType", "https://spdx.dev/Document", `it attests "https://spdx.dev/Document"`},
		"another statement":   {"_type", "https://example.com/Statement", "which does not vouch for an image"},
		"no subject":          {"subject", []object{}, "it is over another image"},
		"another hash":        {"subject", []object{{"digest": object{"sha512": strings.TrimPrefix(image, "sha256:")}}}, "it is over another image"},
	} {
		t.Run("statement: "+name, func(t *testing.T) {
			s := statementOf(image)
			s[c.key.(string)] = c.value
			m.attachReferrers(image, bundleType, m.bundle(bundleOf(key, s)))
			mustRefuse(t, tr, m, image, images.SignatureInvalid, c.want)
		})
	}
}

func TestBundles(t *testing.T) {
	key := anySigner(t)
	tr := trustOf(t, map[string]signer{"build": key}, trust.Image{})
	m := newMemory()
	image := m.image("a")
	for name, c := range map[string]struct {
		change func(bundle, envelope object)
		want   string
	}{
		"another version": {func(b, _ object) { b["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.1" }, "a bundle of type"},
		"no envelope":     {func(b, _ object) { delete(b, "dsseEnvelope") }, "a bundle without dsseEnvelope"},
		"another payload": {func(_, e object) { e["payloadType"] = "text/plain" }, `a bundle over "text/plain"`},
		"no signature":    {func(_, e object) { e["signatures"] = []object{} }, "a bundle with 0 signatures"},
		"an odd payload":  {func(_, e object) { e["payload"] = "!" }, "decode bundle's payload"},
		"an odd one":      {func(_, e object) { e["signatures"] = []object{{"sig": "!"}} }, "decode bundle's signature"},
		"exchanged":       {func(_, e object) { e["payload"] = encode(statementOf(image + "0")) }, "was made with none of the keys build"},
	} {
		t.Run(name, func(t *testing.T) {
			b := bundleOf(key, statementOf(image))
			c.change(b, b["dsseEnvelope"].(object))
			m.attachReferrers(image, bundleType, m.bundle(b))
			mustRefuse(t, tr, m, image, images.SignatureInvalid, c.want)
		})
	}
}

func TestIndexes(t *testing.T) {
	key := anySigner(t)
	tr := trustOf(t, map[string]signer{"build": key}, trust.Image{})
	for name, attach := range places {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			amd, arm, other := m.image("amd64"), m.image("arm64"), m.image("other")
			parent := m.index(amd, arm)
			mustRefuse(t, tr, m, amd, images.SignatureMissing, amd)
			attach(m, key, parent, parent)
			for _, child := range []string{amd, arm, parent} {
				if v := mustAllow(t, tr, m, child, "build"); v.Digest != parent {
					t.Fatalf("got %+v", v)
				}
			}
			// What somebody only claims to be listed is not.
			m.parents[other] = []string{parent, "nonsense", other}
			mustRefuse(t, tr, m, other, images.SignatureMissing, other)
			// An index whose bytes are not those that were signed lists nothing.
			m.manifests[parent] = encode(object{"manifests": []object{{"digest": other}}})
			mustRefuse(t, tr, m, other, images.SignatureMissing, other)
		})
	}
}

func TestNestedIndexes(t *testing.T) {
	key := anySigner(t)
	tr := trustOf(t, map[string]signer{"build": key}, trust.Image{})
	m := newMemory()
	image := m.image("a")
	one := m.index(image)
	two := m.index(one)
	three := m.index(two)
	four := m.index(three)
	places["tag"](m, key, four, four)
	mustRefuse(t, tr, m, image, images.SignatureMissing, image)
	mustAllow(t, tr, m, one, "build")
	places["tag"](m, key, three, three)
	mustAllow(t, tr, m, image, "build")
}

// TestParts: configuration and layers are served as parts of a signed image only.
func TestParts(t *testing.T) {
	key := anySigner(t)
	tr := trustOf(t, map[string]signer{"build": key}, trust.Image{})
	m := newMemory()
	config, layer, subject, other := m.putBlob([]byte("config")), m.putBlob([]byte("layer")), m.image("subject"), m.putBlob([]byte("other"))
	image := m.put(object{"config": object{"digest": config}, "layers": []object{{"digest": layer}}, "subject": object{"digest": subject}})
	index := m.index(image)
	for _, part := range []string{config, layer, subject, other} {
		m.parents[part] = []string{image}
		mustRefuse(t, tr, m, part, images.SignatureMissing, part)
	}
	places["tag"](m, key, index, index)
	m.reads = 0
	for _, part := range []string{config, layer} {
		if v := mustAllow(t, tr, m, part, "build"); v.Digest != index {
			t.Fatalf("got %+v", v)
		}
	}
	if m.reads != 8 { // each the manifest, the index, its signatures and their payload: not what lists no part
		t.Fatalf("%d reads", m.reads)
	}
	for _, part := range []string{subject, other} {
		mustRefuse(t, tr, m, part, images.SignatureMissing, part)
	}
}

// TestBeside: nothing that lies beside a good signature makes it count less.
func TestBeside(t *testing.T) {
	key, stranger := anySigner(t), anySigner(t)
	tr := trustOf(t, map[string]signer{"build": key}, trust.Image{})
	m := newMemory()
	image := m.image("a")
	p := payloadOf(image)
	good := m.simple(p, key.sign(p))
	huge := m.putBlob(make([]byte, 2<<20))
	m.attachTag(image,
		object{}, object{"mediaType": "text/plain", "digest": "x"}, m.simple(p, stranger.sign(p)), m.simple(p, nil),
		object{"mediaType": good["mediaType"], "digest": "../../etc/passwd", "annotations": good["annotations"]},
		object{"mediaType": good["mediaType"], "digest": huge, "annotations": good["annotations"]},
		object{"mediaType": bundleType, "digest": huge}, m.bundle("x"), m.bundle(object{}),
		good)
	mustAllow(t, tr, m, image, "build")

	m.manifests[images.SignatureTag(image)] = []byte("<html>")
	m.referrers[image] = []byte("<html>")
	mustRefuse(t, tr, m, image, images.SignatureInvalid, "the list of referrers is unreadable")
	m.manifests[images.ReferrersTag(image)] = m.attachReferrers(image, bundleType, m.bundle(bundleOf(key, statementOf(image))))
	m.referrers[image] = []byte("<html>")
	mustAllow(t, tr, m, image, "build")

	m.referrers[image] = encode(object{"manifests": []object{
		{"digest": "..", "artifactType": bundleType}, {"digest": digestOf(nil), "artifactType": bundleType},
		{"digest": m.put("no manifest"), "artifactType": bundleType}, {"digest": m.put(object{}), "artifactType": "application/spdx+json"},
	}})
	mustAllow(t, tr, m, image, "build")
}

// TestTooMany: the work is bounded, whatever a registry holds.
func TestTooMany(t *testing.T) {
	key, stranger := anySigner(t), anySigner(t)
	tr := trustOf(t, map[string]signer{"build": key}, trust.Image{})
	m := newMemory()
	image := m.image("a")
	p := payloadOf(image)
	layers := slices.Repeat([]object{m.simple(p, stranger.sign(p))}, 2000)
	m.attachTag(image, append(layers, m.simple(p, key.sign(p)))...)
	m.attachReferrers(image, bundleType, layers...)
	for range 100 {
		m.index(image, m.image(strings.Repeat("x", len(m.parents))))
	}
	mustRefuse(t, tr, m, image, images.SignatureInvalid, "and 254 more")
	if m.reads > 520 { // 256 candidates, and of 64 manifests each its own and where its signatures would be
		t.Fatalf("%d reads", m.reads)
	}
}

// TestManyParents: of what may list an image the first 64 are looked at.
func TestManyParents(t *testing.T) {
	key := anySigner(t)
	tr := trustOf(t, map[string]signer{"build": key}, trust.Image{})
	m := newMemory()
	image := m.image("a")
	for i := range 65 {
		m.index(image, m.image(strings.Repeat("x", i)))
	}
	parents := m.parents[image]
	places["tag"](m, key, parents[64], parents[64])
	mustRefuse(t, tr, m, image, images.SignatureMissing, image)
	places["tag"](m, key, parents[63], parents[63])
	mustAllow(t, tr, m, image, "build")
}

// TestReads: a store is asked for nothing but digests and cosign's tags, and for nothing twice.
func TestReads(t *testing.T) {
	key, stranger := anySigner(t), anySigner(t)
	tr := trustOf(t, map[string]signer{"build": key}, trust.Image{})
	m := newMemory()
	image := m.image("a")
	p := payloadOf(image)
	odd := m.simple(p, key.sign(p))
	odd["digest"] = "../secret"
	m.blobs["../secret"] = p
	m.parents[image] = []string{"../secret", "sha256:short"}
	m.attachTag(image, odd)
	m.manifests[images.ReferrersTag(image)] = m.attachReferrers(image, bundleType, m.bundle(bundleOf(stranger, statementOf(image))), odd)
	asked := map[string]int{}
	m.fail = func(what string) error { asked[what]++; return nil }
	mustRefuse(t, tr, m, image, images.SignatureInvalid, "want \"sha256:\"")
	plain := regexp.MustCompile(`^(parents|referrers|blob sha256:[0-9a-f]{64}|manifest sha256[:-][0-9a-f]{64}(\.sig)?)$`)
	for what, times := range asked {
		if times > 1 || !plain.MatchString(what) {
			t.Errorf("%s was read %d times", what, times)
		}
	}
}

// TestLongerThanAsked: a store that gives more than it was asked for gives nothing.
func TestLongerThanAsked(t *testing.T) {
	key := anySigner(t)
	tr := trustOf(t, map[string]signer{"build": key}, trust.Image{})
	m := newMemory()
	m.endless = true
	image := m.image("a")
	p := slices.Concat(payloadOf(image), bytes.Repeat([]byte(" "), 256<<10))
	m.attachTag(image, m.simple(p, key.sign(p)))
	mustRefuse(t, tr, m, image, images.SignatureInvalid, "is not stored")
}

// TestUnreadable: a store that fails decides nothing, unless enough was found without it.
func TestUnreadable(t *testing.T) {
	key := anySigner(t)
	tr := trustOf(t, map[string]signer{"build": key}, trust.Image{})
	for _, what := range []string{"manifest", "blob", "referrers", "parents"} {
		m := newMemory()
		image := m.image("a")
		places["bundle, fallback tag"](m, key, image, image)
		broken := errors.New("input/output error")
		m.fail = func(read string) error {
			if strings.HasPrefix(read, what) {
				return broken
			}
			return nil
		}
		v, err := verify(t, tr, m, image)
		var refusal *images.Refusal
		switch what {
		case "referrers", "parents":
			if err != nil || len(v.Keys) != 1 {
				t.Errorf("%s: got %+v, %v", what, v, err)
			}
		default:
			if !errors.Is(err, broken) || errors.As(err, &refusal) {
				t.Errorf("%s: got %+v, %v", what, v, err)
			}
		}
	}
}

func TestCancelled(t *testing.T) {
	key := anySigner(t)
	tr := trustOf(t, map[string]signer{"build": key}, trust.Image{})
	m := newMemory()
	image := m.image("a")
	ctx, cancel := context.WithCancel(t.Context())
	m.fail = func(string) error { cancel(); return ctx.Err() }
	_, err := images.Verify(ctx, images.Request{Trust: tr, Repository: repository, Digest: image, Store: m})
	if !errors.Is(err, context.Canceled) || m.reads > 1 {
		t.Fatalf("got %v after %d reads", err, m.reads)
	}
}
