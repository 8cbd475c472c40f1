package cache

import (
	"fmt"

	"github.com/holdfast-dev/holdfast/edgeagent/store/bolt"
)

// maxTokens bounds the kept tokens: two for each of a very full node's volumes. The oldest go first.
const maxTokens = 4096

// tokens is what is known of tokens in memory. The cache's lock guards it.
type tokens struct {
	index    map[id]int64 // those on disk, and when they were written, Unix seconds
	pending  map[id][]byte
	writing  map[id][]byte
	lazyOnly bool // what was taken last only renews others
}

func newTokens() tokens { return tokens{index: map[id]int64{}, pending: map[id][]byte{}} }

// PutToken keeps a token answer, sealed; nil removes it. One that only renews another waits in memory for the next write. It never waits.
func (c *Cache) PutToken(key string, raw []byte) {
	at := c.seal.name("token", key)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.confirmed()
	old, waits := c.tokens.pending[at]
	if more := int64(len(raw) - len(old)); raw != nil && c.refuse(more) != "" {
		return // the older one is kept
	}
	c.bytes += int64(len(raw) - len(old))
	c.tokens.pending[at] = raw
	if _, renews := c.tokens.index[at]; (!renews || raw == nil) && !waits {
		signal(c.wake)
	}
}

// Token gives a kept token answer.
func (c *Cache) Token(key string) ([]byte, bool, error) {
	at := c.seal.name("token", key)
	c.mu.RLock()
	for _, pending := range []map[id][]byte{c.tokens.pending, c.tokens.writing} {
		if raw, ok := pending[at]; ok {
			c.mu.RUnlock()
			return raw, raw != nil, nil
		}
	}
	_, ok := c.tokens.index[at]
	if !ok || c.closed || c.db == nil {
		defer c.mu.RUnlock()
		if c.closed {
			return nil, false, ErrClosed
		}
		return nil, false, nil
	}
	tx, err := c.db.Begin(false)
	c.mu.RUnlock()
	if err != nil {
		return nil, false, err
	}
	defer tx.Rollback()
	var raw []byte
	err = bolt.Guard(func() error {
		body, err := c.seal.decode(bucketTokens, at[:], tx.Bucket([]byte(bucketTokens)).Get(at[:]))
		if err != nil {
			return err
		}
		_, raw, err = decodeNote(body)
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("kept token: %w", err)
	}
	return raw, true, nil
}

func (t *tokens) take(w what) map[id][]byte {
	t.lazyOnly = w != everything
	for at, raw := range t.pending {
		if _, renews := t.index[at]; !renews || raw == nil {
			t.lazyOnly = false
		}
	}
	t.writing, t.pending = t.pending, map[id][]byte{}
	return t.writing
}

// putBack makes what was not written pending again, and gives the bytes of what has been replaced since.
func (t *tokens) putBack(taken map[id][]byte) (released int64) {
	for at, raw := range taken {
		if _, newer := t.pending[at]; newer {
			released += int64(len(raw))
		} else {
			t.pending[at] = raw
		}
	}
	t.writing = nil
	return released
}

func (w *writing) tokens(taken map[id][]byte) error {
	b := w.tx.Bucket([]byte(bucketTokens))
	for at, raw := range taken {
		if raw == nil {
			if err := b.Delete(at[:]); err != nil {
				return err
			}
			continue
		}
		body, err := note{At: w.c.o.Now()}.encode(raw)
		if err != nil {
			return err
		}
		if err := b.Put(at[:], w.c.seal.encode(bucketTokens, at[:], body, true)); err != nil {
			return err
		}
	}
	return nil
}

// settle takes what was written into the index, gives its bytes, and asks for the removal of what is too many. The caller holds
// the lock.
func (t *tokens) settle(taken map[id][]byte, now int64) (released int64) {
	for at, raw := range taken {
		released += int64(len(raw))
		if delete(t.index, at); raw != nil {
			t.index[at] = now
		}
	}
	t.writing = nil
	for len(t.index) > maxTokens {
		oldest, when := id{}, int64(1<<62)
		for at, n := range t.index {
			if n < when {
				oldest, when = at, n
			}
		}
		delete(t.index, oldest)
		t.pending[oldest] = nil
	}
	return released
}
