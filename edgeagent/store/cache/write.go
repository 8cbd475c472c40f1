package cache

import (
	"errors"
	"time"

	"go.etcd.io/bbolt"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
	"github.com/holdfast-dev/holdfast/edgeagent/store/bolt"
)

// what says how much a write takes.
type what int

const (
	changed    what = iota // what has changed
	outboxOnly             // only what somebody waits for: the rest has just failed
	everything             // versions and heartbeats too
)

// stale is how old the version of a scope on disk gets before it is written with the next change of another scope.
const stale = 5 * time.Minute

// run is the writer. Without changes it sleeps: there is no clock that ticks.
func (c *Cache) run() {
	var due <-chan time.Time
	for {
		select {
		case <-c.stop:
			return
		case <-c.wake:
			if due == nil {
				due = time.After(c.o.GroupDelay)
			}
		case <-due:
			due = c.again(c.write(changed))
		case <-c.urgent:
			if c.fails > 0 {
				c.write(outboxOnly)
				continue
			}
			due = c.again(c.write(changed))
		case reply := <-c.flushes:
			err := c.write(everything)
			due = c.again(err)
			reply <- err
		}
	}
}

// again says when to try again after an error.
func (c *Cache) again(err error) <-chan time.Time {
	if err == nil {
		return nil
	}
	return time.After(min(30*time.Second, time.Second<<min(c.fails, 5)))
}

// batch is what one transaction takes.
type batch struct {
	what      what
	works     []*work
	gone      []uint64
	documents map[id]*Document
	tokens    map[id][]byte
	lazy      bool // tokens only renew others
	ops       []op
	newest    time.Time
}

// work is one scope in a batch.
type work struct {
	e       *entry
	changes *changes // as taken, and then without what needs no writing; nil if nothing changed
	quiet   map[name]change
	calm    []name // what was quiet and is now as on disk
	loud    bool   // must be written
	info    scope.Info
	damaged error
	number  uint64 // its number in the file from now on
	items   int
	onDisk  int64
}

// write takes what there is and commits it, if there is anything that needs to be. On an error everything is as before, but for
// values of the outbox, whose callers get the error. A file that turns out to be damaged is made anew first.
func (c *Cache) write(w what) error {
	err := c.writeOnce(w)
	if errors.Is(err, ErrDamaged) && c.db != nil {
		if err = c.rebuild(err); err == nil {
			err = c.writeOnce(w)
		}
	}
	return err
}

func (c *Cache) writeOnce(w what) error {
	var err error
	if c.db == nil {
		if err = c.attach(); err != nil {
			w = outboxOnly // those who wait are told
		}
	}
	c.mu.Lock()
	b := c.take(w)
	c.mu.Unlock()
	c.o.Step("taken")
	if err == nil {
		err = c.put(b)
	}
	c.settle(b, err)
	return err
}

func (c *Cache) put(b *batch) error {
	if err := bolt.Guard(func() error { return c.db.View(func(tx *bbolt.Tx) error { return c.sift(tx, b) }) }); err != nil {
		return err
	}
	if !b.loud() {
		return nil
	}
	c.mu.Lock()
	c.addStale(b)
	c.health.since = time.Now()
	c.mu.Unlock()
	return c.commit(b)
}

// take picks up what has changed. The caller holds the lock.
func (c *Cache) take(w what) *batch {
	b := &batch{what: w, newest: c.newest, ops: c.outbox.take(c.o.Rings)}
	if w == outboxOnly {
		return b
	}
	b.gone, c.gone = c.gone, nil
	b.documents, b.tokens, b.lazy = c.documents.take(), c.tokens.take(w), c.tokens.lazyOnly
	for _, e := range c.queue {
		e.inQueue = false
		if !e.isForget && e.pending != nil {
			e.writing, e.pending = e.pending, nil
			b.works = append(b.works, &work{e: e, changes: e.writing, info: e.info, number: e.number, damaged: e.damaged})
		}
	}
	c.queue = nil
	if w == everything || c.quiet > c.o.MaxQuiet {
		c.addQuiet(b, w)
	}
	return b
}

