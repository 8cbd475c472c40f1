package images

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
)

// Media types of cosign's signatures.
const (
	simpleSigningType = "application/vnd.dev.cosign.simplesigning.v1+json"
	bundleType        = "application/vnd.dev.sigstore.bundle.v0.3+json"
	// signatureArtifactType is of signatures that cosign attaches as referrers without a bundle.
	signatureArtifactType = "application/vnd.dev.cosign.artifact.sig.v1+json"
	// emptyType is what some registries and clients list of a bundle: the type of its manifest's config.
	emptyType = "application/vnd.oci.empty.v1+json"
)

// SignatureTag gives the tag under which cosign stores an image's signatures beside it: "sha256-….sig".
func SignatureTag(digest string) string { return ReferrersTag(digest) + ".sig" }

// ReferrersTag gives the tag that lists what refers to an image at a registry without the referrers API: "sha256-…".
func ReferrersTag(digest string) string { return strings.Replace(digest, ":", "-", 1) }

// collect looks at the stored signatures over a digest until enough keys signed it. The error is the context's.
func (c *check) collect(ctx context.Context, s *signed) error {
	tag := SignatureTag(s.digest)
	if data, ok := c.manifestAt(ctx, tag, maxManifestBytes); ok {
		c.manifest(ctx, s, tag, data)
	}
	seen := map[string]bool{}
	if !c.enough(ctx, s) {
		data, err := c.store.Referrers(ctx, c.repository, s.digest, maxIndexBytes)
		if data, ok := c.found("referrers of "+s.digest, maxIndexBytes, data, err); ok {
			c.referrers(ctx, s, data, seen)
		}
	}
	if !c.enough(ctx, s) {
		if data, ok := c.manifestAt(ctx, ReferrersTag(s.digest), maxIndexBytes); ok {
			c.referrers(ctx, s, data, seen)
		}
	}
	return ctx.Err()
}

// enough tells whether there is nothing more to look for.
func (c *check) enough(ctx context.Context, s *signed) bool {
	return len(s.by) >= c.needed || ctx.Err() != nil
}

// referrers looks at the manifests that a list of referrers names, but for those it saw.
func (c *check) referrers(ctx context.Context, s *signed, list []byte, seen map[string]bool) {
	index, err := parseContent(list)
	if err != nil {
		s.problem("the list of referrers is unreadable: %v", err)
		return
	}
	for _, d := range index.Manifests {
		if c.enough(ctx, s) {
			return
		}
		if _, _, err := splitDigest(d.Digest); err != nil || !mayHoldSignatures(d.ArtifactType) || seen[d.Digest] || !c.take() {
			continue
		}
		seen[d.Digest] = true
		if data, ok := c.manifestAt(ctx, d.Digest, maxManifestBytes); ok {
			c.manifest(ctx, s, d.Digest, data)
		}
	}
}

// mayHoldSignatures tells whether a referrer of that type is worth a look.
func mayHoldSignatures(artifactType string) bool {
	switch artifactType {
	case "", bundleType, signatureArtifactType, emptyType:
		return true
	}
	return false
}

// manifest looks at the signatures that a manifest carries.
func (c *check) manifest(ctx context.Context, s *signed, name string, data []byte) {
	m, err := parseContent(data)
	if err != nil {
		s.problem("the manifest %s is unreadable: %v", name, err)
		return
	}
	for i, layer := range m.Layers {
		if c.enough(ctx, s) {
			return
		}
		if layer.MediaType != simpleSigningType && layer.MediaType != bundleType {
			continue
		}
		where := fmt.Sprintf("layer %d of %s", i, name)
		if _, _, err := splitDigest(layer.Digest); err != nil {
			s.problem("%s: %v", where, err)
			continue
		}
		if !c.take() {
			s.problem("more than %d signatures: the others were not looked at", maxCandidates)
			return
		}
		if layer.MediaType == bundleType {
			c.bundle(ctx, s, where, layer)
		} else {
			c.simpleSigning(ctx, s, where, layer)
		}
	}
}

// simpleSigning looks at a signature in an annotation, over a payload that is a blob.
func (c *check) simpleSigning(ctx context.Context, s *signed, where string, layer descriptor) {
	signature, err := base64.StdEncoding.DecodeString(layer.Annotations.Signature)
	if err != nil || len(signature) == 0 {
		s.problem("%s: its annotation dev.cosignproject.cosign/signature is missing or no base64", where)
		return
	}
	payload, ok := c.blobAt(ctx, layer.Digest, maxPayloadBytes)
	if !ok {
		s.problem("%s: its payload %s is not stored", where, layer.Digest)
		return
	}
	c.count(s, where, payload, signature, func(digest string) error { return payloadAbout(payload, digest) })
}

// bundle looks at a signature in sigstore's own format.
func (c *check) bundle(ctx context.Context, s *signed, where string, layer descriptor) {
	data, ok := c.blobAt(ctx, layer.Digest, maxBundleBytes)
	if !ok {
		s.problem("%s: its bundle %s is not stored", where, layer.Digest)
		return
	}
	b, err := parseBundle(data)
	if err != nil {
		s.problem("%s: %v", where, err)
		return
	}
	c.count(s, where, b.message(), b.signature, func(digest string) error { return statementAbout(b.payload, digest) })
}
