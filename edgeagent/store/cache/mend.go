package cache

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"

	"github.com/holdfast-dev/holdfast/edgeagent/durable"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
	"github.com/holdfast-dev/holdfast/edgeagent/store/bolt"
)

// mend makes the file anew from what of it can be proved, and sets the old one aside. Every record proves itself, and every
// scope proves that it has all of them: one that does not becomes an error when it is loaded, never a shorter list.
func (c *Cache) mend(why error, sources ...source) error {
	damaged := filepath.Join(filepath.Dir(c.path), damagedName)
	kept, lost, err := c.salvage(sources)
	if isFull(err) {
		os.Remove(damaged) // one that was set aside earlier: its room is worth more
		kept, lost, err = c.salvage(sources)
	}
	if err != nil {
		return fmt.Errorf("make %s anew: %w", c.path, err)
	}
	// The old file keeps its name until the new one takes it: a crash in between leaves one of them.
	os.Remove(damaged)
	if err := os.Link(c.path, damaged); err != nil && bolt.Exists(c.path) {
		c.o.Log.Warn("the damaged cache cannot be kept for a look", "error", err)
	}
	if err := os.Rename(c.path+".new", c.path); err != nil {
		return err
	}
	c.mended = true
	c.mu.Lock()
	defer c.mu.Unlock()
	c.health.rebuilt = fmt.Sprintf("the cache was damaged (%v) and made anew: %d records were kept, %s; the old file is %s", short(why), kept, lost, damaged)
	c.o.Log.Warn("the cache was made anew", "kept", kept, "lost", lost, "setAside", damaged)
	return durable.SyncDir(filepath.Dir(c.path))
}

// short gives the beginning of what may be many errors.
func short(err error) string {
	const most = 300
	s := err.Error()
	if len(s) > most {
		s = s[:most] + "…"
	}
	return s
}

// salvaged is how many bytes one transaction copies.
const salvaged = 4 << 20

// salvage copies what can be proved into a new file beside the old one.
func (c *Cache) salvage(sources []source) (kept int, lost string, err error) {
	dst := c.path + ".new"
	var was totals
	var now totals
	err = bolt.Create(dst, func(db *bbolt.DB) error {
		if err := c.fill(db); err != nil {
			return err
		}
		cp := &copier{c: c, db: db}
		for _, s := range sources {
			cp.wants = s.wants
			damage, err := bolt.Salvage(s.path, cp.take)
			if err = errors.Join(err, cp.flush()); err != nil {
				return err
			}
			if damage != nil {
				c.o.Log.Warn("parts of the cache cannot be reached", "file", s.path, "damage", short(damage))
			}
		}
		kept, was = cp.kept, cp.was
		now, err = c.putCounted(db, was)
		return err
	}, nil)
	lost = "nothing that waits for the link was lost"
	if now.Outbox != was.Outbox {
		lost = fmt.Sprintf("of %d writes that waited for the link %d are left", was.Outbox.Count, now.Outbox.Count)
	}
	return kept, lost, err
}

// source is a file to copy from, and which of its buckets.
type source struct {
	path  string
	wants func(bucket string) bool
}

// sources says from what a damaged file is made anew at the start: from itself, or, if much of it is gone, from the copy. A
// copy is a complete, older state. What waits for the link is the file's own in any case: what was replayed since is not to be replayed
// again.
func (c *Cache) sources() []source {
	all := func(string) bool { return true }
	cached := func(bucket string) bool { return bucket != bucketMeta && bucket != bucketOutbox }
	own := []source{{c.path, all}}
	path := filepath.Join(filepath.Dir(c.path), copyName)
	if !bolt.Exists(path) {
		return own
	}
	const most = 10 // at a tenth lost the copy is worth more
	if has, had := c.provable(c.path, cached), c.provable(path, cached); had-has <= had/most {
		return own
	}
	return []source{{path, cached}, {c.path, func(bucket string) bool { return !cached(bucket) }}}
}

// provable counts the records of a file that prove themselves.
func (c *Cache) provable(path string, wants func(bucket string) bool) (count int) {
	_, err := bolt.Salvage(path, func(r bolt.Record) error {
		if r.Nested != nil {
			r.Key = r.Nested
		}
		if _, err := c.seal.decode(r.Bucket, r.Key, r.Value); err == nil && wants(r.Bucket) {
			count++
		}
		return nil
	})
	if err != nil {
		c.o.Log.Warn("a file of the cache cannot be read", "file", path, "error", err)
	}
	return count
}

