package registry

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
)

// blob answers GET and HEAD of a blob.
func (c *call) blob() error {
	g, err := c.allow()
	if err != nil {
		return err
	}
	if err := c.verified(c.target.ref); err != nil {
		return err
	}
	linked := c.linked(c.target.ref)
	if c.r.Method == http.MethodHead {
		return c.blobSize(g, linked)
	}
	b, err := c.cfg.Content.Blob(c.ctx, c.target.ref, g.credential)
	if err != nil {
		return c.withdrawn(g, err)
	}
	if !linked {
		if err := c.prove(g, c.target, g.asked || b.Proved); err != nil {
			return err
		}
		// Keeping it is a write that lasts. The first bytes do not wait for that.
		var linking sync.WaitGroup
		linking.Go(func() { c.link(c.target.ref) })
		defer linking.Wait()
	}
	if c.unchanged(c.target.ref.Digest) {
		return nil
	}
	return c.send(b)
}

// blobSize answers HEAD without fetching anything.
func (c *call) blobSize(g grant, linked bool) error {
	size, ok, err := c.cfg.Content.Stored(c.ctx, c.target.ref.Digest)
	switch {
	case err != nil:
		return err
	case g.asked:
		size = g.descriptor.Size
	case !linked || !ok:
		answer, err := c.ask(c.ctx, c.target, g.credential, c.key(g.credential))
		if err != nil {
			return c.withdrawn(g, err)
		}
		size = answer.Size
	}
	if c.unchanged(c.target.ref.Digest) {
		return nil
	}
	c.blobHeader(size)
	c.w.WriteHeader(http.StatusOK)
	return nil
}

func (c *call) blobHeader(length int64) {
	h := c.w.Header()
	h.Set("Accept-Ranges", "bytes")
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", strconv.FormatInt(length, 10))
}

// send sends the part of a blob that the client wants. The first bytes are read before anything is answered: until then a fetch that
// fails can be said.
func (c *call) send(b BlobContent) error {
	part, err := c.part(b.Size)
	if err != nil {
		c.w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", b.Size))
		return err
	}
	body := bufio.NewReaderSize(nil, 16)
	if part.length > 0 {
		reader, err := b.Open(c.ctx, part.from)
		if err != nil {
			return err
		}
		defer reader.Close()
		body.Reset(reader)
		if _, err := body.Peek(1); err != nil {
			return notThere(err)
		}
	}
	c.blobHeader(part.length)
	if part.whole {
		c.w.WriteHeader(http.StatusOK)
	} else {
		c.w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", part.from, part.from+part.length-1, b.Size))
		c.w.WriteHeader(http.StatusPartialContent)
	}
	if err := c.copy(body, part.length); err != nil {
		c.broken(err)
	}
	return nil
}

// notThere says what a blob that ends before its first byte is.
func notThere(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: the blob ended before its first byte", io.ErrUnexpectedEOF)
	}
	return err
}

// buffers hold what is under way to a client. They are larger than a TLS record, and as many as clients are served.
var buffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// copy copies as many bytes as were announced, as long as the client takes them.
func (c *call) copy(from io.Reader, length int64) error {
	buffer := buffers.Get().(*[64 << 10]byte)
	defer buffers.Put(buffer)
	defer c.relax()
	for length > 0 {
		n, err := from.Read(buffer[:min(length, int64(len(buffer)))])
		if n > 0 {
			c.patient()
			if _, err := c.w.Write(buffer[:n]); err != nil {
				return clientError{err}
			}
			length -= int64(n)
		}
		if err != nil && length > 0 {
			return notWhole(err)
		}
	}
	return nil
}

func notWhole(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// clientError is one of the connection to the client.
type clientError struct{ error }

// broken ends an answer that cannot be finished: the connection is cut, so that nobody takes a part for the whole. containerd goes on
// from where it is.
func (c *call) broken(err error) {
	_, left := errors.AsType[clientError](err)
	if !left && !errors.Is(err, context.Canceled) {
		c.log.Warn("a blob broke off on its way to a client", "name", c.target.ref.String(), "error", err, "upstream", isUpstream(err))
	}
	panic(http.ErrAbortHandler)
}
