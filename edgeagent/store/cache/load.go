package cache

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/holdfast-dev/holdfast/edgeagent/store/bolt"
)

// Keys in the meta bucket.
const (
	keyFormat = "format"
	keyProof  = "proof" // sealed: opens only with the right key
	keyTotals = "totals"
)

// format is the version of the file's format. A file of another one is a damaged one.
const format = "holdfast cache 1"

// attach opens the file, or makes it, mends it if it is damaged, and reads what is kept in memory. On an error the cache has no file.
func (c *Cache) attach() error {
	err := c.open()
	if errors.Is(err, ErrDamaged) {
		c.o.Log.Error("the cache is damaged; it is set aside and made anew from what can be proved", "file", c.path, "error", err)
		if err = c.mend(err, c.sources()...); err == nil {
			err = c.open()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.health.fail(c.o.Log, err); err != nil {
		c.fails++
	}
	return err
}

func (c *Cache) open() error {
	if !c.keyed {
		if err := c.openKey(); err != nil {
			return err
		}
	}
	if !bolt.Exists(c.path) {
		if err := bolt.Create(c.path, c.fill, c.o.Step); err != nil {
			return fmt.Errorf("create %s: %w", c.path, err)
		}
		c.o.Step("created")
	}
	if err := bolt.Check(c.path); err != nil {
		return fmt.Errorf("check %s: %w", c.path, err)
	}
	db, err := bolt.Open(c.path, bbolt.Options{
		// The map is as long as the file may get, so that a growing file never has to wait until nobody reads.
		InitialMmapSize: int(c.o.MaxBytes), MaxSize: int(c.o.MaxBytes),
	})
	if err != nil {
		return fmt.Errorf("open %s: %w", c.path, err)
	}
	db.AllocSize = int(min(1<<20, c.o.MaxBytes/64))
	c.mu.Lock()
	defer c.mu.Unlock()
	before := memory{c.scopes, c.documents, c.tokens}
	if err := bolt.Guard(func() error { return db.View(c.load) }); err != nil {
		c.reset()
		c.carry(before)
		bolt.Guard(db.Close)
		return fmt.Errorf("read %s: %w", c.path, err)
	}
	c.carry(before)
	c.db = db
	c.health.objects = len(c.refs)
	c.measure()
	return nil
}

// fill makes an empty cache.
func (c *Cache) fill(db *bbolt.DB) error {
	return db.Update(func(tx *bbolt.Tx) error {
		for _, b := range buckets {
			if _, err := tx.CreateBucketIfNotExists([]byte(b)); err != nil {
				return err
			}
		}
		meta := tx.Bucket([]byte(bucketMeta))
		first, err := json.Marshal(totals{})
		if err != nil {
			return err
		}
		for key, body := range map[string]string{keyFormat: format, keyProof: format, keyTotals: string(first)} {
			if err := meta.Put([]byte(key), c.seal.encode(bucketMeta, []byte(key), []byte(body), key == keyProof)); err != nil {
				return err
			}
		}
		return nil
	})
}

// load reads what is kept in memory. What concerns one scope makes that scope an error; anything else makes the file one.
// The caller holds the lock.
func (c *Cache) load(tx *bbolt.Tx) error {
	c.reset()
	for _, b := range buckets {
		if tx.Bucket([]byte(b)) == nil {
			return fmt.Errorf("%w: it has no %s", ErrDamaged, b)
		}
	}
	meta := tx.Bucket([]byte(bucketMeta))
	for _, key := range []string{keyFormat, keyProof, keyTotals} {
		body, err := c.seal.decode(bucketMeta, []byte(key), meta.Get([]byte(key)))
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		if key == keyTotals {
			if err := json.Unmarshal(body, &c.totals); err != nil {
				return fmt.Errorf("totals: %w: %w", ErrDamaged, err)
			}
		} else if string(body) != format {
			return fmt.Errorf("%w: its format is %q", ErrDamaged, body)
		}
	}
	if c.totals.Newest.After(c.newest) {
		c.newest = c.totals.Newest
	}
	return errors.Join(c.loadScopes(tx), c.loadDocuments(tx), c.loadTokens(tx), c.loadOutbox(tx))
}

func decodeScope(key, record []byte) (r scopeRecord, err error) {
	if err = check(bucketScopes, key, record); err == nil {
		if err = json.Unmarshal(record[recordHead:], &r); err != nil {
			err = fmt.Errorf("scope %x: %w: %w", key, ErrDamaged, err)
		}
	}
	return r, err
}

func (c *Cache) loadScopes(tx *bbolt.Tx) error {
	var seen digest
	numbers := map[uint64]bool{}
	err := tx.Bucket([]byte(bucketScopes)).ForEach(func(key, value []byte) error {
		record, err := decodeScope(key, value)
		if err != nil || len(key) != 8 {
			return cmpErr(err, "a scope has a strange key")
		}
		seen.add(value)
		e := &entry{number: scopeNumber(key), stored: true, version: record.Version, savedAt: record.Read, count: record.Items, onDisk: record.Bytes}
		e.info.Key, e.info.Kind, e.info.Version, e.info.Read, e.info.Items = record.Key, record.Kind, record.Version, record.Read, record.Items
		e.used.Store(record.Used.Unix())
		if c.scopes[record.Key] != nil {
			return fmt.Errorf("%w: two scopes are of one query", ErrDamaged)
		}
		c.index(e)
		numbers[e.number] = true
		c.next = max(c.next, e.number)
		err = eachRef(tx, e.number, record, func(_, ref []byte) error { return c.countRef(ref) })
		if err == nil && c.mended {
			_, err = locate(tx, e.number, true, nil)
		}
		if err != nil {
			c.recount.Store(true)
			e.damaged = fmt.Errorf("cached scope of %s for %s: %w", record.Key.Resource, record.Key.Identity, err)
			e.info.Dirty = e.damaged.Error()
		}
		return nil
	})
	if err != nil {
		return err
	}
	if seen != c.totals.Scopes {
		return fmt.Errorf("%w: of %d scopes %d are there", ErrDamaged, c.totals.Scopes.Count, seen.Count)
	}
	return c.loadOrphans(tx, numbers)
}

func (c *Cache) countRef(ref []byte) error {
	r, err := decodeReference(ref)
	if err == nil {
		c.refs[r.content]++
	}
	return err
}

// loadOrphans finds references of scopes that are not there any more: they are removed with the next write.
func (c *Cache) loadOrphans(tx *bbolt.Tx, numbers map[uint64]bool) error {
	cursor := tx.Bucket([]byte(bucketRefs)).Cursor()
	for k, _ := cursor.First(); k != nil; {
		if len(k) < 9 {
			return fmt.Errorf("%w: a reference has a strange key", ErrDamaged)
		}
		n := scopeNumber(k)
		if !numbers[n] {
			c.gone, c.next = append(c.gone, n), max(c.next, n)
			c.recount.Store(true)
		}
		if n++; n == 0 {
			break
		}
		k, _ = cursor.Seek(number(n))
	}
	return nil
}

func (c *Cache) loadDocuments(tx *bbolt.Tx) error {
	b := tx.Bucket([]byte(bucketDocuments))
	return b.ForEachBucket(func(key []byte) error {
		value := getLong(b, key)
		if len(key) != len(id{}) || len(value) < recordHead {
			return fmt.Errorf("%w: a document has a strange key", ErrDamaged)
		}
		// Not checked here: it may be long, and is checked when it is read.
		info := documentInfo{size: int64(len(value))}
		if n, _, err := decodeNote(value[recordHead:]); err == nil && value[0] == plain {
			info.read, info.used = n.At, n.At.Unix()
		}
		c.documents.index[id(key)] = info
		c.documents.bytes += info.size
		return nil
	})
}

func (c *Cache) loadTokens(tx *bbolt.Tx) error {
	return tx.Bucket([]byte(bucketTokens)).ForEach(func(key, value []byte) error {
		body, err := c.seal.decode(bucketTokens, key, value)
		if err != nil || len(key) != len(id{}) {
			return cmpErr(err, "a token has a strange key")
		}
		n, _, err := decodeNote(body)
		c.tokens.index[id(key)] = n.At.Unix()
		return err
	})
}

func (c *Cache) loadOutbox(tx *bbolt.Tx) error {
	var seen digest
	err := tx.Bucket([]byte(bucketOutbox)).ForEach(func(key, value []byte) error {
		n, raw, err := c.decodeQueued(key, value)
		bucket, name, ok := bytes.Cut(key, []byte{0})
		if err != nil || !ok {
			return cmpErr(err, "a queued value has a strange key")
		}
		seen.add(value)
		if c.outbox.index[string(bucket)] == nil {
			c.outbox.index[string(bucket)] = map[string]waiting{}
		}
		c.outbox.index[string(bucket)][string(name)] = waiting{seq: n.Seq, size: int64(len(raw))}
		c.outbox.bytes += int64(len(raw))
		c.outbox.seq = max(c.outbox.seq, n.Seq)
		return nil
	})
	if err == nil && seen != c.totals.Outbox {
		err = fmt.Errorf("%w: of %d values in the outbox %d are there", ErrDamaged, c.totals.Outbox.Count, seen.Count)
	}
	c.outbox.dropped = c.totals.Dropped
	if c.totals.Dropped == nil {
		c.totals.Dropped, c.outbox.dropped = map[string]int{}, map[string]int{}
	}
	return err
}

func cmpErr(err error, otherwise string) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: %s", ErrDamaged, otherwise)
}
