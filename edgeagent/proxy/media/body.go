package media

import (
	"compress/gzip"
	"io"
	"net/http"
	"sync"
)

// gzipThreshold is from where on an answer is compressed: kube-apiserver's figure.
const gzipThreshold = 128 << 10

// gzipLevel is the fastest: it is for answers on the same machine.
const gzipLevel = gzip.BestSpeed

// writers keeps compressors: each has more than half a megabyte.
var writers = sync.Pool{}

// Body writes an answer of a Format: it sets Content-Type and compresses what is longer than 128 KiB if the client takes gzip.
// Close ends it.
func Body(w http.ResponseWriter, code int, f Format) io.WriteCloser {
	w.Header().Set("Content-Type", f.ContentType())
	if f.Gzip && !f.Stream {
		return &body{w: w, code: code}
	}
	w.WriteHeader(code)
	return plain{w}
}

// plain is a body that is written as it comes.
type plain struct{ io.Writer }

func (plain) Close() error { return nil }

// body holds the beginning of an answer until it is known whether it is worth compressing.
type body struct {
	w    http.ResponseWriter
	code int
	held []byte
	zip  *gzip.Writer
}

func (b *body) Write(p []byte) (int, error) {
	if b.zip != nil {
		return b.zip.Write(p)
	}
	if len(b.held)+len(p) <= gzipThreshold {
		b.held = append(b.held, p...)
		return len(p), nil
	}
	b.w.Header().Set("Content-Encoding", "gzip")
	b.w.Header().Add("Vary", "Accept-Encoding")
	b.w.WriteHeader(b.code)
	if err := b.compress(); err != nil {
		return 0, err
	}
	if _, err := b.zip.Write(b.held); err != nil {
		return 0, err
	}
	b.held = nil
	return b.zip.Write(p)
}

// compress takes a compressor from the pool.
func (b *body) compress() (err error) {
	if z, ok := writers.Get().(*gzip.Writer); ok {
		z.Reset(b.w)
		b.zip = z
		return nil
	}
	b.zip, err = gzip.NewWriterLevel(b.w, gzipLevel)
	return err
}

func (b *body) Close() error {
	if b.zip != nil {
		err := b.zip.Close()
		b.zip.Reset(nil)
		writers.Put(b.zip)
		return err
	}
	b.w.WriteHeader(b.code)
	_, err := b.w.Write(b.held)
	return err
}