// putCounted writes the totals of what was copied.
func (c *Cache) putCounted(db *bbolt.DB, was totals) (now totals, err error) {
	return now, db.Update(func(tx *bbolt.Tx) error {
		if _, now, err = countFile(tx); err != nil {
			return err
		}
		now.Newest, now.Dropped = was.Newest, was.Dropped
		body, err := json.Marshal(now)
		if err != nil {
			return err
		}
		key := []byte(keyTotals)
		return tx.Bucket([]byte(bucketMeta)).Put(key, c.seal.encode(bucketMeta, key, body, false))
	})
}

// copier copies records that prove themselves.
type copier struct {
	c       *Cache
	db      *bbolt.DB
	waiting []bolt.Record
	bytes   int
	kept    int
	was     totals
	wants   func(bucket string) bool
}

func (cp *copier) take(r bolt.Record) error {
	if r.Nested != nil {
		r.Key = r.Nested
	}
	body, err := cp.c.seal.decode(r.Bucket, r.Key, r.Value)
	if err != nil {
		return nil
	}
	if !cp.wants(r.Bucket) {
		return nil
	}
	if r.Bucket == bucketMeta {
		if string(r.Key) == keyTotals {
			return json.Unmarshal(body, &cp.was)
		}
		return nil
	}
	cp.waiting = append(cp.waiting, bolt.Record{Bucket: r.Bucket, Key: append([]byte(nil), r.Key...), Value: append([]byte(nil), r.Value...)})
	if cp.bytes += len(r.Key) + len(r.Value); cp.bytes >= salvaged {
		return cp.flush()
	}
	return nil
}

func (cp *copier) flush() error {
	err := cp.db.Update(func(tx *bbolt.Tx) error {
		for _, r := range cp.waiting {
			b := tx.Bucket([]byte(r.Bucket))
			if b == nil {
				continue // another program's
			}
			put := b.Put
			if r.Bucket == bucketObjects || r.Bucket == bucketDocuments {
				put = func(key, value []byte) error { return putLong(b, key, value) }
			}
			if err := put(r.Key, r.Value); err != nil {
				return err
			}
		}
		return nil
	})
	cp.kept += len(cp.waiting)
	cp.waiting, cp.bytes = cp.waiting[:0], 0
	return err
}

// countFile counts a file's references and totals.
func countFile(tx *bbolt.Tx) (refs map[id]int32, t totals, err error) {
	refs = map[id]int32{}
	err = tx.Bucket([]byte(bucketRefs)).ForEach(func(_, v []byte) error {
		if r, err := decodeReference(v); err == nil {
			refs[r.content]++
		}
		return nil
	})
	for bucket, d := range map[string]*digest{bucketScopes: &t.Scopes, bucketOutbox: &t.Outbox} {
		err = errors.Join(err, tx.Bucket([]byte(bucket)).ForEach(func(_, v []byte) error {
			d.add(v)
			return nil
		}))
	}
	return refs, t, err
}

// rebuild replaces a file that turned out to be damaged while it was in use. Readers keep the old one until they are done.
func (c *Cache) rebuild(why error) error {
	c.o.Log.Error("the cache is damaged; it is set aside and made anew from what can be proved", "file", c.path, "error", why)
	c.mu.Lock()
	db := c.db
	c.db = nil
	c.mu.Unlock()
	if db != nil {
		c.old.Go(func() { bolt.Guard(db.Close) })
	}
	err := c.mend(why, source{c.path, func(string) bool { return true }})
	if err == nil {
		err = c.open()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.health.fail(c.o.Log, err)
	return err
}

// memory is what does not come from the file.
type memory struct {
	scopes    map[scope.Key]*entry
	documents documents
	tokens    tokens
}

// carry takes over what was in memory to what was loaded from a file. The caller holds the lock.
func (c *Cache) carry(m memory) {
	for _, old := range m.scopes {
		e := c.scopes[old.info.Key]
		switch {
		case old.whole():
			if e == nil {
				e = c.add(old.info.Key)
			}
			e.pending, e.info = over(old.writing, old.pending), old.info
			c.bytes += size(e.pending)
			c.enqueue(e)
		case e != nil && e.info.Version != old.info.Version:
			c.dirty(e, "the cache was damaged: an older state is left")
		}
	}
	c.documents.pending, c.documents.keys = m.documents.pending, m.documents.keys
	for _, d := range c.documents.pending {
		c.bytes += docSize(d)
	}
	c.tokens.pending = m.tokens.pending
	for _, raw := range c.tokens.pending {
		c.bytes += int64(len(raw))
	}
}
