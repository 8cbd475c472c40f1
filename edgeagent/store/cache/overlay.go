package cache

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// What a scope is, newest first:
//
//	pending  changes since the writer last took what there was
//	writing  changes that the writer has taken
//	quiet    objects that differ from the disk in nothing but heartbeats
//	the file
//
// Reads go through all four. Only callers change pending, under the cache's lock; only the writer changes the others, and never
// a map that a reader may hold.

type name struct{ namespace, name string }

func compareNames(a, b name) int {
	return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name))
}

// change is what became of one object.
type change struct {
	deleted bool
	item    scope.Item
}

// itemOverhead is what an item costs in memory beside its bytes.
const itemOverhead = 256

func sizeOf(it *scope.Item) int64 { return int64(len(it.Raw)) + itemOverhead }

// changes are changes of one scope.
type changes struct {
	whole bool // items is all there is
	items map[name]change
	bytes int64
}

func (c *changes) set(n name, ch change) {
	if old, ok := c.items[n]; ok {
		c.bytes -= sizeOf(&old.item)
	}
	if ch.deleted && c.whole {
		delete(c.items, n)
		return
	}
	c.items[n] = ch
	c.bytes += sizeOf(&ch.item)
}

func (c *changes) remove(n name) {
	if old, ok := c.items[n]; ok {
		c.bytes -= sizeOf(&old.item)
		delete(c.items, n)
	}
}

func size(c *changes) int64 {
	if c == nil {
		return 0
	}
	return c.bytes
}

// over gives what older and, on it, newer come to. Neither is changed.
func over(older, newer *changes) *changes {
	if older == nil || newer != nil && newer.whole {
		return newer
	}
	if newer == nil {
		return older
	}
	sum := &changes{whole: older.whole, items: make(map[name]change, len(older.items)+len(newer.items)), bytes: older.bytes}
	for n, ch := range older.items {
		sum.items[n] = ch
	}
	for n, ch := range newer.items {
		sum.set(n, ch)
	}
	return sum
}

// entry is a scope in memory. The cache's lock guards it.
type entry struct {
	number uint64 // its name in the file
	info   scope.Info
	used   atomic.Int64 // Unix seconds when it was last read

	pending, writing, quiet *changes

	// What is on disk.
	stored   bool
	version  string
	savedAt  time.Time // zero: longer ago than anyone cares
	count    int
	onDisk   int64 // bytes of its objects, some of which it may share
	damaged  error // the references on disk are not what was written
	inQueue  bool
	isForget bool
}

// latest looks an object up in memory. known: what is in memory says what became of it.
func (e *entry) latest(n name) (ch change, known bool) {
	for _, c := range [...]*changes{e.pending, e.writing, e.quiet} {
		if c == nil {
			continue
		}
		if ch, ok := c.items[n]; ok {
			return ch, true
		}
		if c.whole {
			return change{deleted: true}, true
		}
	}
	return change{}, false
}

// whole tells whether the file is not needed to read the scope.
func (e *entry) whole() bool {
	return e.pending != nil && e.pending.whole || e.writing != nil && e.writing.whole
}

// overlaid is what a reader has to put over the file.
type overlaid struct {
	whole bool
	names []name // sorted
	items map[name]change
}

// overlay gives what is in memory, as it is now.
func (e *entry) overlay() overlaid {
	if e.pending == nil && e.writing == nil && e.quiet == nil {
		return overlaid{}
	}
	sum := over(over(e.quiet, e.writing), e.pending)
	o := overlaid{whole: e.whole(), items: sum.items}
	o.names = make([]name, 0, len(sum.items))
	for n := range sum.items {
		o.names = append(o.names, n)
	}
	if sum == e.pending { // callers go on changing it
		o.items = make(map[name]change, len(sum.items))
		for n, ch := range sum.items {
			o.items[n] = ch
		}
	}
	return o
}

func (o *overlaid) sort() { slices.SortFunc(o.names, compareNames) }
