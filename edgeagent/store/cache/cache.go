package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
	"github.com/holdfast-dev/holdfast/edgeagent/store/bolt"
)

// Names of the files in the cache's folder.
const (
	fileName    = "cache.db"
	damagedName = "cache.db.damaged"
	keyName     = "cache.key"
)

// Cache is an open cache. Its methods are safe for concurrent use.
type Cache struct {
	path string
	o    Options
	seal *sealer
	key  []byte

	wake    chan struct{} // something is to be written, by and by
	urgent  chan struct{} // somebody waits for it
	flushes chan chan error
	stop    chan struct{}
	stopped sync.WaitGroup // the writer, and those who tell of dirty scopes

	mu     sync.RWMutex // guards what follows; never held while the disk is written
	db     *bbolt.DB    // nil: there is no file, all is in memory
	closed bool
	scopes map[scope.Key]*entry
	groups map[group][]*entry
	next   uint64   // number of the next scope
	queue  []*entry // entries with something pending
	gone   []uint64 // scopes to remove from the file
	bytes  int64    // of pending and writing
	quiet  int64
	newest time.Time
	health health

	documents documents
	tokens    tokens
	outbox    outbox

	copying sync.Mutex   // held while the copy is written
	copied  atomic.Int64 // the transaction that the copy is of; 0: none that this process made

	// The writer's own.
	keyed   bool         // the sealing key is on disk
	refs    map[id]int32 // how many scopes hold a content
	totals  totals
	recount atomic.Bool // refs and totals may be wrong: a commit went wrong half way, or something is damaged
	mended  bool        // the file was made anew: objects may be missing
	fails   int
	old     sync.WaitGroup // damaged files that readers still hold
}

// group is what Scopes looks up.
type group struct {
	identity string
	resource scope.Resource
}

func (o Options) withDefaults(dir string) Options {
	o.MaxBytes = cmp.Or(o.MaxBytes, 256<<20)
	o.MaxPending = cmp.Or(o.MaxPending, 16<<20)
	o.MaxQuiet = cmp.Or(o.MaxQuiet, 2<<20)
	o.MaxDocuments = cmp.Or(o.MaxDocuments, min(32<<20, o.MaxBytes/8))
	o.MaxOutbox = cmp.Or(o.MaxOutbox, 16<<20)
	o.GroupDelay = cmp.Or(o.GroupDelay, 100*time.Millisecond)
	o.SealingKeyFile = cmp.Or(o.SealingKeyFile, filepath.Join(dir, keyName))
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Step == nil {
		o.Step = func(string) {}
	}
	return o
}

// Open opens the cache in dir, or makes it. It never fails because of what the file holds: what is damaged is set aside as
// cache.db.damaged, and what of it can be proved whole is kept. Nor does it fail because the disk is full: it then goes on in
// memory. See Condition.
func Open(dir string, o Options) (*Cache, error) {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("open cache: %s is no folder that can be used: %w", dir, cmp.Or(err, os.ErrInvalid))
	}
	c := &Cache{
		path: filepath.Join(dir, fileName), o: o.withDefaults(dir),
		wake: make(chan struct{}, 1), urgent: make(chan struct{}, 1), flushes: make(chan chan error), stop: make(chan struct{}),
	}
	c.reset()
	if err := c.attach(); errors.Is(err, ErrInUse) || c.seal == nil {
		return nil, fmt.Errorf("open %s: %w", c.path, err)
	}
	c.stopped.Go(c.run)
	return c, nil
}

// reset forgets everything that was read from a file.
func (c *Cache) reset() {
	c.scopes, c.groups = map[scope.Key]*entry{}, map[group][]*entry{}
	c.refs, c.totals = map[id]int32{}, totals{Dropped: map[string]int{}}
	c.queue, c.gone, c.bytes, c.quiet = nil, nil, 0, 0
	c.documents, c.tokens = newDocuments(), newTokens()
	c.outbox.index, c.outbox.bytes = map[string]map[string]waiting{}, 0
}

// Close writes what is in memory and closes the file. It may be called twice.
func (c *Cache) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	c.mu.Unlock()
	close(c.stop)
	c.stopped.Wait()
	err := c.write(everything)
	c.mu.Lock()
	db := c.db
	c.db = nil
	c.failWaiting(ErrClosed)
	c.mu.Unlock()
	if db != nil {
		err = errors.Join(err, bolt.Guard(db.Close)) // waits for readers
	}
	c.old.Wait()
	if err != nil {
		return fmt.Errorf("close %s: %w", c.path, err)
	}
	return nil
}

// Flush writes all that is in memory, versions and heartbeats too, and waits for it.
func (c *Cache) Flush(ctx context.Context) error {
	reply := make(chan error, 1)
	select {
	case c.flushes <- reply:
	case <-c.stop:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-reply:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Newest is the wall clock, or the newest time at which upstream confirmed anything if that is later: a clock that is behind
// does not make expired tokens valid.
func (c *Cache) Newest() time.Time {
	now := c.o.Now()
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.newest.After(now) {
		return c.newest
	}
	return now
}

// confirmed notes that upstream said something just now. The caller holds the lock.
func (c *Cache) confirmed() time.Time {
	now := c.o.Now()
	if now.After(c.newest) {
		c.newest = now
	}
	return now
}

// signal wakes the writer without waiting for it.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
