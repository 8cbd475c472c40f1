package cache

import (
	"cmp"
	"fmt"
	"slices"
)

// makeRoom gives up what is least useful if a batch would not fit. It does so in a transaction of its own: pages can be used
// again only after the transaction that freed them.
func (c *Cache) makeRoom(b *batch) error {
	need := int64(0)
	for _, k := range b.works {
		if k.loud && k.changes != nil {
			need += k.changes.bytes
		}
	}
	docs := int64(0)
	for _, d := range b.documents {
		docs += docSize(d)
	}
	for _, o := range b.ops {
		need += int64(len(o.value)) + itemOverhead
	}
	c.mu.Lock()
	victims := &batch{newest: b.newest, documents: map[id]*Document{}}
	for _, at := range c.documents.leastUsed(docs, c.o.MaxDocuments) {
		victims.documents[at] = nil
	}
	// A bbolt file needs room beside what it holds: pages are copied when they change, and what is freed has gaps.
	if used := c.health.usedBytes + (need+docs)*5/4; used > c.o.MaxBytes/10*8 {
		c.giveUp(victims, used-c.o.MaxBytes/10*7)
	}
	c.mu.Unlock()
	_, err := c.evict(victims)
	return err
}

// makeMoreRoom gives up a fifth, and says whether there was anything left to give up.
func (c *Cache) makeMoreRoom(b *batch) (some bool, err error) {
	victims := &batch{newest: b.newest, documents: map[id]*Document{}}
	c.mu.Lock()
	c.giveUp(victims, c.o.MaxBytes/5)
	c.mu.Unlock()
	return c.evict(victims)
}

func (c *Cache) evict(victims *batch) (some bool, err error) {
	n := len(victims.documents) + len(victims.gone)
	if n == 0 {
		return false, nil
	}
	c.mu.Lock()
	c.health.evicted += int64(n)
	c.mu.Unlock()
	if err = c.transact(victims); err != nil {
		c.mu.Lock()
		c.gone = append(c.gone, victims.gone...)
		c.mu.Unlock()
	}
	return true, err
}

// giveUp chooses what to remove to free so many bytes: documents, then what other identities read, then what the node read but for its
// pods and Secrets; what was not used for longest first. The caller holds the lock.
func (c *Cache) giveUp(victims *batch, free int64) {
	for _, at := range c.documents.leastUsed(free, c.documents.bytes) {
		victims.documents[at] = nil
		free -= c.documents.index[at].size
	}
	if free <= 0 {
		return
	}
	gone := c.gone
	c.gone = nil
	scopes := c.leastUsedScopes()
	for _, e := range scopes {
		if free <= 0 {
			break
		}
		free -= e.onDisk
		c.forget(e)
		c.health.full = fmt.Sprintf("the cache may have %d MiB: what was not used for longest was given up for room", c.o.MaxBytes>>20)
		c.o.Log.Warn("a cached scope was given up for room", "resource", e.info.Key.Resource, "namespace", e.info.Key.Namespace, "identity", e.info.Key.Identity, "maxBytes", c.o.MaxBytes)
	}
	victims.gone, c.gone = c.gone, gone
}

func (c *Cache) leastUsedScopes() []*entry {
	var all []*entry
	for _, e := range c.scopes {
		if e.stored && e.writing == nil && e.pending == nil && !c.precious(e) {
			all = append(all, e)
		}
	}
	rank := func(e *entry) int {
		if e.info.Key.Identity == c.o.Node {
			return 1
		}
		return 0
	}
	slices.SortFunc(all, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.lastUse(), b.lastUse()), cmp.Compare(a.number, b.number))
	})
	return all
}

// precious: without it the node's pods cannot start.
func (c *Cache) precious(e *entry) bool {
	r := e.info.Key.Resource
	return e.info.Key.Identity == c.o.Node && r.Group == "" && (r.Resource == "pods" || r.Resource == "secrets")
}

// lastUse is when a scope was last read, or last confirmed: what is watched is in use.
func (e *entry) lastUse() int64 { return max(e.used.Load(), e.info.Read.Unix()) }
