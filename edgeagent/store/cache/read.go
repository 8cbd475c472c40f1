package cache

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"strings"

	"go.etcd.io/bbolt"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
	"github.com/holdfast-dev/holdfast/edgeagent/store/bolt"
)

// snapshot is what a read works on: nothing in it changes any more.
type snapshot struct {
	e       *entry
	info    scope.Info
	number  uint64
	stored  bool
	overlay overlaid
	tx      *bbolt.Tx // nil if the file is not needed
}

// snapshot takes one consistent state of a scope. Under the lock the writer cannot take away what it has just written, so memory
// and transaction fit together. The caller ends the transaction.
func (c *Cache) snapshot(key scope.Key) (s snapshot, err error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.closed {
		return s, ErrClosed
	}
	e := c.scopes[key]
	if e == nil {
		return s, ErrUnknown
	}
	e.used.Store(c.o.Now().Unix())
	s = snapshot{e: e, info: e.info, number: e.number, stored: e.stored, overlay: e.overlay()}
	if s.overlay.whole {
		return s, nil
	}
	s.tx, err = c.begin(e)
	return s, err
}

// begin starts reading the file for a scope whose memory does not say all.
func (c *Cache) begin(e *entry) (*bbolt.Tx, error) {
	switch {
	case e.damaged != nil:
		return nil, e.damaged
	case c.db == nil:
		return nil, fmt.Errorf("scope of %s: %w: its file is gone", e.info.Key.Resource, ErrDamaged)
	}
	return c.db.Begin(false)
}

// Read calls f with one consistent state of a scope, its items in order of namespace and name. If any item cannot be read,
// f is not called. Items are valid until f returns: copy what is kept. f may take its time, but not for ever: the file
// cannot reuse pages that f may still read.
func (c *Cache) Read(key scope.Key, f func(scope.Info, iter.Seq2[scope.Item, error]) error) error {
	s, err := c.snapshot(key)
	if err != nil {
		return err
	}
	s.overlay.sort()
	var found []located
	if s.tx != nil {
		defer s.tx.Rollback()
		err := bolt.Guard(func() (err error) {
			found, err = locate(s.tx, s.number, s.stored, s.overlay.items)
			return err
		})
		if err != nil {
			return c.damage(s.e, err)
		}
	}
	err = bolt.GuardFaults(func() error {
		return f(s.info, func(yield func(scope.Item, error) bool) { c.merge(&s, found, yield) })
	})
	return err
}

// located is an object in the file, with its checksum proved.
type located struct{ ref, content, record []byte }

func (l located) name() name {
	namespace, rest, _ := strings.Cut(string(l.ref[8:]), "\x00")
	return name{namespace, rest}
}

// locate finds and proves the objects that a scope has in the file, but for those that memory replaces.
func locate(tx *bbolt.Tx, scopeNumber uint64, stored bool, replaced map[name]change) ([]located, error) {
	if !stored {
		return nil, nil // all that there is is in memory
	}
	objects := tx.Bucket([]byte(bucketObjects))
	record, err := readScope(tx, scopeNumber)
	if err != nil {
		return nil, err
	}
	found := make([]located, 0, record.Items)
	err = eachRef(tx, scopeNumber, record, func(key, ref []byte) error {
		l := located{ref: key, content: ref[recordHead : recordHead+16]}
		if len(replaced) > 0 {
			if _, ok := replaced[l.name()]; ok {
				return nil
			}
		}
		l.record = getLong(objects, l.content)
		if err := checkObject(l.content, l.record); err != nil {
			return fmt.Errorf("object %q: %w", l.name(), err)
		}
		found = append(found, l)
		return nil
	})
	return found, err
}

func readScope(tx *bbolt.Tx, n uint64) (r scopeRecord, err error) {
	key := number(n)
	record := tx.Bucket([]byte(bucketScopes)).Get(key)
	if record == nil {
		return r, fmt.Errorf("scope %d: %w: it is not there", n, ErrDamaged)
	}
	return decodeScope(key, record)
}

// eachRef gives every reference of a scope, then proves that these were all.
func eachRef(tx *bbolt.Tx, n uint64, record scopeRecord, f func(key, ref []byte) error) error {
	var seen digest
	prefix := number(n)
	cursor := tx.Bucket([]byte(bucketRefs)).Cursor()
	for k, v := cursor.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = cursor.Next() {
		if err := checkRef(k, v); err != nil {
			return err
		}
		seen.add(v)
		if err := f(k, v); err != nil {
			return err
		}
	}
	if seen.Count != record.Items || seen.Sum != record.Digest {
		return fmt.Errorf("scope of %s: %w: of %d objects %d are there", record.Key.Resource, ErrDamaged, record.Items, seen.Count)
	}
	return nil
}

