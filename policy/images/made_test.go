package images_test

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/holdfast-dev/holdfast/policy/images"
	"github.com/holdfast-dev/holdfast/policy/trust"
)

// cosignMadeFile is what the real cosign 2.6.5 made, so that every run of the unit tests checks it without building cosign.
// TestCosignKinds -update writes it.
const cosignMadeFile = "testdata/cosign-2.6.5.json"

type cosignMade struct {
	// Keys are public keys by name, Images the key's name by the digest of what it signed.
	Keys   map[string]string `json:"keys"`
	Images map[string]string `json:"images"`
	// Stored is what was read of the registry: manifests, blobs and referrers by name.
	Stored map[string]map[string]string `json:"stored"`
}

func indented(v any) []byte {
	var out bytes.Buffer
	if err := json.Indent(&out, encode(v), "", "  "); err != nil {
		panic(err) // just encoded
	}
	return append(out.Bytes(), '\n')
}

func TestWhatCosignMade(t *testing.T) {
	data, err := os.ReadFile(cosignMadeFile)
	if err != nil {
		t.Fatal(err)
	}
	var made cosignMade
	if err := json.Unmarshal(data, &made); err != nil {
		t.Fatal(err)
	}
	m := newMemory()
	for kind, store := range map[string]map[string][]byte{"manifests": m.manifests, "blobs": m.blobs, "referrers": m.referrers} {
		if len(made.Stored[kind]) == 0 {
			t.Fatalf("no %s in %s", kind, cosignMadeFile)
		}
		for name, content := range made.Stored[kind] {
			store[name] = []byte(content)
		}
	}
	if len(made.Images) != 10 {
		t.Fatalf("%d images, want two of each of the five kinds of key", len(made.Images))
	}
	for image, name := range made.Images {
		tr := trustWith(t, map[string][]byte{name: []byte(made.Keys[name])}, trust.Image{})
		mustAllow(t, tr, m, image, name)
		// Every other key, and every other image, makes it none.
		for other, key := range made.Keys {
			if other != name {
				mustRefuse(t, trustWith(t, map[string][]byte{other: []byte(key)}, trust.Image{}), m, image, images.SignatureInvalid, "was made with none of the keys "+other)
			}
		}
	}
	one := anyKey(made.Images)
	for image, name := range made.Images {
		if image == one {
			continue
		}
		m.manifests[images.SignatureTag(one)] = []byte(made.Stored["manifests"][images.SignatureTag(image)])
		m.referrers[one] = []byte(made.Stored["referrers"][image])
		tr := trustWith(t, map[string][]byte{name: []byte(made.Keys[name])}, trust.Image{})
		mustRefuse(t, tr, m, one, images.SignatureInvalid, "is over another image")
	}
}

func anyKey(m map[string]string) string {
	for k := range m {
		return k
	}
	return ""
}
