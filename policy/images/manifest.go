package images

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// descriptor is what is read of an OCI descriptor.
type descriptor struct {
	MediaType    string `json:"mediaType"`
	Digest       string `json:"digest"`
	ArtifactType string `json:"artifactType"`
	Annotations  struct {
		Signature string `json:"dev.cosignproject.cosign/signature"`
	} `json:"annotations"`
}

// content is what is read of an image manifest or index.
type content struct {
	Manifests descriptors `json:"manifests"`
	Layers    descriptors `json:"layers"`
	Config    descriptor  `json:"config"`
}

// has tells whether it lists a digest as a part of the image. What it refers to as its subject is no part of it.
func (c content) has(digest string) bool {
	is := func(d descriptor) bool { return d.Digest == digest }
	return is(c.Config) || slices.ContainsFunc(c.Manifests, is) || slices.ContainsFunc(c.Layers, is)
}

// descriptors are read one by one: 4 MiB of "{}," would become a hundred megabytes otherwise.
type descriptors []descriptor

// maxDescriptors is more than fit into 4 MiB if each has a digest, a type and a size.
const maxDescriptors = 32 << 10

func (d *descriptors) UnmarshalJSON(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	token, err := dec.Token()
	if err != nil || token == nil {
		return err
	}
	if token != json.Delim('[') {
		return errors.New("a list of descriptors is not a list")
	}
	for dec.More() {
		if len(*d) == maxDescriptors {
			return fmt.Errorf("more than %d descriptors", maxDescriptors)
		}
		var one descriptor
		if err := dec.Decode(&one); err != nil {
			return err
		}
		*d = append(*d, one)
	}
	return nil
}

func parseContent(data []byte) (content, error) {
	var c content
	if err := json.Unmarshal(data, &c); err != nil {
		return content{}, fmt.Errorf("parse manifest: %w", err)
	}
	return c, nil
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
