package cache

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// model is a cache as plain maps.
type model map[scope.Key]*modelScope

type modelScope struct {
	version int
	items   map[string]scope.Item
}

func (m model) clone() model {
	c := model{}
	for k, s := range m {
		c[k] = &modelScope{s.version, maps.Clone(s.items)}
	}
	return c
}

// walker does random things to a cache and to its model.
type walker struct {
	t       *testing.T
	r       *rand.Rand
	c       *Cache
	m       model
	keys    []scope.Key
	version int
}

func newWalker(t *testing.T, seed uint64, c *Cache) *walker {
	w := &walker{t: t, r: rand.New(rand.NewPCG(seed, 1)), c: c, m: model{}}
	for _, identity := range []string{node, "a@b"} {
		w.keys = append(w.keys, scope.Key{Identity: identity, Resource: pods}, scope.Key{Identity: identity, Resource: pods, Namespace: "default", Labels: "a=b"})
		w.keys = append(w.keys, scope.Key{Identity: identity, Resource: secrets, Namespace: "default"})
	}
	return w
}

// object makes an object that many scopes may share. Some are long, so that they need pages of their own.
func (w *walker) object(key scope.Key, version int) scope.Item {
	n := fmt.Sprintf("o%02d", w.r.IntN(30))
	it := pod(n, version)
	if w.r.IntN(5) == 0 {
		it.Raw = append(it.Raw, make([]byte, w.r.IntN(20000))...)
	}
	if w.r.IntN(3) == 0 { // a heartbeat of the version before, if there was one
		if s := w.m[key]; s != nil {
			if old, ok := s.items[n]; ok {
				it.Essence = old.Essence
			}
		}
	}
	return it
}

func (w *walker) step() {
	key := w.keys[w.r.IntN(len(w.keys))]
	s := w.m[key]
	w.version++
	switch do := w.r.IntN(20); {
	case do < 3:
		next := &modelScope{w.version, map[string]scope.Item{}}
		var items []scope.Item
		for range w.r.IntN(25) {
			it := w.object(key, w.version)
			if s != nil && w.r.IntN(2) == 0 { // as it was
				if old, ok := s.items[it.Name]; ok {
					it = old
				}
			}
			if _, twice := next.items[it.Name]; !twice {
				next.items[it.Name] = it
				items = append(items, it)
			}
		}
		w.m[key] = next
		w.c.Replace(key, podList, fmt.Sprint(w.version), items)
	case do < 14:
		var events []scope.Event
		for range w.r.IntN(4) {
			w.version++
			e := scope.Event{Item: w.object(key, w.version), Deleted: w.r.IntN(3) == 0}
			events = append(events, e)
			if s == nil {
				continue
			}
			if s.items[e.Item.Name] = e.Item; e.Deleted {
				delete(s.items, e.Item.Name)
			}
		}
		if w.c.Apply(key, fmt.Sprint(w.version), events); s != nil {
			s.version = w.version
		}
	case do < 15:
		w.c.Forget(key)
		delete(w.m, key)
	case do < 16:
		w.c.Drop(key.Identity, key.Resource, key.Namespace)
		maps.DeleteFunc(w.m, func(k scope.Key, _ *modelScope) bool {
			return k.Identity == key.Identity && k.Resource == key.Resource && k.Namespace == key.Namespace
		})
	case do < 18:
		if w.c.Advance(key, fmt.Sprint(w.version)); s != nil {
			s.version = w.version
		}
	default:
		w.c.wakeUp()
	}
}

// wakeUp has the writer write what is due, as a timer would.
func (c *Cache) wakeUp() {
	select {
	case c.urgent <- struct{}{}:
	default:
	}
}

func (w *walker) check(c *Cache, m model) {
	w.t.Helper()
	if err := differs(c, w.keys, m); err != nil {
		w.t.Fatal(err)
	}
}

