package pack

import "container/list"

// object is an object, whole.
type object struct {
	kind Kind
	raw  []byte
}

// cache keeps what was used last, up to a number of bytes.
type cache[K comparable] struct {
	max, used int64
	order     *list.List // of *cached[K], newest first
	at        map[K]*list.Element
}

type cached[K comparable] struct {
	key K
	object
}

// overhead is what one entry costs beside its bytes.
const overhead = 200

func newCache[K comparable](max int64) *cache[K] {
	return &cache[K]{max: max, order: list.New(), at: map[K]*list.Element{}}
}

func (c *cache[K]) get(key K) (object, bool) {
	el, ok := c.at[key]
	if !ok {
		return object{}, false
	}
	c.order.MoveToFront(el)
	return el.Value.(*cached[K]).object, true
}

func (c *cache[K]) put(key K, o object) {
	if _, ok := c.at[key]; ok || int64(len(o.raw))+overhead > c.max {
		return
	}
	c.at[key] = c.order.PushFront(&cached[K]{key, o})
	c.used += int64(len(o.raw)) + overhead
	for c.used > c.max {
		last := c.order.Back()
		old := c.order.Remove(last).(*cached[K])
		delete(c.at, old.key)
		c.used -= int64(len(old.raw)) + overhead
	}
}
