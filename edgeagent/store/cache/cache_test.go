package cache

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
	"github.com/holdfast-dev/holdfast/edgeagent/store/bolt"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("HOLDFAST_CACHE_CHILD"); dir != "" {
		child(dir, os.Getenv("HOLDFAST_CACHE_POINT"))
	}
	goleak.VerifyTestMain(m)
}

const node = "system:node:n1"

var (
	pods     = scope.Resource{Version: "v1", Resource: "pods"}
	secrets  = scope.Resource{Version: "v1", Resource: "secrets"}
	podList  = scope.Kind{APIVersion: "v1", Kind: "PodList"}
	nodePods = scope.Key{Identity: node, Resource: pods, Fields: "spec.nodeName=n1"}
)

func secretKey(name string) scope.Key {
	return scope.Key{Identity: node, Resource: secrets, Namespace: "default", Fields: "metadata.name=" + name}
}

// pod makes version v of a pod: its bytes, and so its content, follow from what is given.
func pod(name string, v int) scope.Item {
	return item("v1", "Pod", name, v, fmt.Sprintf("pod %s at %d %s", name, v, strings.Repeat(".", 900)))
}

func item(apiVersion, kind, name string, v int, raw string) scope.Item {
	return scope.Item{Namespace: "default", Name: name, UID: "uid-" + name, Version: fmt.Sprint(v), APIVersion: apiVersion, Kind: kind, Encoding: scope.Protobuf, Raw: []byte(raw), Essence: uint64(v) << 8}
}

func put(it scope.Item) scope.Event    { return scope.Event{Item: it} }
func remove(it scope.Item) scope.Event { return scope.Event{Deleted: true, Item: it} }

