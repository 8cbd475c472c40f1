package oci_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

const (
	config = `"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:` + sum256 + `","size":2}`
	layers = `"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha512:` + sum512 + `","size":3}]`
	list   = `"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:` + sum256 + `","size":4,"platform":{"architecture":"arm64","os":"linux","variant":"v8"}}]`
)

func TestManifest(t *testing.T) {
	for name, test := range map[string]struct {
		contentType, data string
		mediaType         string
		children          int
		artifact          string
	}{
		"image":              {oci.MediaTypeManifest, `{"schemaVersion":2,"mediaType":"` + oci.MediaTypeManifest + `",` + config + `,` + layers + `}`, oci.MediaTypeManifest, 2, "application/vnd.oci.image.config.v1+json"},
		"without its type":   {oci.MediaTypeManifest + "; charset=utf-8", `{"schemaVersion":2,` + config + `,` + layers + `}`, oci.MediaTypeManifest, 2, "application/vnd.oci.image.config.v1+json"},
		"without any type":   {"", `{"schemaVersion":2,` + config + `,"layers":[]}`, oci.MediaTypeManifest, 1, "application/vnd.oci.image.config.v1+json"},
		"docker":             {"", `{"schemaVersion":2,"mediaType":"` + oci.MediaTypeDockerManifest + `",` + config + `,` + layers + `}`, oci.MediaTypeDockerManifest, 2, "application/vnd.oci.image.config.v1+json"},
		"index":              {"", `{"schemaVersion":2,` + list + `}`, oci.MediaTypeIndex, 1, ""},
		"docker list":        {oci.MediaTypeDockerList, `{"schemaVersion":2,"mediaType":"` + oci.MediaTypeDockerList + `",` + list + `}`, oci.MediaTypeDockerList, 1, ""},
		"empty index":        {oci.MediaTypeIndex, `{"schemaVersion":2,"manifests":[]}`, oci.MediaTypeIndex, 0, ""},
		"artifact":           {"", `{"schemaVersion":2,"artifactType":"a/b",` + config + `,` + layers + `,"subject":{"digest":"sha256:` + sum256 + `","size":1}}`, oci.MediaTypeManifest, 2, "a/b"},
		"as containerd does": {"", `{"SchemaVersion":2,"LAYERS":[],` + config + `}`, oci.MediaTypeManifest, 1, "application/vnd.oci.image.config.v1+json"},
	} {
		m, err := oci.ParseManifest(test.contentType, []byte(test.data))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		children := 0
		for range m.Children() {
			children++
		}
		if m.MediaType != test.mediaType || children != test.children || m.Type() != test.artifact {
			t.Errorf("%s: got %s, %d children, %s", name, m.MediaType, children, m.Type())
		}
		if oci.IsIndex(m.MediaType) && children == 1 && m.Manifests[0].Platform.Variant != "v8" {
			t.Errorf("%s: the platform was lost", name)
		}
		for range m.Children() {
			break // an iterator must bear that
		}
	}
}

func TestManifestRefused(t *testing.T) {
	for name, test := range map[string]struct{ contentType, data, says string }{
		"nothing":             {"", "", "unexpected end"},
		"error page":          {"", " <html>", "web page"},
		"two documents":       {"", `{"schemaVersion":2,` + config + `}{}`, "after top-level value"},
		"schema 1":            {"", `{"schemaVersion":1,"fsLayers":[]}`, "schema 1"},
		"schema 3":            {"", `{"schemaVersion":3}`, "schemaVersion is 3"},
		"both":                {"", `{"schemaVersion":2,` + config + `,` + list + `}`, "two ways"},
		"says otherwise":      {oci.MediaTypeIndex, `{"schemaVersion":2,"mediaType":"` + oci.MediaTypeManifest + `",` + config + `}`, "calls itself"},
		"index with layers":   {oci.MediaTypeIndex, `{"schemaVersion":2,` + layers + `}`, "another kind"},
		"image with a list":   {oci.MediaTypeManifest, `{"schemaVersion":2,` + list + `}`, "another kind"},
		"no config":           {oci.MediaTypeManifest, `{"schemaVersion":2,` + layers + `}`, "no config"},
		"no kind":             {"", `{"schemaVersion":2}`, "neither"},
		"another type":        {"text/html", `{"schemaVersion":2,` + config + `}`, "neither"},
		"bad type":            {";;;", `{"schemaVersion":2,` + config + `}`, "content type"},
		"bad digest":          {"", `{"schemaVersion":2,"config":{"digest":"sha256:../..","size":1}}`, "digest"},
		"no digest":           {"", `{"schemaVersion":2,"config":{"size":1}}`, "no digest"},
		"null digest":         {"", `{"schemaVersion":2,"config":{"digest":null,"size":1}}`, "no digest"},
		"negative size":       {"", `{"schemaVersion":2,"config":{"digest":"sha256:` + sum256 + `","size":-1}}`, "size -1"},
		"size beyond numbers": {"", `{"schemaVersion":2,"config":{"digest":"sha256:` + sum256 + `","size":9223372036854775808}}`, "cannot unmarshal"},
		"bad subject":         {"", `{"schemaVersion":2,` + config + `,"subject":{}}`, "no digest"},
		"deep":                {"", `{"schemaVersion":2,"annotations":` + strings.Repeat(`{"a":`, 100000), "exceeded max depth"},
	} {
		if _, err := oci.ParseManifest(test.contentType, []byte(test.data)); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: got %v, want an error that says %q", name, err, test.says)
		}
	}
	if _, err := oci.ParseManifest("", make([]byte, oci.MaxManifestSize+1)); !errors.Is(err, oci.ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
}

func FuzzManifest(f *testing.F) {
	f.Add(oci.MediaTypeManifest, []byte(`{"schemaVersion":2,`+config+`,`+layers+`}`))
	f.Add("", []byte(`{"schemaVersion":2,`+list+`}`))
	f.Add("", []byte(`{"schemaVersion":2,`+config+`,"subject":{"digest":"sha256:`+sum256+`"}}`))
	f.Fuzz(func(t *testing.T, contentType string, data []byte) {
		m, err := oci.ParseManifest(contentType, data)
		if err != nil {
			return
		}
		if oci.IsManifest(m.MediaType) == oci.IsIndex(m.MediaType) {
			t.Errorf("media type %q", m.MediaType)
		}
		if len(m.Manifests) > 0 && (m.Config != nil || len(m.Layers) > 0) {
			t.Error("it is a manifest and an index at once")
		}
		for child := range m.Children() {
			if child.Digest.IsZero() || child.Size < 0 {
				t.Errorf("child %+v", child)
			}
		}
	})
}
