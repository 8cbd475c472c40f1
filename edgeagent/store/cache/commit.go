package cache

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
	"github.com/holdfast-dev/holdfast/edgeagent/store/bolt"
)

// writing is one transaction in the making.
type writing struct {
	c       *Cache
	tx      *bbolt.Tx
	refs    *bbolt.Bucket
	objects *bbolt.Bucket
	scopes  *bbolt.Bucket
	delta   map[id]int32 // how many scopes more, or fewer, hold a content
	totals  totals
}

// commit writes a batch in one transaction: two flushes of the disk, however much came together.
func (c *Cache) commit(b *batch) error {
	if err := c.makeRoom(b); err != nil {
		return err
	}
	err := c.transact(b)
	for errors.Is(err, berrors.ErrMaxSizeReached) { // what is free has gaps
		some, roomErr := c.makeMoreRoom(b)
		if roomErr != nil || !some {
			return errors.Join(err, roomErr)
		}
		err = c.transact(b)
	}
	return err
}

func (c *Cache) transact(b *batch) error {
	// bbolt frees the pages that the free list says it has, without looking: one that was spoiled has it free pages for ever.
	if err := bolt.Probe(c.path); errors.Is(err, ErrDamaged) {
		return fmt.Errorf("write %s: %w", c.path, err)
	}
	began := time.Now()
	var w *writing
	err := bolt.Guard(func() error {
		return c.db.Update(func(tx *bbolt.Tx) error {
			w = c.begun(tx)
			if err := w.all(b); err != nil {
				return err
			}
			c.o.Step("committing")
			return nil
		})
	})
	if err != nil {
		c.recount.Store(true)
		return fmt.Errorf("write %s: %w", c.path, err)
	}
	c.adopt(w, b, time.Since(began))
	c.o.Step("committed")
	return nil
}

func (c *Cache) begun(tx *bbolt.Tx) *writing {
	w := &writing{
		c: c, tx: tx, delta: map[id]int32{}, totals: c.totals,
		refs: tx.Bucket([]byte(bucketRefs)), objects: tx.Bucket([]byte(bucketObjects)), scopes: tx.Bucket([]byte(bucketScopes)),
	}
	w.totals.Dropped = maps.Clone(c.totals.Dropped)
	return w
}

func (w *writing) all(b *batch) error {
	if w.c.recount.Swap(false) {
		if err := w.count(); err != nil {
			return err
		}
	}
	for _, n := range b.gone {
		if err := w.remove(n); err != nil {
			return err
		}
	}
	for _, k := range b.works {
		if k.loud {
			if err := w.work(k); err != nil {
				return err
			}
		}
	}
	if err := w.sweep(); err != nil {
		return err
	}
	if err := w.documents(b.documents); err != nil {
		return err
	}
	if err := w.tokens(b.tokens); err != nil {
		return err
	}
	if err := w.outbox(b.ops); err != nil {
		return err
	}
	w.totals.Newest = b.newest
	return w.putTotals()
}

func (w *writing) putTotals() error {
	body, err := json.Marshal(w.totals)
	if err != nil {
		return err
	}
	key := []byte(keyTotals)
	return w.tx.Bucket([]byte(bucketMeta)).Put(key, w.c.seal.encode(bucketMeta, key, body, false))
}

// adopt makes the writer's own memory fit what was committed.
func (c *Cache) adopt(w *writing, b *batch, took time.Duration) {
	for content, d := range w.delta {
		if c.refs[content] += d; c.refs[content] == 0 {
			delete(c.refs, content)
		}
	}
	c.totals = w.totals
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.o.Now().Unix()
	c.outbox.dropped = maps.Clone(w.totals.Dropped)
	c.bytes -= c.documents.settle(b.documents, now) + c.tokens.settle(b.tokens, now)
	c.health.commits++
	c.health.last, c.health.objects = took, len(c.refs)
	c.measure()
}

// measure notes how much of the file is in use.
func (c *Cache) measure() {
	s := c.db.Stats()
	page := int64(c.db.Info().PageSize)
	c.db.View(func(tx *bbolt.Tx) error {
		c.health.fileBytes = tx.Size()
		return nil
	})
	c.health.usedBytes = c.health.fileBytes - int64(s.FreePageN+s.PendingPageN)*page
}

