package cache

import (
	"fmt"
	"iter"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// benchCache makes what a busy node has: 110 pods, 200 Secrets each in a scope of its own, 1000 other objects.
func benchCache(b *testing.B) (dir string, secretKeys []scope.Key) {
	dir = b.TempDir()
	c := open(b, dir, Options{})
	body := strings.Repeat("status of a container; ", 260) // 6 KB
	var items []scope.Item
	for i := range 110 {
		items = append(items, item("v1", "Pod", fmt.Sprintf("pod-%03d", i), i+1, fmt.Sprint(i, body)))
	}
	c.Replace(nodePods, podList, "2000", items)
	for i := range 200 {
		n := fmt.Sprintf("secret-%03d", i)
		secretKeys = append(secretKeys, secretKey(n))
		c.Replace(secretKey(n), podList, "2000", []scope.Item{item("v1", "Secret", n, i+1, fmt.Sprint(i, body[:2000]))})
	}
	c.Replace(manyPods, podList, "2000", manyItems(body))
	flush(b, c)
	closed(b, c)
	return dir, secretKeys
}

var manyPods = scope.Key{Identity: node, Resource: scope.Resource{Version: "v1", Resource: "services"}}

func manyItems(body string) (items []scope.Item) {
	for i := range 1000 {
		items = append(items, item("v1", "Pod", fmt.Sprintf("service-%04d", i), i+1, fmt.Sprint(i, body)))
	}
	return items
}

func BenchmarkGet(b *testing.B) {
	dir, secretKeys := benchCache(b)
	c := open(b, dir, Options{})
	b.Run("pod", func(b *testing.B) {
		b.ReportAllocs()
		cpu(b)
		i := 0
		for b.Loop() {
			if _, ok, err := c.Get(nodePods, "default", podNames[i%110]); !ok || err != nil {
				b.Fatal(ok, err)
			}
			i++
		}
	})
	b.Run("secret", func(b *testing.B) {
		b.ReportAllocs()
		cpu(b)
		i := 0
		for b.Loop() {
			if _, ok, err := c.Get(secretKeys[i%200], "default", secretNames[i%200]); !ok || err != nil {
				b.Fatal(ok, err)
			}
			i++
		}
	})
	b.Run("absent", func(b *testing.B) {
		b.ReportAllocs()
		cpu(b)
		for b.Loop() {
			if _, ok, err := c.Get(nodePods, "default", "none"); ok || err != nil {
				b.Fatal(ok, err)
			}
		}
	})
	b.Run("parallel", func(b *testing.B) {
		cpu(b)
		b.RunParallel(func(p *testing.PB) {
			for i := 0; p.Next(); i++ {
				if _, ok, err := c.Get(nodePods, "default", podNames[i%110]); !ok || err != nil {
					b.Error(ok, err)
				}
			}
		})
	})
}

var podNames, secretNames = names("pod-%03d"), names("secret-%03d")

func names(format string) (all []string) {
	for i := range 200 {
		all = append(all, fmt.Sprintf(format, i))
	}
	return all
}

func BenchmarkRead1000(b *testing.B) {
	dir, _ := benchCache(b)
	c := open(b, dir, Options{})
	b.ReportAllocs()
	cpu(b)
	for b.Loop() {
		n := 0
		err := c.Read(manyPods, func(_ scope.Info, all iter.Seq2[scope.Item, error]) error {
			for it, err := range all {
				if err != nil {
					return err
				}
				n += len(it.Raw)
			}
			return nil
		})
		if err != nil || n < 5_000_000 {
			b.Fatal(n, err)
		}
	}
}

// BenchmarkApply applies events one by one, as a watch does; the writer writes them in groups meanwhile.
func BenchmarkApply(b *testing.B) {
	dir, _ := benchCache(b)
	c := open(b, dir, Options{MaxPending: 1 << 30})
	body := []byte(strings.Repeat("status of a container; ", 260))
	b.ReportAllocs()
	cpu(b)
	v := 3000
	for b.Loop() {
		v++
		it := scope.Item{Namespace: "default", Name: podNames[v%110], UID: "u", Version: fmt.Sprint(v), APIVersion: "v1", Kind: "Pod", Encoding: scope.Protobuf, Raw: body, Essence: uint64(v)}
		c.Apply(nodePods, it.Version, []scope.Event{{Item: it}})
	}
	flush(b, c)
	s := c.Stats()
	b.ReportMetric(float64(v-3000)/float64(s.Commits), "events/commit")
}

// BenchmarkCommit writes one event, durably, each time: what a quiet node's only event costs.
func BenchmarkCommit(b *testing.B) {
	dir, _ := benchCache(b)
	c := open(b, dir, Options{GroupDelay: time.Hour})
	b.ReportAllocs()
	cpu(b)
	v := 3000
	for b.Loop() {
		v++
		c.Apply(nodePods, fmt.Sprint(v), []scope.Event{put(item("v1", "Pod", podNames[v%110], v, strings.Repeat("x", 6000)))})
		flush(b, c)
	}
}

// BenchmarkReplaceSame lists 1000 objects again that are as before.
func BenchmarkReplaceSame(b *testing.B) {
	dir, _ := benchCache(b)
	c := open(b, dir, Options{GroupDelay: time.Hour})
	items := manyItems(strings.Repeat("status of a container; ", 260))
	b.ReportAllocs()
	cpu(b)
	for b.Loop() {
		c.Replace(manyPods, podList, "2000", items)
		c.write(changed)
	}
}

func BenchmarkEnqueue(b *testing.B) {
	c := open(b, b.TempDir(), Options{})
	value := make([]byte, 4000)
	b.ReportAllocs()
	cpu(b)
	for b.Loop() {
		if err := c.Enqueue(b.Context(), "status", "pod", value); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	dir, _ := benchCache(b)
	b.ReportAllocs()
	cpu(b)
	for b.Loop() {
		c, err := Open(dir, Options{})
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	c := open(b, dir, Options{})
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(int64(after.HeapAlloc)-int64(before.HeapAlloc))/1024, "heap-kB")
	b.ReportMetric(float64(c.Stats().FileBytes)/1e6, "file-MB")
}
