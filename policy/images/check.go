package images

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-dev/holdfast/policy/trust"
)

// Bounds of one Verify. Good signatures that lie behind that many others are not found, which is as if they were withheld.
const (
	// maxCandidates bounds how many manifests and signatures are looked at.
	maxCandidates = 256
	// maxParents bounds how many manifests and indexes are looked at for what they list, maxDepth how far up: from a layer to its
	// manifest, to an index, to an index of indexes.
	maxParents = 64
	maxDepth   = 3
	// maxIndexBytes is what the distribution specification lets a manifest have; the others are far above what cosign writes.
	maxIndexBytes    = 4 << 20
	maxManifestBytes = 1 << 20
	maxPayloadBytes  = 256 << 10
	maxBundleBytes   = 1 << 20
)

// check is one Verify under way.
type check struct {
	repository string
	store      Store
	keys       []trust.CosignKey
	needed     int
	// left is how many candidates may still be looked at, parentsLeft how much that may list something.
	left, parentsLeft int
	// broken says what could not be read.
	broken []error
}

// signed is what was found out about the signatures over one digest.
type signed struct {
	digest string
	// by are the names of the keys that signed it.
	by map[string]bool
	// problems say why others do not count.
	problems []string
}

// image checks one digest: by the signatures of what lists it, or else by its own. In this order, since most digests of an image
// are listed and have none, which a store that asks a registry would find out far away.
func (c *check) image(ctx context.Context, digest string, depth int) (Verdict, error) {
	var refusal error
	for _, parent := range c.parents(ctx, digest, depth) {
		if !c.lists(ctx, parent, digest) {
			continue
		}
		verdict, err := c.image(ctx, parent, depth+1)
		if err == nil || ctx.Err() != nil {
			return verdict, err
		}
		refusal = moreTelling(refusal, err)
	}
	s := &signed{digest: digest, by: map[string]bool{}}
	if err := c.collect(ctx, s); err != nil {
		return Verdict{}, err
	}
	if len(s.by) >= c.needed {
		return Verdict{Required: true, Digest: digest, Keys: slices.Sorted(maps.Keys(s.by))}, nil
	}
	return Verdict{}, moreTelling(c.refusal(s), refusal)
}

// parents gives what may list a digest.
func (c *check) parents(ctx context.Context, digest string, depth int) []string {
	if depth == maxDepth {
		return nil
	}
	parents, err := c.store.Parents(ctx, c.repository, digest)
	if err != nil && !errors.Is(err, ErrNotStored) {
		c.broken = append(c.broken, fmt.Errorf("what lists %s: %w", digest, err))
	}
	return parents
}

// lists tells whether a stored manifest or index, which must have the digest it goes by, lists another digest.
func (c *check) lists(ctx context.Context, parent, digest string) bool {
	if c.parentsLeft--; c.parentsLeft < 0 {
		return false
	}
	if _, _, err := splitDigest(parent); err != nil {
		return false
	}
	data, ok := c.manifestAt(ctx, parent, maxIndexBytes)
	if !ok || !hasDigest(data, parent) {
		return false
	}
	content, err := parseContent(data)
	return err == nil && content.has(digest)
}

// take counts a candidate. It is false once there were too many.
func (c *check) take() bool {
	c.left--
	return c.left >= 0
}

// manifestAt reads a manifest or index, blobAt a blob. What is not there, or too long to be a signature, is passed over.
func (c *check) manifestAt(ctx context.Context, reference string, limit int64) ([]byte, bool) {
	data, err := c.store.Manifest(ctx, c.repository, reference, limit)
	return c.found("manifest "+reference, limit, data, err)
}

func (c *check) blobAt(ctx context.Context, digest string, limit int64) ([]byte, bool) {
	data, err := c.store.Blob(ctx, c.repository, digest, limit)
	return c.found("blob "+digest, limit, data, err)
}

// found takes what the store gave of something, and keeps in mind what it could not read.
func (c *check) found(what string, limit int64, data []byte, err error) ([]byte, bool) {
	switch {
	case errors.Is(err, ErrNotStored), errors.Is(err, ErrTooLarge):
		return nil, false
	case err != nil:
		c.broken = append(c.broken, fmt.Errorf("%s: %w", what, err))
		return nil, false
	}
	return data, int64(len(data)) <= limit
}

// count holds a signature over a message against the keys that did not sign yet. Only if one made it, it asks whether the message
// is about the image.
func (c *check) count(s *signed, where string, message, signature []byte, about func(digest string) error) {
	for _, key := range c.keys {
		if s.by[key.Name] || !isSignature(key.Public, message, signature) {
			continue
		}
		if err := about(s.digest); err != nil {
			s.problem("%s is signed with key %q, but %v", where, key.Name, err)
			return
		}
		s.by[key.Name] = true
		return
	}
	s.problem("%s was made with none of the keys %s", where, c.names(s.by))
}

func (s *signed) problem(format string, args ...any) {
	s.problems = append(s.problems, fmt.Sprintf(format, args...))
}

// names lists the keys that count but for some.
func (c *check) names(but map[string]bool) string {
	var names []string
	for _, k := range c.keys {
		if !but[k.Name] {
			names = append(names, k.Name)
		}
	}
	return strings.Join(names, ", ")
}

// refusal says what is missing, and of what is there the first few problems.
func (c *check) refusal(s *signed) error {
	image := c.repository + "@" + s.digest
	why := strings.Join(s.problems[:min(len(s.problems), 3)], "; ")
	if more := len(s.problems) - 3; more > 0 {
		why += fmt.Sprintf("; and %d more", more)
	}
	switch {
	case len(s.by) > 0:
		return refuse(TooFewSignatures, "%s is signed with %s, and %d of the keys %s must have: sign it with another (cosign sign --key)",
			image, strings.Join(slices.Sorted(maps.Keys(s.by)), ", "), c.needed, c.names(nil))
	case len(s.problems) > 0:
		return refuse(SignatureInvalid, "%s has no valid signature by the keys %s: %s", image, c.names(nil), why)
	}
	return refuse(SignatureMissing, "%s must be signed, and no signature of it is stored here: sign it (cosign sign --key), or fetch its signatures, too", image)
}

// moreTelling gives the refusal that came further; either may be nil.
func moreTelling(a, b error) error {
	rank := []string{SignatureMissing, SignatureInvalid, TooFewSignatures}
	var x, y *Refusal
	if a == nil || errors.As(a, &x) && errors.As(b, &y) && slices.Index(rank, y.Reason) > slices.Index(rank, x.Reason) {
		return b
	}
	return a
}
