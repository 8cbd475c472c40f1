package cache

import (
	"bytes"
	"strings"

	"go.etcd.io/bbolt"
)

// sift compares what was taken with the file and leaves what has to be written. A list that upstream sent again becomes the few
// objects that differ; what differs in nothing but heartbeats stays in memory.
func (c *Cache) sift(tx *bbolt.Tx, b *batch) error {
	for _, k := range b.works {
		k.items = k.e.count
		if k.changes == nil {
			continue
		}
		if !k.e.stored {
			k.loud, k.items = true, len(k.changes.items)
			continue
		}
		err := c.siftWork(tx, k)
		if err == nil && k.damaged == nil {
			continue
		}
		if err != nil {
			c.damage(k.e, err)
		}
		c.renumber(b, k)
	}
	return nil
}

// renumber gives a scope that cannot be believed a new place in the file, if it is known whole; else its changes are worth nothing.
func (c *Cache) renumber(b *batch, k *work) {
	k.quiet, k.calm = nil, nil
	if !k.e.writing.whole {
		k.changes, k.loud = nil, false
		return
	}
	c.mu.Lock()
	c.next++
	k.number = c.next
	c.mu.Unlock()
	b.gone = append(b.gone, k.e.number)
	k.changes, k.loud, k.items = k.e.writing, true, len(k.e.writing.items)
}

// siftWork sorts a scope's changes into what is as on disk, what differs in heartbeats, and what must be written.
func (c *Cache) siftWork(tx *bbolt.Tx, k *work) error {
	record, err := readScope(tx, k.e.number)
	if err != nil {
		return err
	}
	left := &changes{items: map[name]change{}}
	k.quiet = map[name]change{}
	refs, objects := tx.Bucket([]byte(bucketRefs)), tx.Bucket([]byte(bucketObjects))
	for n, ch := range k.changes.items {
		key := appendRef(nil, k.e.number, n.namespace, n.name)
		value := refs.Get(key)
		if value == nil {
			if !ch.deleted {
				left.set(n, ch)
				k.items++
			}
			continue
		}
		if err := checkRef(key, value); err != nil {
			return err
		}
		ref, err := decodeReference(value)
		if err != nil {
			return err
		}
		switch {
		case ch.deleted:
			left.set(n, ch)
			k.items--
		case c.seal.content(k.info.Key.Resource, &ch.item) == ref.content:
			if k.changes.whole { // a list is what heals a scope, so it looks at what it finds
				if err := checkObject(ref.content[:], getLong(objects, ref.content[:])); err != nil {
					return err
				}
			}
			k.calm = append(k.calm, n)
		case ch.item.Essence != 0 && ch.item.Essence == ref.essence:
			ch.item.Raw = bytes.Clone(ch.item.Raw) // it may be a part of a long list, which need not stay
			k.quiet[n] = ch
		default:
			left.set(n, ch)
		}
	}
	if k.changes.whole {
		if err := k.absent(tx, record, left); err != nil {
			return err
		}
	}
	k.loud = k.loud || len(left.items) > 0 || k.changes.whole && record.Kind != k.info.Kind
	k.changes = left
	return nil
}

// absent adds what a whole list no longer has.
func (k *work) absent(tx *bbolt.Tx, record scopeRecord, left *changes) error {
	whole := k.changes.items
	return eachRef(tx, k.e.number, record, func(key, _ []byte) error {
		n := located{ref: key}.name()
		if _, ok := whole[n]; !ok {
			// The key's bytes are the file's.
			left.set(name{strings.Clone(n.namespace), strings.Clone(n.name)}, change{deleted: true})
			k.items--
		}
		return nil
	})
}

// references gives the keys of a scope's references.
func references(tx *bbolt.Tx, n uint64) [][]byte {
	var keys [][]byte
	prefix := number(n)
	cursor := tx.Bucket([]byte(bucketRefs)).Cursor()
	for k, _ := cursor.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = cursor.Next() {
		keys = append(keys, bytes.Clone(k))
	}
	return keys
}
