package scope

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"time"
)

// Document is an answer that is kept whole, by its URL: discovery, OpenAPI, /version, a Table that cannot be made anew.
type Document struct {
	// ContentType is the answer's, with its parameters. ETag is "" if upstream sent none.
	ContentType, ETag string
	// Body is the answer's. Gzipped tells that it is compressed: what the API offers comes to 10 MB, and to a sixth of that compressed.
	Body    []byte
	Gzipped bool
	// Read is when upstream last confirmed it. Wall clock.
	Read time.Time
}

// Reader reads the answer as upstream gave it.
func (d Document) Reader() (io.Reader, error) {
	r := bytes.NewReader(d.Body)
	if !d.Gzipped {
		return r, nil
	}
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("decompress document: %w", err)
	}
	return z, nil
}

// Plain gives the answer as upstream gave it.
func (d Document) Plain() ([]byte, error) {
	if !d.Gzipped {
		return d.Body, nil
	}
	r, err := d.Reader()
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("decompress document: %w", err)
	}
	return raw, nil
}
