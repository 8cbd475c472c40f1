package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

// Blob is a blob, or what is left of it, on its way. Its bytes are not checked against the digest: whoever stores them hashes them.
type Blob struct {
	// Body gives the bytes from the offset that was asked for. Its errors are *Error, or the context's; io.EOF comes only when the
	// length was right. It must be closed.
	Body io.ReadCloser
	// Size is that of the whole blob; -1 if nobody knows.
	Size int64
}

// Blob fetches a blob, from an offset on. size is what a manifest says it has, or -1. A registry that cannot begin in the middle sends all
// of it, and what comes before the offset is passed over.
func (r *Registry) Blob(ctx context.Context, repository string, digest oci.Digest, size, from int64) (*Blob, error) {
	q, err := r.blobQuery(http.MethodGet, repository, digest)
	if err != nil {
		return nil, err
	}
	if from < 0 || size >= 0 && from > size {
		return nil, r.failf(Refused, q.doing, "offset %d lies outside of its %d bytes", from, size)
	}
	if from > 0 {
		q.rang = fmt.Sprintf("bytes=%d-", from)
	}
	resp, err := r.do(ctx, q)
	if err != nil {
		return nil, err
	}
	b, err := r.openBlob(q, resp, size, from)
	if err != nil {
		resp.Body.Close()
		return nil, err
	}
	return b, nil
}

// BlobSize asks how large a blob is, without fetching it; -1 if the registry has it and does not say.
func (r *Registry) BlobSize(ctx context.Context, repository string, digest oci.Digest) (int64, error) {
	q, err := r.blobQuery(http.MethodHead, repository, digest)
	if err != nil {
		return 0, err
	}
	resp, err := r.do(ctx, q)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if isPage(resp.Header) {
		return 0, r.failf(ErrorPage, q.doing, "it is a web page")
	}
	return resp.ContentLength, nil
}

func (r *Registry) blobQuery(method, repository string, digest oci.Digest) (query, error) {
	q := query{doing: fmt.Sprintf("%s blob %s of %s", method, digest, repository), method: method, repository: repository}
	if err := checkName(repository, digest); err != nil {
		return q, r.fail(Refused, method+" blob", err)
	}
	q.url = r.address(repository, "blobs", digest.String())
	return q, nil
}

// checkName looks at what goes into an address.
func checkName(repository string, digest oci.Digest) error {
	if digest.IsZero() {
		return errors.New("there is no digest")
	}
	return oci.CheckRepository(repository)
}

// openBlob checks that an answer can be what was asked for.
func (r *Registry) openBlob(q query, resp *http.Response, size, from int64) (*Blob, error) {
	total, begins := resp.ContentLength, int64(0)
	if resp.StatusCode == http.StatusPartialContent {
		begins = from
		var err error
		if total, err = contentRange(resp.Header.Get("Content-Range"), from, resp.ContentLength); err != nil {
			return nil, r.fail(ErrorPage, q.doing, err)
		}
	}
	switch {
	case size >= 0 && total >= 0 && total != size:
		return nil, r.failf(ErrorPage, q.doing, "it has %d bytes, and the manifest says %d", total, size)
	case isPage(resp.Header) && (size < 0 || total < 0):
		return nil, r.failf(ErrorPage, q.doing, "it is a web page: an error page, or a network's log-in page")
	case total >= 0 && total < from:
		return nil, r.failf(ErrorPage, q.doing, "it has %d bytes, and %d are here already", total, from)
	}
	if size < 0 {
		size = total
	}
	return &Blob{Size: size, Body: &blobBody{ReadCloser: resp.Body, link: r.link, doing: q.doing, skip: from - begins, left: size - from, known: size >= 0}}, nil
}

// contentRange reads "bytes FIRST-LAST/TOTAL" and checks it against what was asked for. TOTAL may be unknown.
func contentRange(header string, from, length int64) (total int64, err error) {
	wrong := fmt.Errorf("its Content-Range is %.80q, and the bytes from %d on were asked for", header, from)
	span, whole, found := strings.Cut(strings.TrimPrefix(header, "bytes "), "/")
	begin, end, found2 := strings.Cut(span, "-")
	if !found || !found2 || !strings.HasPrefix(header, "bytes ") {
		return 0, wrong
	}
	first, err1 := strconv.ParseUint(begin, 10, 62)
	last, err2 := strconv.ParseUint(end, 10, 62)
	if err1 != nil || err2 != nil || int64(first) != from || last < first || length >= 0 && int64(last-first)+1 != length {
		return 0, wrong
	}
	if whole == "*" {
		return -1, nil
	}
	all, err := strconv.ParseUint(whole, 10, 62)
	if err != nil || last >= all {
		return 0, wrong
	}
	return int64(all), nil
}

// isPage tells whether an answer is for people.
func isPage(h http.Header) bool {
	mediaType, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && (mediaType == "text/html" || mediaType == "application/xhtml+xml")
}

// blobBody ends where the blob does, and nowhere else.
type blobBody struct {
	io.ReadCloser
	link  *link
	doing string
	skip  int64 // bytes that are here already
	left  int64 // if known
	known bool
}

// Read gives the next bytes that are wanted.
func (b *blobBody) Read(p []byte) (int, error) {
	if b.skip > 0 {
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.LimitReader(b.ReadCloser, b.skip), make([]byte, chunk))
		b.skip -= n
		if err == nil && b.skip > 0 {
			err = b.link.failf(Dropped, b.doing, "it ended %d bytes before those that are missing", b.skip)
		}
		if err != nil {
			return 0, err
		}
	}
	n, err := b.ReadCloser.Read(p)
	if !b.known {
		return n, err
	}
	if int64(n) > b.left {
		return 0, b.link.failf(ErrorPage, b.doing, "it is longer than it should be")
	}
	b.left -= int64(n)
	if err == io.EOF && b.left > 0 {
		err = b.link.failf(Dropped, b.doing, "it ended %d bytes before its end", b.left)
	}
	return n, err
}