// checkObject proves an object's record, which may be nil.
func checkObject(content, record []byte) error {
	if record == nil {
		return fmt.Errorf("%w: it is not there", ErrDamaged)
	}
	return check(bucketObjects, content, record)
}

func checkRef(key, ref []byte) error {
	if err := check(bucketRefs, key, ref); err != nil {
		return err
	}
	_, err := decodeReference(ref)
	return err
}

// merge yields what the file and memory come to.
func (c *Cache) merge(s *snapshot, found []located, yield func(scope.Item, error) bool) {
	names := s.overlay.names
	next := func() bool {
		ch := s.overlay.items[names[0]]
		names = names[1:]
		return ch.deleted || yield(ch.item, nil)
	}
	for _, l := range found {
		if len(names) > 0 {
			for at := l.name(); len(names) > 0 && compareNames(names[0], at) < 0; {
				if !next() {
					return
				}
			}
		}
		it, err := c.object(l.content, l.record)
		if err != nil {
			yield(it, c.damage(s.e, err))
			return
		}
		if !yield(it, nil) {
			return
		}
	}
	for len(names) > 0 {
		if !next() {
			return
		}
	}
}

// object decodes an object that was checked. Its bytes are the record's, if it is not sealed.
func (c *Cache) object(content, record []byte) (scope.Item, error) {
	body, err := c.seal.unseal(bucketObjects, content, record)
	if err != nil {
		return scope.Item{}, err
	}
	return decodeObject(body)
}

// Get gives one object of a scope. What it gives is the caller's. An object that is not in the scope is no error.
func (c *Cache) Get(key scope.Key, namespace, objectName string) (scope.Item, bool, error) {
	n := name{namespace, objectName}
	c.mu.RLock()
	e := c.scopes[key]
	if e == nil || c.closed {
		defer c.mu.RUnlock()
		if c.closed {
			return scope.Item{}, false, ErrClosed
		}
		return scope.Item{}, false, ErrUnknown
	}
	e.used.Store(c.o.Now().Unix())
	if ch, known := e.latest(n); known {
		c.mu.RUnlock()
		if ch.deleted {
			return scope.Item{}, false, nil
		}
		return ch.item, true, nil
	}
	stored, number := e.stored, e.number
	tx, err := c.begin(e)
	c.mu.RUnlock()
	if err != nil || !stored {
		if tx != nil {
			tx.Rollback()
		}
		return scope.Item{}, false, err
	}
	defer tx.Rollback()
	var it scope.Item
	var ok bool
	if err := bolt.Guard(func() (err error) { it, ok, err = c.lookUp(tx, number, n); return err }); err != nil {
		return scope.Item{}, false, c.damage(e, err)
	}
	return it, ok, nil
}

// lookUp finds one object in the file. That it is not there is believed only if all others are.
func (c *Cache) lookUp(tx *bbolt.Tx, scopeNumber uint64, n name) (it scope.Item, ok bool, err error) {
	key := appendRef(make([]byte, 0, 9+len(n.namespace)+len(n.name)), scopeNumber, n.namespace, n.name)
	ref := tx.Bucket([]byte(bucketRefs)).Get(key)
	if ref == nil {
		record, err := readScope(tx, scopeNumber)
		if err != nil {
			return it, false, err
		}
		return it, false, eachRef(tx, scopeNumber, record, func([]byte, []byte) error { return nil })
	}
	if err := checkRef(key, ref); err != nil {
		return it, false, err
	}
	content := ref[recordHead : recordHead+16]
	record := getLong(tx.Bucket([]byte(bucketObjects)), content)
	if err := checkObject(content, record); err != nil {
		return it, false, fmt.Errorf("object %q: %w", n, err)
	}
	it, err = c.object(content, record)
	if err == nil && record[0] == plain {
		it.Raw = bytes.Clone(it.Raw)
	}
	return it, err == nil, err
}

// damage notes that a scope cannot be read from the file, and gives the error. It heals when the scope is replaced.
func (c *Cache) damage(e *entry, err error) error {
	err = fmt.Errorf("cached scope of %s for %s: %w", e.info.Key.Resource, e.info.Key.Identity, err)
	c.recount.Store(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.damaged == nil && !e.isForget {
		e.damaged = err
		c.dirty(e, err.Error())
	}
	return err
}

func scopeNumber(key []byte) uint64 { return binary.BigEndian.Uint64(key) }
