package images_test

import (
	"crypto/ed25519"
	"testing"

	"github.com/holdfast-dev/holdfast/policy/images"
	"github.com/holdfast-dev/holdfast/policy/trust"
)

// FuzzVerify changes everything that is stored beside an image. Whatever it becomes, an image that nobody signed is refused.
func FuzzVerify(f *testing.F) {
	// The same key in every process that fuzzes: what one finds must mean the same to another.
	private := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	key := signer{private.Public(), func(message []byte) []byte { return ed25519.Sign(private, message) }}
	tr := trustOf(f, map[string]signer{"build": key}, trust.Image{})
	seed := newMemory()
	good, victim := seed.image("good"), seed.image("victim")
	p := payloadOf(good)
	layer := seed.simple(p, key.sign(p))
	bundle := seed.bundle(bundleOf(key, statementOf(good)))
	both := encode(object{"layers": []object{layer, bundle}})
	list := encode(object{"manifests": []object{{"digest": digestOf(both), "artifactType": bundleType}}})
	f.Add(both, list, p, seed.blobs[bundle["digest"].(string)])
	f.Fuzz(func(t *testing.T, manifest, index, payload, bundled []byte) {
		for _, image := range []string{good, victim} {
			m := newMemory()
			m.manifests[images.SignatureTag(image)] = manifest
			m.manifests[images.ReferrersTag(image)] = index
			m.manifests[digestOf(both)] = manifest
			m.referrers[image] = index
			m.blobs[layer["digest"].(string)] = payload
			m.blobs[bundle["digest"].(string)] = bundled
			m.parents[image] = []string{good, digestOf(index)}
			m.manifests[digestOf(index)] = index
			v, err := verify(t, tr, m, image)
			if err == nil && image == victim {
				t.Fatalf("an image that nobody signed is served: %+v", v)
			}
			if (err == nil) != (len(v.Keys) == 1 && v.Required) {
				t.Fatalf("got %+v, %v", v, err)
			}
		}
	})
}
