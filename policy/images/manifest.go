package images

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
)

// descriptor is what is read of an OCI descriptor.
type descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	ArtifactType string            `json:"artifactType"`
	Annotations  map[string]string `json:"annotations"`
}

// index is what is read of an image index, manifest of an image manifest.
type (
	index struct {
		Manifests []descriptor `json:"manifests"`
	}
	manifest struct {
		Layers []descriptor `json:"layers"`
	}
)

func parseIndex(data []byte) (index, error) {
	var i index
	if err := json.Unmarshal(data, &i); err != nil {
		return index{}, fmt.Errorf("parse index: %w", err)
	}
	return i, nil
}

func parseManifest(data []byte) (manifest, error) {
	var m manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return manifest{}, fmt.Errorf("parse manifest: %w", err)
	}
	return m, nil
}

// splitDigest reads "sha256:…" or "sha512:…" strictly: a digest becomes a part of tags.
func splitDigest(digest string) (algorithm, hexadecimal string, err error) {
	algorithm, hexadecimal, _ = strings.Cut(digest, ":")
	length := map[string]int{"sha256": 2 * sha256.Size, "sha512": 2 * sha512.Size}[algorithm]
	if length == 0 || len(hexadecimal) != length || strings.Trim(hexadecimal, "0123456789abcdef") != "" {
		return "", "", fmt.Errorf("digest %.160q: want \"sha256:\" or \"sha512:\" and lower-case hex", digest)
	}
	return algorithm, hexadecimal, nil
}

// hasDigest tells whether content has a digest.
func hasDigest(content []byte, digest string) bool {
	algorithm, want, err := splitDigest(digest)
	if err != nil {
		return false
	}
	if algorithm == "sha512" {
		sum := sha512.Sum512(content)
		return hex.EncodeToString(sum[:]) == want
	}
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:]) == want
}
