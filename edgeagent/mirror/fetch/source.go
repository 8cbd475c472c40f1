package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/blob"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/upstream"
)

// registry is a registry asked with its own credentials, or by a caller.
type registry struct {
	*upstream.Registry
	caller bool
	as     upstream.Credential
}

// Registry makes a source of a registry and its own credentials.
func Registry(r *upstream.Registry) Source { return registry{Registry: r} }

// RegistryAs makes a source of a registry that is asked with a caller's credential alone; the zero one asks as nobody.
func RegistryAs(r *upstream.Registry, c upstream.Credential) Source {
	return registry{Registry: r, caller: true, as: c}
}

// Proves is true: a registry serves what belongs to the repository.
func (registry) Proves() bool { return true }

// Open asks for a blob or a manifest.
func (s registry) Open(ctx context.Context, want Want, from int64) (*upstream.Blob, error) {
	r := s.Registry
	if s.caller {
		r = r.As(s.as)
	}
	if !want.Manifest {
		return r.Blob(ctx, want.Repository, want.Digest, want.Size, from)
	}
	m, err := r.Manifest(ctx, want.Repository, want.Digest.String())
	if err != nil {
		return nil, err
	}
	size := int64(len(m.Raw))
	if want.Size >= 0 && size != want.Size || from > size {
		return nil, &upstream.Error{Kind: upstream.ErrorPage, Registry: r.Name(), Doing: "GET manifest " + want.Digest.String(),
			Err: fmt.Errorf("it has %d bytes, not %d", size, want.Size)}
	}
	return &upstream.Blob{Size: size, Body: io.NopCloser(bytes.NewReader(m.Raw[from:]))}, nil
}

// Manifest is a manifest or an index with the bytes that its digest is of.
type Manifest struct {
	oci.Manifest
	Raw    []byte
	Proved bool // as in Blob
}

// Manifest gives a manifest by digest, fetched as Blob does it. What is in the store under the digest and is no manifest is
// upstream.NotFound. One that the disk has damaged is fetched again.
func (f *Fetcher) Manifest(ctx context.Context, want Want, sources ...Source) (*Manifest, error) {
	want.Manifest = true
	for try := 0; ; try++ {
		b, err := f.await(ctx, want, sources)
		if err != nil {
			return nil, err
		}
		raw, err := f.cfg.Store.Bytes(want.Digest, oci.MaxManifestSize)
		if _, corrupt := errors.AsType[*blob.CorruptError](err); corrupt && try == 0 {
			f.cfg.Log.Warn("a manifest is fetched again", "digest", want.Digest, "err", err)
			continue
		}
		switch {
		case errors.Is(err, oci.ErrTooLarge):
			return nil, fmt.Errorf("manifest %s: %w: %w", want.Digest, upstream.NotFound, err)
		case err != nil:
			return nil, fmt.Errorf("read manifest: %w", err)
		}
		m, err := oci.ParseManifest("", raw)
		if err != nil {
			return nil, fmt.Errorf("manifest %s: %w: %w", want.Digest, upstream.NotFound, err)
		}
		return &Manifest{Manifest: m, Raw: raw, Proved: b.Proved}, nil
	}
}
