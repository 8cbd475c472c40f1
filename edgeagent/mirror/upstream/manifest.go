package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

// Manifest is a manifest or an index, with the bytes that its digest is of.
type Manifest struct {
	oci.Manifest
	Digest oci.Digest
	Raw    []byte
}

// Manifest fetches a manifest or an index by tag or digest. What it gives was read, hashed and, if asked for by digest, compared.
func (r *Registry) Manifest(ctx context.Context, repository, reference string) (*Manifest, error) {
	q, want, err := r.manifestQuery(http.MethodGet, repository, reference)
	if err != nil {
		return nil, err
	}
	raw, h, err := r.document(ctx, q)
	if err != nil {
		return nil, err
	}
	digest, err := identify(raw, want, h.Get("Docker-Content-Digest"))
	if err != nil {
		return nil, r.fail(ErrorPage, q.doing, err)
	}
	parsed, err := oci.ParseManifest(contentType(h), raw)
	if err != nil {
		return nil, r.fail(ErrorPage, q.doing, err)
	}
	return &Manifest{Manifest: parsed, Digest: digest, Raw: raw}, nil
}

// Head asks what a tag or digest points at. Unlike Manifest it takes the registry's word for it: nothing was hashed. It costs a fetch
// where the registry does not answer in full.
func (r *Registry) Head(ctx context.Context, repository, reference string) (oci.Descriptor, error) {
	q, want, err := r.manifestQuery(http.MethodHead, repository, reference)
	if err != nil {
		return oci.Descriptor{}, err
	}
	resp, err := r.do(ctx, q)
	var failed *Error
	switch {
	case errors.As(err, &failed) && (failed.Status == http.StatusMethodNotAllowed || failed.Status == http.StatusNotImplemented):
		return r.headByGet(ctx, repository, reference)
	case err != nil:
		return oci.Descriptor{}, err
	}
	resp.Body.Close()
	digest, err := oci.ParseDigest(resp.Header.Get("Docker-Content-Digest"))
	mediaType := contentType(resp.Header)
	if err != nil || resp.ContentLength < 0 || !oci.IsManifest(mediaType) && !oci.IsIndex(mediaType) {
		return r.headByGet(ctx, repository, reference)
	}
	if !want.IsZero() && want.Algorithm() == digest.Algorithm() && want != digest {
		return oci.Descriptor{}, r.failf(ErrorPage, q.doing, "it is %s", digest)
	}
	if !want.IsZero() {
		digest = want
	}
	return oci.Descriptor{MediaType: mediaType, Digest: digest, Size: resp.ContentLength}, nil
}

func (r *Registry) headByGet(ctx context.Context, repository, reference string) (oci.Descriptor, error) {
	m, err := r.Manifest(ctx, repository, reference)
	if err != nil {
		return oci.Descriptor{}, err
	}
	return oci.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: int64(len(m.Raw))}, nil
}

// manifestQuery reads the reference. want is zero for a tag.
func (r *Registry) manifestQuery(method, repository, reference string) (q query, want oci.Digest, err error) {
	q = query{doing: fmt.Sprintf("%s manifest %s of %s", method, reference, repository), method: method, repository: repository,
		accept: strings.Join(oci.ManifestTypes(), ", ")}
	if strings.Contains(reference, ":") {
		want, err = oci.ParseDigest(reference)
	} else {
		err = oci.CheckTag(reference)
	}
	if err = errors.Join(oci.CheckRepository(repository), err); err != nil {
		return q, want, r.fail(Refused, method+" manifest", err)
	}
	q.url = r.address(repository, "manifests", reference)
	return q, want, nil
}

// document asks for what may be no larger than a manifest.
func (r *Registry) document(ctx context.Context, q query) ([]byte, http.Header, error) {
	resp, err := r.do(ctx, q)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	raw, err := r.readDocument(q.doing, resp)
	return raw, resp.Header, err
}

// readDocument reads a body that may not be larger than a manifest, and no further.
func (l *link) readDocument(doing string, resp *http.Response) ([]byte, error) {
	if isPage(resp.Header) {
		return nil, l.failf(ErrorPage, doing, "it is a web page: an error page, or a network's log-in page")
	}
	if resp.ContentLength > oci.MaxManifestSize {
		return nil, l.failf(Refused, doing, "it has %d bytes: %w", resp.ContentLength, oci.ErrTooLarge)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, oci.MaxManifestSize+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > oci.MaxManifestSize {
		return nil, l.failf(Refused, doing, "it has more than %d bytes: %w", oci.MaxManifestSize, oci.ErrTooLarge)
	}
	return raw, nil
}

// identify hashes a document, and compares it with what was asked for and with what the registry said it sent.
func identify(raw []byte, want oci.Digest, said string) (oci.Digest, error) {
	if !want.IsZero() {
		if got := want.Algorithm().FromBytes(raw); got != want {
			return oci.Digest{}, fmt.Errorf("its digest is %s", got)
		}
		return want, nil
	}
	if said == "" {
		return oci.SHA256.FromBytes(raw), nil
	}
	named, err := oci.ParseDigest(said)
	if err != nil {
		return oci.Digest{}, fmt.Errorf("its Docker-Content-Digest: %w", err)
	}
	if got := named.Algorithm().FromBytes(raw); got != named {
		return oci.Digest{}, fmt.Errorf("its digest is %s, and it says %s", got, named)
	}
	return named, nil
}

// contentType is what a registry calls a document; "" if that says nothing.
func contentType(h http.Header) string {
	mediaType, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		return ""
	}
	switch mediaType {
	case "application/json", "application/octet-stream", "text/plain", "binary/octet-stream":
		return ""
	}
	return mediaType
}
