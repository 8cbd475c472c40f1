package trust_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/policy/trust"
)

// buildKey was made with openssl, and so was its fingerprint.
const (
	buildKey = `-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEgTjSvZ+qME+tMuj4gAxRIuQc/dQ2
nyD3W2sHlKLlBQ0KrkpC3ANtK8ozu1lpXbu12bWbO+MJs86KbC6QjBfguw==
-----END PUBLIC KEY-----
`
	buildFingerprint = "SHA256:Dy0yv0bDT0TTHSQbFrLCR7wuaVlnUkt08WEZzpWG2cs"
)

// publicPEM gives a public key as cosign writes it.
func publicPEM(t testing.TB, public any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func ecdsaPEM(t testing.TB, curve elliptic.Curve) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return publicPEM(t, &key.PublicKey)
}

func rsaPEM(t testing.TB, bits int) []byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return publicPEM(t, &key.PublicKey)
}

// withImages gives a trust folder whose policy.json has these images, with the keys build and release.
func withImages(t testing.TB, images ...trust.Image) trust.Files {
	t.Helper()
	f := files(t)
	p, err := trust.ParsePolicy(f["policy.json"])
	if err != nil {
		t.Fatal(err)
	}
	p.Images = images
	f["policy.json"] = p.JSON()
	f["cosign/release.pub"] = ecdsaPEM(t, elliptic.P384())
	return f
}

func TestCosignKeys(t *testing.T) {
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"p256":    ecdsaPEM(t, elliptic.P256()),
		"p384":    ecdsaPEM(t, elliptic.P384()),
		"p521":    ecdsaPEM(t, elliptic.P521()),
		"ed25519": publicPEM(t, public),
		"rsa":     rsaPEM(t, 2048),
		"no end":  []byte(strings.TrimSpace(buildKey)),
	} {
		f := files(t)
		delete(f, "cosign/build.pub")
		f["cosign/key.pub"] = data
		tr, err := trust.Parse(f)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if k := tr.Cosign["key"]; k.Name != "key" || k.Public == nil || len(k.Fingerprint()) != len(buildFingerprint) {
			t.Errorf("%s: got %+v", name, k)
		}
	}
}

