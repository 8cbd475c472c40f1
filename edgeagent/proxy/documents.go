package proxy

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"sync"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

const (
	// maxDocument bounds an answer that is kept whole. The largest that Kubernetes has, /openapi/v2, has 4 MiB.
	maxDocument = 16 << 20
	// zippedFrom is how long documents are that are kept compressed.
	zippedFrom = 32 << 10
	// zipperBytes is about what a compressor takes in memory.
	zipperBytes = 5 << 18
)

// zippers keeps compressors from one document to the next.
var zippers = sync.Pool{New: func() any {
	z, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // fails only on a level that does not exist
	return z
}}

// docTap keeps an answer whole. A long one is compressed as it comes: all that an API server offers would be 10 MB in memory otherwise.
type docTap struct {
	s              *Server
	identity, path string
	document       scope.Document
	share          share
	length         int // as it comes
	body           bytes.Buffer
	zipper         *gzip.Writer
	err            error
}

// document gives a tap if the answer is kept whole: discovery and the like for everyone, a Table for who asked for it. One that did
// not change is confirmed.
func (c *call) document(resp *http.Response) tap {
	if c.req.Resourceful() && !c.s.keeps(c.req.Resource) || !c.caller.Node && !c.common() {
		return nil
	}
	id, path, ok := c.s.cfg.Offline.Document(c.r, c.req, c.who(), resp.Header.Get("Content-Type"))
	switch {
	case !ok:
		return nil
	case resp.StatusCode == http.StatusNotModified:
		c.s.cfg.Store.ConfirmDocument(id, path)
		return nil
	case resp.StatusCode != http.StatusOK:
		return nil
	}
	return unzipped(resp, &docTap{
		s: c.s, identity: id, path: path, share: share{budget: &c.s.budget},
		document: scope.Document{ContentType: resp.Header.Get("Content-Type"), ETag: resp.Header.Get("ETag")},
	})
}

// common tells whether a request is one that everyone sends alike. A pod could make up any number of others, and fill the cache.
func (c *call) common() bool {
	q := c.r.URL.Query()
	q.Del("timeout") // kubectl's, which is no part of the name that a document is kept under
	return !c.req.Resourceful() && (len(q) == 0 || len(q) == 1 && q.Has("hash"))
}

func (t *docTap) take(p []byte) {
	if t.err != nil {
		return
	}
	if t.length += len(p); t.length > maxDocument {
		t.err = wire.ErrTooLarge
		return
	}
	before := t.body.Len()
	if t.zipper == nil && t.length > zippedFrom {
		if t.err = t.compress(); t.err != nil {
			return
		}
	}
	if t.zipper != nil {
		_, t.err = t.zipper.Write(p)
	} else {
		t.body.Write(p)
	}
	if grown := t.body.Len() - before; t.err == nil && grown > 0 {
		t.err = t.share.add(grown)
	}
}

// compress begins to, with what came so far.
func (t *docTap) compress() error {
	if err := t.share.add(zipperBytes); err != nil {
		return err
	}
	held := t.body.Bytes()
	t.body = bytes.Buffer{}
	t.zipper = zippers.Get().(*gzip.Writer)
	t.zipper.Reset(&t.body)
	_, err := t.zipper.Write(held)
	return err
}

func (t *docTap) between() bool { return false }

func (t *docTap) done(whole bool) {
	defer t.share.free()
	if t.zipper != nil {
		if err := t.zipper.Close(); t.err == nil {
			t.err = err
		}
		t.zipper.Reset(nil)
		zippers.Put(t.zipper)
		t.document.Gzipped = true
	}
	switch {
	case !whole:
	case t.err != nil:
		t.s.unkept(scope.Key{Identity: t.identity, Resource: scope.Resource{Resource: t.path}}, t.err)
	default:
		t.document.Body, t.document.Read = t.body.Bytes(), t.s.cfg.Now() // nobody writes to it any more
		t.s.cfg.Store.PutDocument(t.identity, t.path, t.document)
	}
}
