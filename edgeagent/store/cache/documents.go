package cache

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/holdfast-dev/holdfast/edgeagent/store/bolt"
)

// documents is what is known of documents in memory. The cache's lock guards it.
type documents struct {
	index   map[id]documentInfo // of those on disk
	bytes   int64               // of all in index
	pending map[id]*Document    // nil: to be removed
	writing map[id]*Document
	keys    map[id][2]string // identity and path of pending ones
}

type documentInfo struct {
	size int64
	used int64 // Unix seconds
	read time.Time
}

func newDocuments() documents {
	return documents{index: map[id]documentInfo{}, pending: map[id]*Document{}, keys: map[id][2]string{}}
}

// PutDocument keeps a document. One whose ETag and body are as before is not written. Nil Body removes it. It never waits.
func (c *Cache) PutDocument(identity, path string, d Document) {
	at := c.seal.name("document", identity, path)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	if d.Read.IsZero() {
		d.Read = c.confirmed()
	}
	old := c.documents.pending[at]
	if why := c.refuse(docSize(&d) - docSize(old)); why != "" && d.Body != nil || docSize(&d) > c.o.MaxDocuments {
		return // a document is the first thing to do without
	}
	c.bytes += docSize(&d) - docSize(old)
	if d.Body == nil {
		c.documents.pending[at] = nil
	} else {
		c.documents.pending[at] = &d
	}
	c.documents.keys[at] = [2]string{identity, path}
	signal(c.wake)
}

// ConfirmDocument notes that upstream still has a document as it is kept. It is remembered in memory: a document is written only if it
// changed.
func (c *Cache) ConfirmDocument(identity, path string) {
	at := c.seal.name("document", identity, path)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	now := c.confirmed()
	if d := c.documents.pending[at]; d != nil {
		again := *d // a reader may have the old one
		again.Read = now
		c.documents.pending[at] = &again
	}
	if info, ok := c.documents.index[at]; ok {
		info.read, info.used = now, now.Unix()
		c.documents.index[at] = info
	}
}

func docSize(d *Document) int64 {
	if d == nil {
		return 0
	}
	return int64(len(d.Body))
}

// Document gives a document by the path (with query) it was read from.
func (c *Cache) Document(identity, path string) (Document, bool, error) {
	at := c.seal.name("document", identity, path)
	c.mu.Lock()
	for _, pending := range []map[id]*Document{c.documents.pending, c.documents.writing} {
		if d, ok := pending[at]; ok {
			c.mu.Unlock()
			if d == nil {
				return Document{}, false, nil
			}
			return *d, true, nil
		}
	}
	info, ok := c.documents.index[at]
	if !ok || c.closed || c.db == nil {
		defer c.mu.Unlock()
		if c.closed {
			return Document{}, false, ErrClosed
		}
		return Document{}, false, nil
	}
	info.used = c.o.Now().Unix()
	c.documents.index[at] = info
	tx, err := c.db.Begin(false)
	c.mu.Unlock()
	if err != nil {
		return Document{}, false, err
	}
	defer tx.Rollback()
	var d Document
	err = bolt.Guard(func() (err error) {
		d, err = c.readDocument(tx, at)
		d.Body = bytes.Clone(d.Body)
		return err
	})
	if err != nil {
		return Document{}, false, fmt.Errorf("cached document %s: %w", path, err)
	}
	d.Read = info.read
	return d, true, nil
}

// readDocument gives a document whose Body may be a part of the file, good as long as the transaction.
func (c *Cache) readDocument(tx *bbolt.Tx, at id) (d Document, err error) {
	record := getLong(tx.Bucket([]byte(bucketDocuments)), at[:])
	if record == nil {
		return d, fmt.Errorf("%w: it is not there", ErrDamaged)
	}
	body, err := c.seal.decode(bucketDocuments, at[:], record)
	if err != nil {
		return d, err
	}
	n, raw, err := decodeNote(body)
	return Document{ContentType: n.ContentType, ETag: n.ETag, Body: raw, Gzipped: n.Gzipped, Read: n.At}, err
}

// take hands the pending documents to the writer.
func (d *documents) take() map[id]*Document {
	d.writing, d.pending = d.pending, map[id]*Document{}
	return d.writing
}

// putBack makes what was not written pending again, and gives the bytes of what has been replaced since.
func (d *documents) putBack(taken map[id]*Document) (released int64) {
	for at, doc := range taken {
		if _, newer := d.pending[at]; newer {
			released += docSize(doc)
		} else {
			d.pending[at] = doc
		}
	}
	d.writing = nil
	return released
}

// documents writes documents, and removes the least used until they are within their bound.
func (w *writing) documents(taken map[id]*Document) error {
	if len(taken) == 0 {
		return nil
	}
	b := w.tx.Bucket([]byte(bucketDocuments))
	for at, d := range taken {
		if d == nil {
			if err := deleteLong(b, at[:]); err != nil {
				return err
			}
			continue
		}
		if old, err := w.c.readDocument(w.tx, at); err == nil && old.ETag == d.ETag && old.ContentType == d.ContentType && old.Gzipped == d.Gzipped && bytes.Equal(old.Body, d.Body) {
			continue
		}
		key := w.c.documentKey(at)
		body, err := note{Identity: key[0], Path: key[1], ContentType: d.ContentType, ETag: d.ETag, Gzipped: d.Gzipped, At: d.Read}.encode(d.Body)
		if err != nil {
			return err
		}
		if err := putLong(b, at[:], w.c.seal.encode(bucketDocuments, at[:], body, isSealedPath(key[1]))); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cache) documentKey(at id) [2]string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.documents.keys[at]
}

// settle takes what was written into the index, and gives its bytes. The caller holds the lock.
func (d *documents) settle(taken map[id]*Document, now int64) (released int64) {
	for at, doc := range taken {
		d.bytes -= d.index[at].size
		delete(d.index, at)
		if doc != nil {
			d.index[at] = documentInfo{size: docSize(doc), used: now, read: doc.Read}
			d.bytes += docSize(doc)
			released += docSize(doc)
		}
		if _, again := d.pending[at]; !again {
			delete(d.keys, at)
		}
		delete(d.writing, at)
	}
	return released
}

// leastUsed gives documents to give up so that more bytes fit into bound.
func (d *documents) leastUsed(more, bound int64) []id {
	var all []id
	for at := range d.index {
		if _, written := d.writing[at]; !written {
			all = append(all, at)
		}
	}
	slices.SortFunc(all, func(a, b id) int { return int(d.index[a].used - d.index[b].used) })
	left := d.bytes + more
	for i, at := range all {
		if left <= bound {
			return all[:i]
		}
		left -= d.index[at].size
	}
	return all
}