func open(t testing.TB, dir string, o Options) *Cache {
	t.Helper()
	o.Node = node
	c, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func closed(t testing.TB, c *Cache) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

func flush(t testing.TB, c *Cache) {
	t.Helper()
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// list gives what a scope holds, by name, and its version.
func list(c *Cache, key scope.Key) (items map[string]string, version string, err error) {
	items = map[string]string{}
	err = c.Read(key, func(info scope.Info, all iter.Seq2[scope.Item, error]) error {
		version = info.Version
		last := ""
		for it, err := range all {
			if err != nil {
				return err
			}
			if it.Name <= last {
				return fmt.Errorf("%q comes after %q", it.Name, last)
			}
			last = it.Name
			items[strings.Clone(it.Name)] = string(it.Raw)
		}
		return nil
	})
	return items, version, err
}

func holds(t testing.TB, c *Cache, key scope.Key, version string, want ...scope.Item) {
	t.Helper()
	got, v, err := list(c, key)
	if err != nil {
		t.Fatal(err)
	}
	expected := map[string]string{}
	for _, it := range want {
		expected[it.Name] = string(it.Raw)
		one, ok, err := c.Get(key, it.Namespace, it.Name)
		if err != nil || !ok || one.Version != it.Version || string(one.Raw) != string(it.Raw) || one.UID != it.UID || one.Kind != it.Kind || one.APIVersion != it.APIVersion || one.Encoding != it.Encoding || one.Essence != it.Essence {
			t.Fatalf("get %s: %v %v %+v", it.Name, ok, err, one)
		}
	}
	if !maps.Equal(got, expected) || v != version {
		t.Fatalf("at version %s (want %s): got %v, want %v", v, version, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(expected)))
	}
}

func commits(t testing.TB, dir string) uint64 {
	t.Helper()
	n, err := bolt.Commits(filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestLayers changes a scope step by step, and looks at it in memory, written, and opened again.
func TestLayers(t *testing.T) {
	other := scope.Key{Identity: "someone", Resource: pods}
	type state struct {
		version string
		items   []scope.Item
	}
	for _, test := range []struct {
		name  string
		steps []func(c *Cache)
		want  state
	}{
		{"empty", []func(*Cache){func(c *Cache) { c.Replace(nodePods, podList, "5", nil) }}, state{"5", nil}},
		{"list", []func(*Cache){func(c *Cache) { c.Replace(nodePods, podList, "5", []scope.Item{pod("a", 1), pod("b", 2)}) }}, state{"5", []scope.Item{pod("a", 1), pod("b", 2)}}},
		{"added", []func(*Cache){
			func(c *Cache) { c.Replace(nodePods, podList, "5", []scope.Item{pod("b", 2)}) },
			func(c *Cache) { c.Apply(nodePods, "7", []scope.Event{put(pod("a", 6)), put(pod("c", 7))}) },
		}, state{"7", []scope.Item{pod("a", 6), pod("b", 2), pod("c", 7)}}},
		{"changed and gone", []func(*Cache){
			func(c *Cache) {
				c.Replace(nodePods, podList, "5", []scope.Item{pod("a", 1), pod("b", 2), pod("c", 3)})
			},
			func(c *Cache) { c.Apply(nodePods, "7", []scope.Event{put(pod("a", 6)), remove(pod("b", 7))}) },
		}, state{"7", []scope.Item{pod("a", 6), pod("c", 3)}}},
		{"gone and back", []func(*Cache){
			func(c *Cache) { c.Replace(nodePods, podList, "5", []scope.Item{pod("a", 1)}) },
			func(c *Cache) { c.Apply(nodePods, "6", []scope.Event{remove(pod("a", 6))}) },
			func(c *Cache) { c.Apply(nodePods, "7", []scope.Event{put(pod("a", 7))}) },
		}, state{"7", []scope.Item{pod("a", 7)}}},
		{"replaced", []func(*Cache){
			func(c *Cache) { c.Replace(nodePods, podList, "5", []scope.Item{pod("a", 1), pod("b", 2)}) },
			func(c *Cache) { c.Replace(nodePods, podList, "9", []scope.Item{pod("b", 8), pod("c", 9)}) },
		}, state{"9", []scope.Item{pod("b", 8), pod("c", 9)}}},
		{"put back in time", []func(*Cache){
			func(c *Cache) { c.Replace(nodePods, podList, "9", []scope.Item{pod("a", 9)}) },
			func(c *Cache) { c.Replace(nodePods, podList, "4", []scope.Item{pod("a", 3)}) },
			func(c *Cache) { c.Apply(nodePods, "6", []scope.Event{put(pod("b", 6))}) },
		}, state{"6", []scope.Item{pod("a", 3), pod("b", 6)}}},
		{"events that are not newer", []func(*Cache){
			func(c *Cache) { c.Replace(nodePods, podList, "5", []scope.Item{pod("a", 5)}) },
			func(c *Cache) { c.Apply(nodePods, "5", []scope.Event{put(pod("a", 4)), remove(pod("a", 5))}) },
		}, state{"5", []scope.Item{pod("a", 5)}}},
		{"bookmark", []func(*Cache){
			func(c *Cache) { c.Replace(nodePods, podList, "5", []scope.Item{pod("a", 5)}) },
			func(c *Cache) { c.Advance(nodePods, "8") },
			func(c *Cache) { c.Advance(nodePods, "7") },
		}, state{"8", []scope.Item{pod("a", 5)}}},
		{"dirty", []func(*Cache){
			func(c *Cache) { c.Replace(nodePods, podList, "5", []scope.Item{pod("a", 5)}) },
			func(c *Cache) { c.Dirty(nodePods, "a gap") },
			func(c *Cache) { c.Apply(nodePods, "9", []scope.Event{put(pod("b", 9))}); c.Advance(nodePods, "10") },
		}, state{"5", []scope.Item{pod("a", 5)}}},
		{"shared with another who loses it", []func(*Cache){
			func(c *Cache) {
				c.Replace(nodePods, podList, "5", []scope.Item{pod("a", 5)})
				c.Replace(other, podList, "5", []scope.Item{pod("a", 5)})
			},
			func(c *Cache) { c.Forget(other) },
		}, state{"5", []scope.Item{pod("a", 5)}}},
	} {
		for _, when := range []string{"in memory", "written", "written each time", "opened again"} {
			t.Run(test.name+"/"+when, func(t *testing.T) {
				dir := t.TempDir()
				c := open(t, dir, Options{GroupDelay: time.Hour})
				for _, step := range test.steps {
					step(c)
					if when == "written each time" {
						flush(t, c)
					}
				}
				switch when {
				case "written":
					flush(t, c)
				case "opened again":
					closed(t, c)
					c = open(t, dir, Options{GroupDelay: time.Hour})
				}
				holds(t, c, nodePods, test.want.version, test.want.items...)
				if _, ok, err := c.Get(nodePods, "default", "no-such-pod"); ok || err != nil {
					t.Fatalf("a pod that is not there: %v %v", ok, err)
				}
				if _, _, err := list(c, other); !errors.Is(err, ErrUnknown) {
					t.Fatalf("a scope that is not there: %v", err)
				}
				closed(t, c)
				consistent(t, dir)
			})
		}
	}
}

// consistent proves that a closed file is sound, and that nothing is in it that no scope holds.
func consistent(t testing.TB, dir string) {
	t.Helper()
	if err := bolt.Check(filepath.Join(dir, fileName)); err != nil {
		t.Fatal(err)
	}
	objects, refs := map[id]bool{}, map[id]bool{}
	if damage, err := bolt.Salvage(filepath.Join(dir, fileName), func(r bolt.Record) error {
		switch r.Bucket {
		case bucketObjects:
			objects[id(r.Nested)] = true
		case bucketRefs:
			ref, err := decodeReference(r.Value)
			refs[ref.content] = true
			return err
		}
		return nil
	}); damage != nil || err != nil {
		t.Fatal(damage, err)
	}
	if !maps.Equal(objects, refs) {
		t.Fatalf("%d objects are in the file, %d are held", len(objects), len(refs))
	}
}
