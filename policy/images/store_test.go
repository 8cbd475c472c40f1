package images_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/holdfast-dev/holdfast/policy/images"
	"github.com/holdfast-dev/holdfast/policy/trust"
)

const repository = "registry.example.com/app/api"

// memory is a Store in memory, of one repository.
type memory struct {
	manifests map[string][]byte // by digest and by tag
	blobs     map[string][]byte
	referrers map[string][]byte
	parents   map[string][]string
	// fail, if set, is asked before each read, which it names.
	fail  func(what string) error
	reads int
	// endless makes it ignore limits.
	endless bool
}

func newMemory() *memory {
	return &memory{manifests: map[string][]byte{}, blobs: map[string][]byte{}, referrers: map[string][]byte{}, parents: map[string][]string{}}
}

func (m *memory) get(from map[string][]byte, what, name, repo string, limit int64) ([]byte, error) {
	m.reads++
	if m.fail != nil {
		if err := m.fail(what); err != nil {
			return nil, err
		}
	}
	data, ok := from[name]
	switch {
	case repo != repository || !ok:
		return nil, fmt.Errorf("%s: %w", what, images.ErrNotStored)
	case int64(len(data)) > limit && !m.endless:
		return nil, fmt.Errorf("%s: %w", what, images.ErrTooLarge)
	}
	return data, nil
}

func (m *memory) Manifest(_ context.Context, repo, reference string, limit int64) ([]byte, error) {
	return m.get(m.manifests, "manifest "+reference, reference, repo, limit)
}

func (m *memory) Blob(_ context.Context, repo, digest string, limit int64) ([]byte, error) {
	return m.get(m.blobs, "blob "+digest, digest, repo, limit)
}

func (m *memory) Referrers(_ context.Context, repo, digest string, limit int64) ([]byte, error) {
	return m.get(m.referrers, "referrers", digest, repo, limit)
}

func (m *memory) Parents(_ context.Context, _, digest string) ([]string, error) {
	if m.fail != nil {
		if err := m.fail("parents"); err != nil {
			return nil, err
		}
	}
	return m.parents[digest], nil
}

type object = map[string]any

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps, strings and bytes only
	}
	return data
}

// put stores a manifest and gives its digest.
func (m *memory) put(v any, tags ...string) string {
	data := encode(v)
	for _, name := range append(tags, digestOf(data)) {
		m.manifests[name] = data
	}
	return digestOf(data)
}

func (m *memory) putBlob(data []byte) string {
	m.blobs[digestOf(data)] = data
	return digestOf(data)
}

// image stores some image.
func (m *memory) image(name string) string { return m.put(object{"schemaVersion": 2, "name": name}) }

// index stores an index that lists others, and tells of it.
func (m *memory) index(children ...string) string {
	var list []object
	for _, child := range children {
		list = append(list, object{"digest": child})
	}
	parent := m.put(object{"schemaVersion": 2, "manifests": list})
	for _, child := range children {
		m.parents[child] = append(m.parents[child], parent)
	}
	return parent
}

// attachTag stores layers where cosign puts signatures beside an image.
func (m *memory) attachTag(digest string, layers ...object) {
	m.put(object{"schemaVersion": 2, "layers": layers}, images.SignatureTag(digest))
}

// attachReferrers stores each layer in a manifest of its own that refers to the image.
func (m *memory) attachReferrers(digest, artifactType string, layers ...object) []byte {
	var list []object
	for _, layer := range layers {
		list = append(list, object{"digest": m.put(object{"layers": []object{layer}}), "artifactType": artifactType})
	}
	m.referrers[digest] = encode(object{"manifests": list})
	return m.referrers[digest]
}

// simple stores a payload and gives the layer that carries a signature over it.
func (m *memory) simple(payload, signature []byte) object {
	return object{
		"mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", "digest": m.putBlob(payload),
		"annotations": object{"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(signature)},
	}
}

func payloadOf(digest string) []byte {
	return encode(object{"critical": object{
		"identity": object{"docker-reference": repository}, "image": object{"docker-manifest-digest": digest},
		"type": "cosign container image signature",
	}, "optional": nil})
}

func statementOf(digest string) object {
	algorithm, hexadecimal, _ := strings.Cut(digest, ":")
	return object{
		"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://sigstore.dev/cosign/sign/v1",
		"subject": []object{{"digest": object{algorithm: hexadecimal}}},
	}
}

const (
	bundleType = "application/vnd.dev.sigstore.bundle.v0.3+json"
	inToto     = "application/vnd.in-toto+json"
)

// bundleOf makes a bundle over a statement.
func bundleOf(s signer, statement any) object {
	payload := encode(statement)
	pae := fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(inToto), inToto, len(payload), payload)
	return object{
		"mediaType": bundleType,
		"dsseEnvelope": object{
			"payload": payload, "payloadType": inToto, "signatures": []object{{"sig": s.sign(pae)}},
		},
	}
}

func (m *memory) bundle(b any) object {
	return object{"mediaType": bundleType, "digest": m.putBlob(encode(b))}
}

// signer signs as one key does.
type signer struct {
	public crypto.PublicKey
	sign   func(message []byte) []byte
}

func hashed(key crypto.Signer, hash crypto.Hash) signer {
	return signer{key.Public(), func(message []byte) []byte {
		h := hash.New()
		h.Write(message)
		signature, err := key.Sign(rand.Reader, h.Sum(nil), hash)
		if err != nil {
			panic(err) // keys made for the test
		}
		return signature
	}}
}

func ecdsaSigner(t testing.TB, curve elliptic.Curve, hash crypto.Hash) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return hashed(key, hash)
}

func ed25519Signer(t testing.TB, options *ed25519.Options) signer {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer{public, func(message []byte) []byte {
		if options.Hash == crypto.SHA512 {
			sum := sha512.Sum512(message)
			message = sum[:]
		}
		signature, err := key.Sign(rand.Reader, message, options)
		if err != nil {
			panic(err)
		}
		return signature
	}}
}

func rsaSigner(t testing.TB) signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return hashed(key, crypto.SHA256)
}

func anySigner(t testing.TB) signer { return ecdsaSigner(t, elliptic.P256(), crypto.SHA256) }

// trustOf makes a trust with keys, which asks this of images. trust.Image{} asks for a signature of any key below registry.example.com/app/.
func trustOf(t testing.TB, keys map[string]signer, rules ...trust.Image) *trust.Trust {
	t.Helper()
	pems := map[string][]byte{}
	for name, s := range keys {
		der, err := x509.MarshalPKIXPublicKey(s.public)
		if err != nil {
			t.Fatal(err)
		}
		pems[name] = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	}
	return trustWith(t, pems, rules...)
}

func trustWith(t testing.TB, keys map[string][]byte, rules ...trust.Image) *trust.Trust {
	t.Helper()
	for i := range rules {
		rules[i].Signed = trust.SignedRequired
		if rules[i].Repository == "" {
			rules[i].Repository = "registry.example.com/app/**"
		}
	}
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	line, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	policy := trust.Policy{
		Fleet:  "kelp",
		Roles:  map[string]trust.Role{"root": {Principals: []string{"alice"}, Threshold: 1, Paths: []string{"trust/**"}}},
		Images: rules,
	}
	files := trust.Files{
		trust.PolicyFile:         policy.JSON(),
		trust.AllowedSignersFile: slices.Concat([]byte("alice "), ssh.MarshalAuthorizedKey(line)),
	}
	for name, data := range keys {
		files["cosign/"+name+".pub"] = data
	}
	tr, err := trust.Parse(files)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}
