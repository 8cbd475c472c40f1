package cache

import (
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// Replace puts a whole list in a scope's place. It never waits; reads see it at once. The items' bytes are kept until they are
// written and must not be changed.
func (c *Cache) Replace(key scope.Key, kind scope.Kind, version string, items []scope.Item) {
	next := &changes{whole: true, items: make(map[name]change, len(items))}
	for _, it := range items {
		next.set(name{it.Namespace, it.Name}, change{item: it})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	e := c.scopes[key]
	if why := c.refuse(next.bytes - sizeOfPending(e)); why != "" {
		if e != nil {
			c.dirty(e, why)
		} else {
			c.health.refused(why)
		}
		return
	}
	if e == nil {
		e = c.add(key)
	}
	e.info.Kind, e.info.Version, e.info.Read, e.info.Dirty, e.info.Items = kind, version, c.confirmed(), "", len(next.items)
	c.bytes += next.bytes - size(e.pending)
	e.pending = next
	c.enqueue(e)
}

// Put sets the one object of a GET's scope.
func (c *Cache) Put(key scope.Key, item scope.Item) {
	c.Replace(key, scope.Kind{APIVersion: item.APIVersion, Kind: item.Kind}, item.Version, []scope.Item{item})
}

func sizeOfPending(e *entry) int64 {
	if e == nil {
		return 0
	}
	return size(e.pending)
}

// Apply takes a scope to version by events. Events that are not newer than the scope are skipped; a scope that is unknown or
// dirty stays as it is. It never waits; reads see it at once.
func (c *Cache) Apply(key scope.Key, version string, events []scope.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.scopes[key]
	if e == nil || e.info.Dirty != "" || c.closed {
		return
	}
	var more int64
	for i := range events {
		more += sizeOf(&events[i].Item)
	}
	if why := c.refuse(more); why != "" {
		c.dirty(e, why)
		return
	}
	for _, ev := range events {
		if notNewer(ev.Item.Version, e.info.Version) {
			continue
		}
		if e.pending == nil {
			e.pending = &changes{items: map[name]change{}}
		}
		before := e.pending.bytes
		ch := change{deleted: ev.Deleted}
		if ch.item = ev.Item; ev.Deleted {
			ch.item.Raw = nil
		}
		e.pending.set(name{ev.Item.Namespace, ev.Item.Name}, ch)
		c.bytes += e.pending.bytes - before
		c.enqueue(e)
	}
	if e.pending != nil && e.pending.whole {
		e.info.Items = len(e.pending.items)
	}
	e.advance(version, c.confirmed())
}

// Advance says that the scope is complete as of version: a bookmark. It is remembered in memory and written with the next change.
func (c *Cache) Advance(key scope.Key, version string) { c.Apply(key, version, nil) }

func (e *entry) advance(version string, now time.Time) {
	if version != "" && !notNewer(version, e.info.Version) {
		e.info.Version = version
	}
	e.info.Read = now
}

// notNewer: a is known not to be newer than b.
func notNewer(a, b string) bool {
	older, ok := scope.Older(b, a)
	return ok && !older
}

// refuse says why so many more bytes must not wait in memory, or "". One change that is larger than the bound is taken if
// nothing else waits: else it could never be.
func (c *Cache) refuse(more int64) string {
	bound, why := c.o.MaxPending, "changes came faster than the disk takes them"
	if c.health.failing() {
		bound, why = bound/4, "the cache cannot be written: "+c.health.why()
	}
	switch total := c.bytes + more; {
	case more <= 0, total <= bound:
		return ""
	case c.bytes == 0 && more <= c.o.MaxBytes/4:
		return ""
	default:
		return fmt.Sprintf("%s; %d KiB wait in memory, and no more than %d may", why, total>>10, bound>>10)
	}
}

// Forget removes one scope: the object is gone, or this very query was refused.
func (c *Cache) Forget(key scope.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.scopes[key]; e != nil {
		c.forget(e)
	}
}

// Drop removes all scopes that an identity has of a resource in exactly that namespace, because upstream refuses them now. "" are the
// scopes of all namespaces. If only one object was refused, use Forget.
func (c *Cache) Drop(identity string, r scope.Resource, namespace string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	dropped := false
	for _, e := range slices.Clone(c.groups[group{identity, r}]) {
		if e.info.Key.Namespace == namespace {
			c.forget(e)
			dropped = true
		}
	}
	if dropped && !c.closed {
		c.old.Go(c.forgetCopy)
	}
}

// Dirty marks a scope as behind what upstream sent. It stays a complete, older state, and takes no events until it is replaced.
func (c *Cache) Dirty(key scope.Key, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.scopes[key]; e != nil && why != "" {
		e.info.Dirty = why
	}
}

// dirty is Dirty by the cache itself: it tells.
func (c *Cache) dirty(e *entry, why string) {
	if e.info.Dirty != "" {
		return
	}
	e.info.Dirty = why
	c.health.dirtied++
	c.o.Log.Warn("a cached scope is behind and must be listed again", "resource", e.info.Key.Resource, "namespace", e.info.Key.Namespace, "identity", e.info.Key.Identity, "why", why)
	if key := e.info.Key; c.o.OnDirty != nil && !c.closed {
		c.stopped.Go(func() { c.o.OnDirty(key, why) })
	}
}

// Info says what a scope is worth.
func (c *Cache) Info(key scope.Key) (scope.Info, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if e := c.scopes[key]; e != nil {
		return e.info, true
	}
	return scope.Info{}, false
}

// Scopes gives the scopes that an identity has of a resource. With r zero: of all resources; with identity "": of all.
func (c *Cache) Scopes(identity string, r scope.Resource) []scope.Info {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var infos []scope.Info
	if identity != "" && r != (scope.Resource{}) {
		found := c.groups[group{identity, r}]
		infos = make([]scope.Info, 0, len(found))
		for _, e := range found {
			infos = append(infos, e.info)
		}
		return infos
	}
	for key, e := range c.scopes {
		if (identity == "" || identity == key.Identity) && (r == scope.Resource{} || r == key.Resource) {
			infos = append(infos, e.info)
		}
	}
	return infos
}

// add makes a scope. The caller holds the lock.
func (c *Cache) add(key scope.Key) *entry {
	c.next++
	e := &entry{number: c.next}
	e.info.Key = key
	e.used.Store(c.o.Now().Unix())
	c.index(e)
	return e
}

func (c *Cache) index(e *entry) {
	c.scopes[e.info.Key] = e
	g := group{e.info.Key.Identity, e.info.Key.Resource}
	c.groups[g] = append(c.groups[g], e)
}

func (c *Cache) forget(e *entry) {
	g := group{e.info.Key.Identity, e.info.Key.Resource}
	delete(c.scopes, e.info.Key)
	c.groups[g] = slices.DeleteFunc(c.groups[g], func(o *entry) bool { return o == e })
	if len(c.groups[g]) == 0 {
		delete(c.groups, g)
	}
	c.bytes -= size(e.pending)
	c.quiet -= size(e.quiet)
	e.pending, e.isForget = nil, true // the writer may be at the rest
	if e.stored || e.writing != nil {
		c.gone = append(c.gone, e.number)
		signal(c.wake)
	}
}

// enqueue hands an entry to the writer.
func (c *Cache) enqueue(e *entry) {
	if !e.inQueue {
		e.inQueue = true
		c.queue = append(c.queue, e)
	}
	signal(c.wake)
}
