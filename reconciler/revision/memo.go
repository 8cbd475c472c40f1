package revision

import (
	"container/list"
	"sync"

	"github.com/holdfast-dev/holdfast/reconciler/fleet"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

// poolKey is everything a pool's plan depends on. Equal keys have equal plans: that is what tree ids are for.
type poolKey struct{ fleet, root, pool, tree string }

// evaluated is what came of evaluating a pool.
type evaluated struct {
	plan     *plan.Pool
	problems fleet.Problems
}

func (e evaluated) err() error {
	if len(e.problems) > 0 {
		return e.problems
	}
	return nil
}

// memo remembers the pools and layouts that were used last. It is safe for concurrent use.
type memo struct {
	mu      sync.Mutex // guards both
	pools   lru[poolKey, evaluated]
	layouts lru[string, layout]
}

// keptLayouts is how many commits' layouts are remembered: the one in force, the newest, and a few around.
const keptLayouts = 4

func newMemo(pools int) *memo {
	return &memo{pools: newLRU[poolKey, evaluated](pools), layouts: newLRU[string, layout](keptLayouts)}
}

func (m *memo) pool(k poolKey) (evaluated, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pools.get(k)
}

func (m *memo) putPool(k poolKey, e evaluated) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pools.put(k, e)
}

func (m *memo) layout(commit string) (layout, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.layouts.get(commit)
}

func (m *memo) putLayout(commit string, l layout) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.layouts.put(commit, l)
}

// lru keeps what was used last, up to a number.
type lru[K comparable, V any] struct {
	max   int
	order *list.List // of pair[K, V], newest first
	at    map[K]*list.Element
}

type pair[K comparable, V any] struct {
	key   K
	value V
}

func newLRU[K comparable, V any](max int) lru[K, V] {
	return lru[K, V]{max: max, order: list.New(), at: map[K]*list.Element{}}
}

func (l *lru[K, V]) get(key K) (value V, ok bool) {
	el, ok := l.at[key]
	if !ok {
		return value, false
	}
	l.order.MoveToFront(el)
	return el.Value.(pair[K, V]).value, true
}

func (l *lru[K, V]) put(key K, value V) {
	if el, ok := l.at[key]; ok {
		l.order.Remove(el)
	}
	l.at[key] = l.order.PushFront(pair[K, V]{key, value})
	if l.order.Len() > l.max {
		old := l.order.Remove(l.order.Back()).(pair[K, V])
		delete(l.at, old.key)
	}
}
