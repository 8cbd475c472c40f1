package cache

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/store/bolt"
)

// outbox is what is known of the outbox in memory. The cache's lock guards it.
type outbox struct {
	index   map[string]map[string]waiting // by bucket and key: what is on disk and not done
	bytes   int64                         // of all values, on disk or on their way
	seq     uint64
	ops     []op
	dropped map[string]int
}

// waiting is a value on disk.
type waiting struct {
	seq  uint64
	size int64
}

// op is a change of the outbox that the writer has not taken yet.
type op struct {
	bucket, key string
	seq         uint64
	at          time.Time
	value       []byte
	done        bool       // the value with seq goes: it was replayed
	lost        bool       // it was not: its ring is full
	reply       chan error // of who waits; nil if done
}

// Enqueue puts a value in the outbox. When it has returned without an error the value is on disk; callers at the same time
// share a flush. A value of the same bucket and key is replaced. After an error, also of ctx, it may or may not be stored.
func (c *Cache) Enqueue(ctx context.Context, bucket, key string, value []byte) error {
	if _, err := outboxKey(bucket, key); err != nil {
		return err
	}
	reply := make(chan error, 1)
	c.mu.Lock()
	switch old := c.outbox.index[bucket][key].size; {
	case c.closed:
		c.mu.Unlock()
		return ErrClosed
	case c.outbox.bytes+int64(len(value))-old > c.o.MaxOutbox && c.o.Rings[bucket] == 0:
		c.mu.Unlock()
		return fmt.Errorf("enqueue %s %s: %w: %d KiB wait for the link", bucket, key, ErrOutboxFull, c.outbox.bytes>>10)
	}
	c.outbox.seq++
	c.outbox.bytes += int64(len(value))
	c.outbox.ops = append(c.outbox.ops, op{bucket: bucket, key: key, seq: c.outbox.seq, at: c.o.Now(), value: bytes.Clone(value), reply: reply})
	c.mu.Unlock()
	signal(c.urgent)
	select {
	case err := <-reply:
		if err != nil {
			return fmt.Errorf("enqueue %s %s: %w", bucket, key, err)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Done removes a value that was replayed, unless a newer one has taken its place. After a crash it may be replayed once more.
func (c *Cache) Done(bucket, key string, seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.outbox.index[bucket][key].seq != seq || seq == 0 {
		return
	}
	c.outbox.forget(bucket, key)
	c.outbox.ops = append(c.outbox.ops, op{bucket: bucket, key: key, seq: seq, done: true})
	signal(c.wake)
}

func (o *outbox) forget(bucket, key string) {
	o.bytes -= o.index[bucket][key].size
	if delete(o.index[bucket], key); len(o.index[bucket]) == 0 {
		delete(o.index, bucket)
	}
}

// Pending gives the values of a bucket in the order in which they were enqueued.
func (c *Cache) Pending(bucket string) iter.Seq2[Queued, error] {
	return func(yield func(Queued, error) bool) {
		c.mu.RLock()
		keys := c.outbox.oldest(bucket)
		c.mu.RUnlock()
		for _, key := range keys {
			if q, ok, err := c.Waiting(bucket, key); (ok || err != nil) && !yield(q, err) {
				return
			}
		}
	}
}

// Waiting gives the value that waits under one key.
func (c *Cache) Waiting(bucket, key string) (Queued, bool, error) {
	c.mu.RLock()
	at, ok := c.outbox.index[bucket][key]
	if !ok || c.closed || c.db == nil {
		defer c.mu.RUnlock()
		if c.closed {
			return Queued{}, false, ErrClosed
		}
		return Queued{}, false, nil
	}
	tx, err := c.db.Begin(false)
	c.mu.RUnlock()
	if err != nil {
		return Queued{}, false, err
	}
	defer tx.Rollback()
	q := Queued{Key: key, Seq: at.seq}
	err = bolt.Guard(func() error {
		k, err := outboxKey(bucket, key)
		if err != nil {
			return err
		}
		n, value, err := c.decodeQueued(k, tx.Bucket([]byte(bucketOutbox)).Get(k))
		q.Value, q.At, q.Seq = value, n.At, n.Seq
		return err
	})
	if err != nil {
		return Queued{Key: key, Seq: at.seq}, false, fmt.Errorf("outbox: %s %s: %w", bucket, key, err)
	}
	return q, true, nil
}

func (c *Cache) decodeQueued(key, record []byte) (note, []byte, error) {
	body, err := c.seal.decode(bucketOutbox, key, record)
	if err != nil {
		return note{}, nil, err
	}
	return decodeNote(body)
}

// outbox writes what was taken of the outbox, then lets rings lose their oldest.
func (w *writing) outbox(ops []op) error {
	b := w.tx.Bucket([]byte(bucketOutbox))
	for i := range ops {
		o := &ops[i]
		k, err := outboxKey(o.bucket, o.key)
		if err != nil {
			return err
		}
		old := b.Get(k)
		if o.done {
			if n, _, err := w.c.decodeQueued(k, old); old == nil || err == nil && n.Seq != o.seq {
				continue
			}
		}
		if old != nil {
			w.totals.Outbox.remove(old)
		}
		if o.done {
			if o.lost {
				w.totals.Dropped[o.bucket]++
			}
			if err := b.Delete(k); err != nil {
				return err
			}
			continue
		}
		body, err := note{Seq: o.seq, At: o.at}.encode(o.value)
		if err != nil {
			return err
		}
		next := w.c.seal.encode(bucketOutbox, k, body, true)
		w.totals.Outbox.add(next)
		if err := b.Put(k, next); err != nil {
			return err
		}
	}
	return nil
}

// take hands what came to the writer, and what rings have to lose for it. The caller holds the lock.
func (o *outbox) take(rings map[string]int) []op {
	ops := o.ops
	o.ops = nil
	for bucket, bound := range rings {
		more := map[string]bool{}
		for _, p := range ops {
			if _, replaces := o.index[bucket][p.key]; p.bucket == bucket && !p.done && !replaces {
				more[p.key] = true
			}
		}
		n := len(o.index[bucket]) + len(more) - bound
		if len(more) == 0 || n <= 0 {
			continue
		}
		for _, key := range o.oldest(bucket)[:min(n, len(o.index[bucket]))] {
			// First, so that a newer value of the same key in this batch survives.
			ops = append([]op{{bucket: bucket, key: key, seq: o.index[bucket][key].seq, done: true, lost: true}}, ops...)
		}
	}
	return ops
}

// oldest gives the keys of a bucket, oldest first.
func (o *outbox) oldest(bucket string) []string {
	keys := slices.Collect(maps.Keys(o.index[bucket]))
	slices.SortFunc(keys, func(a, b string) int { return cmp.Compare(o.index[bucket][a].seq, o.index[bucket][b].seq) })
	return keys
}

// settle tells those who wait, and takes what was written into the index. The caller holds the lock.
func (o *outbox) settle(ops []op, err error) {
	var again []op
	for _, p := range ops {
		switch {
		case p.lost && err == nil && o.index[p.bucket][p.key].seq == p.seq:
			o.forget(p.bucket, p.key)
		case p.lost:
		case p.done && err != nil:
			again = append(again, p)
		case p.done:
		case err != nil:
			o.bytes -= int64(len(p.value))
			p.reply <- err
		default:
			if o.index[p.bucket] == nil {
				o.index[p.bucket] = map[string]waiting{}
			}
			o.bytes -= o.index[p.bucket][p.key].size
			o.index[p.bucket][p.key] = waiting{seq: p.seq, size: int64(len(p.value))}
			p.reply <- nil
		}
	}
	o.ops = append(again, o.ops...)
}

// failWaiting answers those whose values will not be written any more. The caller holds the lock.
func (c *Cache) failWaiting(err error) {
	ops := c.outbox.ops
	c.outbox.ops = nil
	for _, p := range ops {
		if !p.done {
			p.reply <- err
		}
	}
}
