package cache

import (
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// TestConcurrent has writers and readers at the same scopes. In a scope at version v every object is of version v, and there are v%7+1:
// a reader that sees anything else saw half of a change.
func TestConcurrent(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, Options{GroupDelay: time.Millisecond, Rings: map[string]int{"events": 10}})
	at := func(v int) (items []scope.Item) {
		for i := range v%7 + 1 {
			items = append(items, pod(fmt.Sprint("p", i), v))
		}
		return items
	}
	keys := []scope.Key{nodePods, {Identity: "a@b", Resource: pods}, secretKey("s")}
	for _, key := range keys {
		c.Replace(key, podList, "1", at(1))
	}
	var stop atomic.Bool
	var writers, readers sync.WaitGroup
	for _, key := range keys {
		writers.Go(func() {
			for v := 2; v < 150; v++ {
				if v%3 == 0 {
					c.Replace(key, podList, fmt.Sprint(v), at(v))
					continue
				}
				var events []scope.Event
				for _, it := range at(v) {
					events = append(events, put(it))
				}
				for i := v%7 + 1; i < 8; i++ {
					events = append(events, remove(pod(fmt.Sprint("p", i), v)))
				}
				c.Apply(key, fmt.Sprint(v), events)
			}
		})
		readers.Go(func() {
			last := 0
			for !stop.Load() {
				if err := c.Read(key, func(info scope.Info, all iter.Seq2[scope.Item, error]) error { return sameVersion(info, all, &last) }); err != nil {
					t.Error(err)
					return
				}
				if _, _, err := c.Get(key, "default", "p0"); err != nil {
					t.Error(err)
				}
				c.Info(key)
				c.Condition()
				c.Stats()
			}
		})
	}
	writers.Go(func() {
		for i := range 40 {
			enqueue(t, c, "events", fmt.Sprint(i), "x")
			enqueue(t, c, "status", fmt.Sprint(i%3), fmt.Sprint(i))
			c.PutToken(fmt.Sprint(i%5), []byte("t"))
			c.PutDocument(node, fmt.Sprint(i%5), Document{Body: []byte(fmt.Sprint(i))})
			for q, err := range c.Pending("status") {
				if err != nil && !errors.Is(err, ErrDamaged) {
					t.Error(err)
				}
				if i%10 == 0 {
					c.Done("status", q.Key, q.Seq)
				}
			}
			other := scope.Key{Identity: "gone", Resource: pods}
			c.Replace(other, podList, "1", at(1))
			c.Forget(other)
		}
	})
	writers.Wait()
	stop.Store(true)
	readers.Wait()
	closed(t, c)
	consistent(t, dir)
	c = open(t, dir, Options{})
	for _, key := range keys {
		holds(t, c, key, "149", at(149)...)
	}
}

func sameVersion(info scope.Info, all iter.Seq2[scope.Item, error], last *int) error {
	v, n := 0, 0
	fmt.Sscan(info.Version, &v)
	for it, err := range all {
		if err != nil {
			return err
		}
		if it.Version != info.Version {
			return fmt.Errorf("%s is at %s in a scope at %s", it.Name, it.Version, info.Version)
		}
		n++
	}
	if n != v%7+1 || v < *last {
		return fmt.Errorf("%d objects at %d, which comes after %d", n, v, *last)
	}
	*last = v
	return nil
}
