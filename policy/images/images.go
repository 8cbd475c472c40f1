// Package images decides whether an image may be served: where trust/policy.json demands signatures, it looks for those that
// cosign made over the image's digest and checks them with the keys of trust/cosign/. It reads stored bytes, no clock and no
// network, so that the answer is the same in an outage.
//
// Everything it reads but the trust is untrusted. Signatures that do not count are passed over, never an error: whoever can
// write to a registry can put any number of them beside good ones. What is inside a signature is parsed after it was checked.
package images

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-dev/holdfast/policy/trust"
)

// Errors of a Store. Match with errors.Is.
var (
	// ErrNotStored: there is no such tag, manifest or blob.
	ErrNotStored = errors.New("not stored")
	// ErrTooLarge: there is, and it is longer than the limit.
	ErrTooLarge = errors.New("too large")
)

// Store gives the bytes that a check reads, of one registry's repository, whose name begins with the registry. Its errors are
// or wrap ErrNotStored or ErrTooLarge, or say that reading went wrong. Verify calls it from one goroutine and does not trust
// what it gives. A Store that asks a registry makes Verify find what has to be fetched for a later check without a network.
type Store interface {
	// Manifest gives the manifest or index with a digest, or that a tag names.
	Manifest(ctx context.Context, repository, reference string, limit int64) ([]byte, error)
	// Blob gives the blob with a digest.
	Blob(ctx context.Context, repository, digest string, limit int64) ([]byte, error)
	// Referrers gives the image index that lists what refers to a digest, as the referrers API answers.
	Referrers(ctx context.Context, repository, digest string, limit int64) ([]byte, error)
	// Parents gives the digests of stored manifests and indexes that may list a digest, those first that most likely do. Verify looks
	// into them itself.
	Parents(ctx context.Context, repository, digest string) ([]string, error)
}

// Request asks whether an image may be served.
type Request struct {
	// Trust is the trust in force.
	Trust *trust.Trust
	// Repository names the repository with its registry: "registry.example.com/app/api".
	Repository string
	// Digest is that of the image's manifest or index, or of a part of it: "sha256:…".
	Digest string
	// Store holds the image's signatures.
	Store Store
}

// Verdict says why an image may be served.
type Verdict struct {
	// Required tells whether the trust demands signatures of this repository. If not, nothing was looked at.
	Required bool
	// Digest is what was signed: Request.Digest, or that of an index or manifest it is a part of.
	Digest string
	// Keys are the names of the keys that signed it, sorted. Once there are enough of them, no more are looked for.
	Keys []string
}

// Reasons of a Refusal. They are stable.
const (
	// SignatureMissing: no signature of the image is stored.
	SignatureMissing = "SignatureMissing"
	// SignatureInvalid: there are signatures, and none of them was made over this image with a key that counts.
	SignatureInvalid = "SignatureInvalid"
	// TooFewSignatures: fewer keys signed the image than policy.json demands.
	TooFewSignatures = "TooFewSignatures"
	// ImageNameInvalid: the repository or the digest is none.
	ImageNameInvalid = "ImageNameInvalid"
)

// Refusal is the error for an image that may not be served.
type Refusal struct {
	Reason  string
	Message string
}

func (r *Refusal) Error() string { return r.Message }

// StableReason gives Reason.
func (r *Refusal) StableReason() string { return r.Reason }

// Verify decides whether an image may be served. The error is a *Refusal if it may not. Any other error says that the store
// could not be read, so that nothing is decided, and the image is not to be served either.
//
// A signature holds for all that the image consists of: for the manifests that a signed index lists, as cosign signs the index of an
// image for many platforms, and for the configuration and the layers that a manifest lists.
func Verify(ctx context.Context, r Request) (Verdict, error) {
	if err := trust.CheckRepository(r.Repository); err != nil {
		return Verdict{}, refuse(ImageNameInvalid, "repository %q: %v", r.Repository, err)
	}
	if _, _, err := splitDigest(r.Digest); err != nil {
		return Verdict{}, refuse(ImageNameInvalid, "image of %s: %v", r.Repository, err)
	}
	rule, required := r.Trust.ImageOf(r.Repository)
	if !required {
		return Verdict{Digest: r.Digest}, nil
	}
	c := &check{repository: r.Repository, store: r.Store, keys: r.Trust.KeysFor(rule), needed: rule.Needed(), left: maxCandidates, parentsLeft: maxParents}
	verdict, err := c.image(ctx, r.Digest, 0)
	var refusal *Refusal
	if errors.As(err, &refusal) && len(c.broken) > 0 {
		return Verdict{}, fmt.Errorf("read signatures of %s@%s: %w", r.Repository, r.Digest, errors.Join(c.broken...))
	}
	return verdict, err
}

func refuse(reason, format string, args ...any) error {
	return &Refusal{Reason: reason, Message: fmt.Sprintf(format, args...)}
}