func TestCosignKeysRefused(t *testing.T) {
	der := func(kind string) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: []byte("x")}) }
	for name, c := range map[string]struct {
		file string
		data []byte
		want string
	}{
		"no key":        {"cosign/a.pub", []byte("a key\n"), "trust/cosign/a.pub: not a PEM public key"},
		"empty":         {"cosign/a.pub", nil, "not a PEM public key"},
		"private":       {"cosign/a.pub", der("ENCRYPTED SIGSTORE PRIVATE KEY"), "holds a private key"},
		"a certificate": {"cosign/a.pub", der("CERTIFICATE"), `holds a PEM "CERTIFICATE"`},
		"two":           {"cosign/a.pub", append(ecdsaPEM(t, elliptic.P256()), ecdsaPEM(t, elliptic.P256())...), "more than one PEM public key"},
		"words before":  {"cosign/a.pub", append([]byte("key:\n"), ecdsaPEM(t, elliptic.P256())...), "more than one PEM public key"},
		"broken":        {"cosign/a.pub", der("PUBLIC KEY"), "the key cannot be read"},
		"P-224":         {"cosign/a.pub", ecdsaPEM(t, elliptic.P224()), "an ECDSA key on P-224"},
		"short RSA":     {"cosign/a.pub", rsaPEM(t, 1024), "an RSA key of 1024 bits: from 2048 to 8192"},
		"huge":          {"cosign/a.pub", make([]byte, 17<<10), "17408 bytes, over the bound"},
		"twice":         {"cosign/a.pub", []byte(buildKey), "key " + buildFingerprint + " is also in cosign/"},
		"an odd name":   {"cosign/a b.pub", ecdsaPEM(t, elliptic.P256()), `key "a b"`},
		"no name":       {"cosign/.pub", ecdsaPEM(t, elliptic.P256()), `key ""`},
	} {
		t.Run(name, func(t *testing.T) {
			f := files(t)
			f[c.file] = c.data
			if _, err := trust.Parse(f); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestTooManyCosignKeys(t *testing.T) {
	f := files(t)
	for i := range trust.MaxCosignKeys {
		f[fmt.Sprintf("cosign/k%d.pub", i)] = ecdsaPEM(t, elliptic.P256())
	}
	if _, err := trust.Parse(f); err == nil || !strings.Contains(err.Error(), "more than 64 keys") {
		t.Fatalf("got %v", err)
	}
}

func TestImageOf(t *testing.T) {
	tr, err := trust.Parse(withImages(t,
		trust.Image{Repository: "registry.example.com/**", Signed: "required"},
		trust.Image{Repository: "registry.example.com/app/**", Signed: "required", Keys: []string{"build"}},
		trust.Image{Repository: "registry.example.com/app/*/api", Signed: "required", Keys: []string{"release"}},
		trust.Image{Repository: "registry.example.com/app/db", Signed: "required", Keys: []string{"release", "build"}, Threshold: 2},
		trust.Image{Repository: "localhost:5000/x", Signed: "required"},
		trust.Image{Repository: "docker.io/library/nginx", Signed: "required"},
	))
	if err != nil {
		t.Fatal(err)
	}
	for repository, want := range map[string]string{
		"registry.example.com/x":           "build,release/1",
		"registry.example.com/a/b/c":       "build,release/1",
		"registry.example.com/app/web":     "build/1",
		"Registry.Example.COM/app/web":     "build/1",
		"registry.example.com/app/a/api":   "release/1",
		"registry.example.com/app/a/b/api": "build/1",
		"registry.example.com/app/db":      "build,release/2",
		"registry.example.com/app":         "build,release/1",
		"localhost:5000/x":                 "build,release/1",
		"localhost:5000/x/y":               "",
		"localhost/x":                      "",
		"docker.io/library/nginx":          "build,release/1",
		"docker.io/library/redis":          "",
		"registry.example.com":             "",
		"other.example.com/app/db":         "",
		"":                                 "",
	} {
		got := ""
		if image, ok := tr.ImageOf(repository); ok {
			var names []string
			for _, k := range tr.KeysFor(image) {
				names = append(names, k.Name)
			}
			got = fmt.Sprintf("%s/%d", strings.Join(names, ","), image.Needed())
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", repository, got, want)
		}
	}
}

func TestImagesRefused(t *testing.T) {
	image := func(repository string) trust.Image { return trust.Image{Repository: repository, Signed: "required"} }
	keys := func(threshold int, names ...string) trust.Image {
		return trust.Image{Repository: "a.example/b", Signed: "required", Keys: names, Threshold: threshold}
	}
	for want, images := range map[string][]trust.Image{
		`begin with the registry's host`:                                      {image("library/nginx")},
		`repository "app/**": begin with the registry's host`:                 {image("app/**")},
		`"*.example.com" is none`:                                             {image("*.example.com/a")},
		`containerd calls this registry docker.io`:                            {image("index.docker.io/library/nginx")},
		`docker.io/library/nginx: write that`:                                 {image("docker.io/nginx")},
		`write "registry.example.com/**"`:                                     {image("registry.example.com")},
		`"App" is no part of a repository's name`:                             {image("registry.example.com/App")},
		`"app:v1" is no part`:                                                 {image("registry.example.com/app:v1")},
		`"app@sha256" is no part`:                                             {image("registry.example.com/app@sha256")},
		`segment ".."`:                                                        {image("registry.example.com/../x")},
		`"**" stands at the end only`:                                         {image("registry.example.com/**/x")},
		`over the bound of 512`:                                               {image("registry.example.com/" + strings.Repeat("a", 500))},
		`is as specific as "a.example/b/*" of images[0]`:                      {image("a.example/b/*"), image("a.example/b/*")},
		`images[1]: repository "a.example/*b" is as specific as`:              {image("a.example/b*"), image("a.example/*b")},
		`images[0]: key "dev": there is no trust/cosign/dev.pub`:              {keys(1, "dev")},
		`images[0]: key "build" is named twice`:                               {keys(1, "build", "build")},
		`images[0]: key "../x": a key's name is`:                              {keys(1, "../x")},
		`threshold is 3, but only 2 keys are named`:                           {keys(3, "build", "release")},
		`threshold is -1: at least 1`:                                         {keys(-1, "build")},
		`needs signatures by 3 of the keys in trust/cosign/, and there are 2`: {keys(3)},
		`over the bound of 1024`:                                              make([]trust.Image, trust.MaxImages+1),
	} {
		f := withImages(t)
		p, err := trust.ParsePolicy(f["policy.json"])
		if err != nil {
			t.Fatal(err)
		}
		p.Images = images
		f["policy.json"] = p.JSON()
		if _, err := trust.Parse(f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestImageWithoutKeys(t *testing.T) {
	f := files(t)
	delete(f, "cosign/build.pub")
	want := "trust/policy.json: images[0]: registry.example.com/app/** needs signatures by 1 of the keys in trust/cosign/, and there are 0: no image of it could be pulled; add keys"
	if _, err := trust.Parse(f); err == nil || err.Error() != want {
		t.Fatalf("got %v", err)
	}
	f["policy.json"] = []byte(strings.Replace(goodPolicy, `"signed"`, `"keys": [], "signed"`, 1))
	if _, err := trust.Parse(f); err == nil || !strings.Contains(err.Error(), "keys is empty") {
		t.Fatalf("got %v", err)
	}
}

// TestFleetWithoutImages: a fleet that says nothing of images, and has no keys for them, is as valid as before.
func TestFleetWithoutImages(t *testing.T) {
	f := files(t)
	delete(f, "cosign/build.pub")
	var policy map[string]json.RawMessage
	if err := json.Unmarshal([]byte(goodPolicy), &policy); err != nil {
		t.Fatal(err)
	}
	delete(policy, "images")
	data, err := json.Marshal(policy)
	if err != nil {
		t.Fatal(err)
	}
	f["policy.json"] = data
	tr, err := trust.Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := tr.ImageOf("registry.example.com/app/web"); ok {
		t.Fatal("a signature is demanded that nobody asked for")
	}
}

// FuzzCosignKey: no file makes the reader fail in another way than by an error, and what it takes is a key.
func FuzzCosignKey(f *testing.F) {
	f.Add([]byte(buildKey))
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"))
	base := files(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		tr, err := trust.Parse(trust.Files{"policy.json": base["policy.json"], "allowed_signers": base["allowed_signers"], "cosign/a.pub": data})
		if err == nil && (tr.Cosign["a"].Public == nil || tr.Cosign["a"].Fingerprint() == "") {
			t.Fatalf("got %+v", tr.Cosign["a"])
		}
	})
}