// addQuiet adds the scopes that differ from the disk, if in nothing but heartbeats and versions.
func (c *Cache) addQuiet(b *batch, w what) {
	for _, k := range b.works {
		k.loud = k.e.quiet != nil || w == everything
	}
	for _, e := range c.scopes {
		differs := e.quiet != nil || w == everything && e.version != e.info.Version
		if differs && e.writing == nil && e.stored && e.damaged == nil {
			b.works = append(b.works, &work{e: e, info: e.info, number: e.number, loud: true})
		}
	}
}

// addStale adds the scopes whose version on disk is old, since there will be a transaction anyway. A scope with changes that came
// after the batch was taken has to wait: its version would be ahead of its objects.
func (c *Cache) addStale(b *batch) {
	if b.what == outboxOnly {
		return
	}
	old := c.o.Now().Add(-stale)
	for _, k := range b.works {
		k.loud = k.loud || k.e.stored && k.e.savedAt.Before(old)
	}
	for _, e := range c.scopes {
		if e.stored && e.pending == nil && e.writing == nil && e.version != e.info.Version && e.savedAt.Before(old) && e.damaged == nil {
			b.works = append(b.works, &work{e: e, info: e.info, number: e.number, loud: true, items: e.count})
		}
	}
}

func (b *batch) loud() bool {
	for _, k := range b.works {
		if k.loud {
			return true
		}
	}
	return len(b.gone) > 0 || len(b.documents) > 0 || len(b.tokens) > 0 && !b.lazy || len(b.ops) > 0
}

// settle makes memory fit what became of a batch.
func (c *Cache) settle(b *batch, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.health.since = time.Time{}
	c.outbox.settle(b.ops, err)
	if err != nil {
		c.fails++
		c.health.fail(c.o.Log, err)
		c.putBack(b)
		return
	}
	if b.what != outboxOnly {
		c.fails = 0
		c.health.fail(c.o.Log, nil)
	}
	for _, k := range b.works {
		c.settleWork(k)
	}
	if b.what != outboxOnly && !b.loud() {
		c.bytes -= c.tokens.putBack(b.tokens)
	}
}

func (c *Cache) settleWork(k *work) {
	e := k.e
	c.bytes -= size(e.writing)
	e.writing = nil
	if e.isForget {
		return
	}
	if e.pending == nil || !e.pending.whole {
		e.info.Items = k.items
	}
	if !k.loud {
		c.keepQuiet(e, k)
		return
	}
	c.quiet -= size(e.quiet)
	e.quiet = nil
	if e.number != k.number {
		e.damaged = nil // nothing is left of what was
	}
	e.stored, e.count = true, k.items
	e.onDisk = k.onDisk
	e.number, e.version, e.savedAt = k.number, k.info.Version, c.o.Now()
}

// keepQuiet keeps heartbeats in memory. The map is made anew: a reader may hold the old one.
func (c *Cache) keepQuiet(e *entry, k *work) {
	if len(k.quiet) == 0 && (len(k.calm) == 0 || e.quiet == nil) {
		return
	}
	more := &changes{items: map[name]change{}}
	for n, ch := range k.quiet {
		more.set(n, ch)
	}
	c.quiet -= size(e.quiet)
	sum := over(e.quiet, more)
	if len(k.calm) > 0 && e.quiet != nil {
		if sum == e.quiet {
			sum = over(e.quiet, &changes{})
		}
		for _, n := range k.calm {
			sum.remove(n)
		}
	}
	if e.quiet = sum; len(sum.items) == 0 {
		e.quiet = nil
	}
	c.quiet += size(e.quiet)
	if c.quiet > c.o.MaxQuiet {
		signal(c.wake)
	}
}

// putBack makes a batch that was not written pending again, below what has come since.
func (c *Cache) putBack(b *batch) {
	for _, k := range b.works {
		e := k.e
		if e.writing == nil {
			continue
		}
		c.bytes -= size(e.writing) + size(e.pending)
		e.pending = over(e.writing, e.pending)
		e.writing = nil
		if e.isForget {
			e.pending = nil
			continue
		}
		c.bytes += size(e.pending)
		c.enqueue(e)
	}
	c.gone = append(b.gone, c.gone...)
	if b.what != outboxOnly {
		c.bytes -= c.documents.putBack(b.documents) + c.tokens.putBack(b.tokens)
	}
}