// count counts the references and totals anew, and removes objects that nobody holds: a commit that went wrong may have happened all
// the same.
func (w *writing) count() error {
	refs, t, err := countFile(w.tx)
	if err != nil {
		return err
	}
	w.c.refs = refs
	w.totals.Scopes, w.totals.Outbox = t.Scopes, t.Outbox
	var orphans [][]byte
	err = w.objects.ForEach(func(k, _ []byte) error {
		if len(k) != len(id{}) || refs[id(k)] == 0 {
			orphans = append(orphans, bytes.Clone(k))
		}
		return nil
	})
	for _, k := range orphans {
		err = errors.Join(err, deleteLong(w.objects, k))
	}
	return err
}

// work brings a scope in the file to what it is in memory.
func (w *writing) work(k *work) error {
	record := scopeRecord{Key: k.info.Key}
	key := number(k.number)
	old := w.scopes.Get(key)
	if old != nil {
		var err error
		if record, err = decodeScope(key, old); err != nil {
			return err
		}
		w.totals.Scopes.remove(old)
	}
	record.Kind, record.Version, record.Read, record.Used = k.info.Kind, k.info.Version, k.info.Read, time.Unix(k.e.used.Load(), 0)
	for n, ch := range k.all() {
		if err := w.item(&record, k, n, ch); err != nil {
			return err
		}
	}
	body, err := json.Marshal(record)
	if err != nil {
		return err
	}
	next := w.c.seal.encode(bucketScopes, key, body, false)
	w.totals.Scopes.add(next)
	k.items, k.onDisk = record.Items, record.Bytes
	return w.scopes.Put(key, next)
}

// all gives what has to be written, heartbeats too.
func (k *work) all() map[name]change {
	sum := over(k.e.quiet, &changes{items: k.quiet})
	for _, n := range k.calm {
		sum.remove(n)
	}
	if k.changes == nil {
		return sum.items
	}
	return over(sum, &changes{items: k.changes.items}).items
}

// item puts or removes one reference.
func (w *writing) item(record *scopeRecord, k *work, n name, ch change) error {
	key := appendRef(nil, k.number, n.namespace, n.name)
	if old := w.refs.Get(key); old != nil {
		if err := w.drop(record, old); err != nil {
			return err
		}
		if ch.deleted {
			return w.refs.Delete(key)
		}
	}
	if ch.deleted {
		return nil
	}
	content, err := w.hold(k.info.Key.Resource, &ch.item)
	if err != nil {
		return err
	}
	ref := reference{content, ch.item.Essence, uint32(len(ch.item.Raw))}
	next := w.c.seal.encode(bucketRefs, key, ref.encode(), false)
	record.Items++
	record.Bytes += int64(ref.size)
	record.Digest += sumOf(next)
	return w.refs.Put(key, next)
}

func (w *writing) drop(record *scopeRecord, old []byte) error {
	ref, err := decodeReference(old)
	if err != nil {
		return err
	}
	w.delta[ref.content]--
	record.Items--
	record.Bytes -= int64(ref.size)
	record.Digest -= sumOf(old)
	return nil
}

// hold makes sure that an object is in the file. One that another scope holds already is looked at: it may be spoiled.
func (w *writing) hold(r scope.Resource, it *scope.Item) (id, error) {
	content := w.c.seal.content(r, it)
	w.delta[content]++
	if old := getLong(w.objects, content[:]); old != nil && check(bucketObjects, content[:], old) == nil {
		return content, nil
	}
	return content, putLong(w.objects, content[:], w.c.seal.encode(bucketObjects, content[:], encodeObject(it), isSealed(r)))
}

// remove removes a scope with its references.
func (w *writing) remove(n uint64) error {
	for _, key := range references(w.tx, n) {
		if ref, err := decodeReference(w.refs.Get(key)); err == nil {
			w.delta[ref.content]--
		}
		if err := w.refs.Delete(key); err != nil {
			return err
		}
	}
	key := number(n)
	if old := w.scopes.Get(key); old != nil {
		w.totals.Scopes.remove(old)
		return w.scopes.Delete(key)
	}
	return nil
}

// sweep removes the objects that nobody holds any more.
func (w *writing) sweep() error {
	for content, d := range w.delta {
		if d < 0 && w.c.refs[content]+d <= 0 {
			if err := deleteLong(w.objects, content[:]); err != nil {
				return err
			}
		}
	}
	return nil
}