// differs says how a cache differs from a model.
func differs(c *Cache, keys []scope.Key, m model) error {
	for _, key := range keys {
		got, version, err := list(c, key)
		s := m[key]
		if s == nil {
			if !errors.Is(err, ErrUnknown) {
				return fmt.Errorf("%v: it should not be there: %w", key, err)
			}
			continue
		}
		if err != nil {
			return err
		}
		if version != fmt.Sprint(s.version) || !slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(s.items))) {
			return fmt.Errorf("%v at %s: %v, want %d: %v", key, version, slices.Sorted(maps.Keys(got)), s.version, slices.Sorted(maps.Keys(s.items)))
		}
		for n, it := range s.items {
			one, ok, err := c.Get(key, it.Namespace, n)
			if got[n] != string(it.Raw) || !ok || err != nil || string(one.Raw) != string(it.Raw) || one.Version != it.Version {
				return fmt.Errorf("%v: object %s is %q, want %q", key, n, one.Version, it.Version)
			}
		}
		if _, ok, err := c.Get(key, "default", "none"); ok || err != nil {
			return fmt.Errorf("%v: an object that is not there: %v %w", key, ok, err)
		}
	}
	return nil
}

// TestModel does thousands of random things and compares with plain maps, in memory and after each opening.
func TestModel(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			o := Options{GroupDelay: time.Millisecond, MaxQuiet: 64 << 10}
			w := newWalker(t, seed, open(t, dir, o))
			for i := range 1500 {
				w.step()
				if i%37 == 0 {
					w.check(w.c, w.m)
				}
				if i%211 == 0 {
					closed(t, w.c)
					consistent(t, dir)
					w.c = open(t, dir, o)
					w.check(w.c, w.m)
				}
			}
			if s := w.c.Stats(); s.Dirtied > 0 || s.Evicted > 0 {
				t.Fatalf("%+v", s)
			}
			if reason, message := w.c.Condition(); reason != ReasonCached {
				t.Fatal(reason, message)
			}
			flush(t, w.c)
			for key := range w.m {
				if info, _ := w.c.Info(key); info.Items != len(w.m[key].items) {
					t.Fatalf("%v has %d items, it says %d", key, len(w.m[key].items), info.Items)
				}
			}
			closed(t, w.c)
			consistent(t, dir)
		})
	}
}

// TestCopiesAtAnyStep copies the file at each step of writing, as a power cut would leave it if the disk kept order, and opens the copy:
// each scope in it is exactly as it was at some time, and no older than what was flushed before.
func TestCopiesAtAnyStep(t *testing.T) {
	dir, copies := t.TempDir(), t.TempDir()
	n, flushed := 0, atomic.Int64{}
	o := Options{GroupDelay: time.Hour, Step: func(string) {
		if n++; n%3 != 0 {
			return
		}
		to := filepath.Join(copies, fmt.Sprintf("%d-%d", flushed.Load(), n))
		if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
			t.Error(err)
		}
	}}
	w := newWalker(t, 42, open(t, dir, o))
	past := []model{{}}
	for range 60 {
		for range 5 {
			w.step()
			past = append(past, w.m.clone())
		}
		flush(t, w.c)
		flushed.Store(int64(len(past) - 1))
	}
	closed(t, w.c)
	entries, err := os.ReadDir(copies)
	if err != nil || len(entries) < 30 {
		t.Fatal(len(entries), err)
	}
	for _, entry := range entries {
		c := open(t, filepath.Join(copies, entry.Name()), Options{GroupDelay: time.Hour})
		if reason, message := c.Condition(); reason != ReasonCached {
			t.Fatal(entry.Name(), reason, message)
		}
		var from int
		fmt.Sscanf(entry.Name(), "%d-", &from)
		for i := range w.keys { // heartbeats and versions that are not written make scopes older than others
			if one := w.keys[i : i+1]; !slices.ContainsFunc(past[from:], func(m model) bool { return differs(c, one, m) == nil }) {
				t.Fatalf("%s is no state that ever was: %v", entry.Name(), differs(c, one, past[from]))
			}
		}
		closed(t, c)
	}
}
