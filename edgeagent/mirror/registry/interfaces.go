package registry

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/upstream"
)

// Repositories are passed as an oci.Reference of which Registry and Repository count; what is asked of one, with Tag or Digest set as
// well. All methods of all interfaces may be called concurrently.

// Fleet is what the accepted revision says of registries.
type Fleet interface {
	// Declared tells whether a registry may be mirrored.
	Declared(registry string) bool
	// Pinned gives the digest that a signed release gives a tag, if one does.
	Pinned(ref oci.Reference) (oci.Digest, bool)
	// Verified is nil for a repository that needs no signature. Else it is nil only if the digest is that of an image with the valid
	// signatures that trust asks for, or of what such an image consists of. It uses the network for nothing but fetching signatures.
	Verified(ctx context.Context, ref oci.Reference) error
}

// Upstream asks a declared registry. The credential is the caller's; with the zero one it asks as nobody: the node's own credential
// must not be used, or whatever the node can read is taken for public. Errors are of the kinds of package upstream, and each call ends
// by itself when the registry stalls.
type Upstream interface {
	// Head describes a manifest by tag or digest. The descriptor always has its digest.
	Head(ctx context.Context, ref oci.Reference, credential upstream.Credential) (oci.Descriptor, error)
	// HeadBlob gives the size of a blob.
	HeadBlob(ctx context.Context, ref oci.Reference, credential upstream.Credential) (int64, error)
	// Tags lists tags after one, at most n, in order, and tells whether there are more.
	Tags(ctx context.Context, ref oci.Reference, credential upstream.Credential, after string, n int) (tags []string, more bool, err error)
	// Referrers lists what refers to a digest, by the API or the fallback tag. Nothing is no error.
	Referrers(ctx context.Context, ref oci.Reference, credential upstream.Credential) ([]oci.Descriptor, error)
}

// Content is the store and what fetches into it. It asks nobody for permission: the Handler has done so. The credential is one that
// upstream serves, or the zero one if the repository is public or nothing has to be fetched; Content may use the node's own instead.
// Upstream's errors come through; what is neither here nor to be had is upstream.NotFound or upstream.Unavailable.
type Content interface {
	// Manifest gives a manifest by digest, fetched if need be.
	Manifest(ctx context.Context, ref oci.Reference, credential upstream.Credential) (ManifestContent, error)
	// Blob gives a blob, whose fetch is begun if need be, once its size is known.
	Blob(ctx context.Context, ref oci.Reference, credential upstream.Credential) (BlobContent, error)
	// Stored gives the size of a blob that is here, whole or on its way.
	Stored(ctx context.Context, digest oci.Digest) (size int64, ok bool, err error)
}

// ManifestContent is a manifest. Its bytes have the digest that was asked for.
type ManifestContent struct {
	MediaType string
	Raw       []byte
	// Proved: upstream gave it to this very call, for the repository that was asked for. What was in the store, or on its way for
	// somebody else's call, may belong to another repository.
	Proved bool
}

// BlobContent is a blob.
type BlobContent struct {
	Size   int64
	Proved bool // as in ManifestContent
	// Open gives the bytes from an offset on. It waits for those that are on their way.
	Open func(ctx context.Context, from int64) (io.ReadCloser, error)
}

// Meta keeps, durably, what the mirror learned of repositories. What is not kept is ErrNotKept.
type Meta interface {
	// Tag is what a tag led to when it was last seen.
	Tag(ctx context.Context, ref oci.Reference) (Tag, error)
	SetTag(ctx context.Context, ref oci.Reference, tag Tag) error
	// Tags lists the tags that were seen, after one, at most n, in order.
	Tags(ctx context.Context, ref oci.Reference, after string, n int) (tags []string, more bool, err error)
	// Decision is what upstream decided last about a repository and a credential, of which Key is a keyed hash; the zero Key is nobody.
	Decision(ctx context.Context, ref oci.Reference, key Key) (Decision, error)
	// SetDecision keeps a decision. Undecided forgets it.
	SetDecision(ctx context.Context, ref oci.Reference, key Key, decision Decision) error
	// Linked tells whether a digest belongs to a repository: its upstream served it there.
	Linked(ctx context.Context, ref oci.Reference) (bool, error)
	Link(ctx context.Context, ref oci.Reference) error
	// Referrers is what was last seen to refer to a digest.
	Referrers(ctx context.Context, ref oci.Reference) ([]oci.Descriptor, error)
	SetReferrers(ctx context.Context, ref oci.Reference, referrers []oci.Descriptor) error
}

// ErrNotKept: Meta knows nothing of this.
var ErrNotKept = errors.New("nothing is kept of this")

// Tag is what is remembered of a tag.
type Tag struct {
	Digest    oci.Digest
	MediaType string
	Size      int64
	Seen      time.Time // for people, and to write it rarely; nothing is decided by it
	Source    string    // who said so: the registry's name
}

// Decision is what upstream said about serving a repository to somebody.
type Decision string

// The decisions.
const (
	Undecided Decision = ""
	Allowed   Decision = "allowed"
	Denied    Decision = "denied"
)

// Key identifies a credential and nothing else: a keyed hash of it. The zero Key stands for no credential.
type Key [32]byte
