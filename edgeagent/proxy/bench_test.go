package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// node is about what a Node takes in JSON.
var node = `{"kind":"Node","apiVersion":"v1","metadata":{"name":"n1","uid":"u1","resourceVersion":"42","labels":{"kubernetes.io/hostname":"n1"}},"status":{"images":[` +
	strings.Repeat(`{"names":["registry.example.com/image@sha256:0123456789abcdef"],"sizeBytes":123456},`, 60) + `{"names":[]}]}}`

const emptyList = `{"kind":"List","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[]}`

func getNode(b *testing.B, c *http.Client, url string) {
	resp, err := c.Get(url + "/api/v1/nodes/n1")
	if err != nil {
		b.Error(err)
		return
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != int64(len(node)) {
		b.Errorf("got %d bytes, %v", n, err)
	}
}

func getList(b *testing.B, c *http.Client, url string) {
	resp, err := c.Get(url + "/api/v1/namespaces/default/secrets")
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkOnlineGet compares a GET through the proxy with one at the API server, which here answers at once: the difference is the proxy.
func BenchmarkOnlineGet(b *testing.B) {
	s := start(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, node)
	}), nil)
	for _, way := range []struct{ name, url string }{{"direct", s.api.Direct()}, {"proxy", s.url}} {
		for _, version := range []string{"http2", "http1"} {
			c := s.client(true, func(t *http.Transport) {
				if version == "http1" {
					http1(t)
				}
			})
			b.Run(way.name+"/"+version, func(b *testing.B) {
				getNode(b, c, way.url)
				b.ReportAllocs()
				var took []time.Duration
				for b.Loop() {
					began := time.Now()
					getNode(b, c, way.url)
					took = append(took, time.Since(began))
				}
				slices.Sort(took)
				b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
				b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
			})
			b.Run(way.name+"/"+version+"/parallel", func(b *testing.B) {
				b.SetParallelism(2)
				before := processorTime(b)
				defer func() { b.ReportMetric(float64((processorTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/op") }()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						getNode(b, c, way.url)
					}
				})
			})
		}
	}
}

// processorTime is what this process used: client, proxy and API server together. It means something on a busy machine too.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkWatchEvent measures how long an event takes from the API server's handler to the client.
func BenchmarkWatchEvent(b *testing.B) {
	events := make(chan []byte)
	s := start(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Query().Get("watch") == "" {
			io.WriteString(w, emptyList)
			return
		}
		w.(http.Flusher).Flush()
		for {
			select {
			case <-r.Context().Done():
				return
			case e := <-events:
				w.Write(e)
				w.(http.Flusher).Flush()
			}
		}
	}), nil)
	for _, way := range []struct{ name, url string }{{"direct", s.api.Direct()}, {"proxy", s.url}} {
		b.Run(way.name, func(b *testing.B) {
			resp, err := s.client(true).Get(way.url + "/api/v1/nodes?watch=true&resourceVersion=1")
			if err != nil {
				b.Fatal(err)
			}
			defer resp.Body.Close()
			var took []time.Duration
			version := 1
			for b.Loop() {
				version++
				e := fmt.Appendf(nil, `{"type":"MODIFIED","object":{"kind":"Node","apiVersion":"v1","metadata":{"name":"n1","uid":"u1","resourceVersion":"%d"},"x":"%s"}}`+"\n", version, strings.Repeat("x", 1000))
				began := time.Now()
				events <- e
				if _, err := io.ReadFull(resp.Body, make([]byte, len(e))); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		})
	}
}

// BenchmarkWatches measures what an idle watch costs, client, proxy and API server together in this process; and what client and API
// server cost without a proxy. The difference is the proxy's.
func BenchmarkWatches(b *testing.B) {
	s := start(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Query().Get("watch") == "" {
			io.WriteString(w, emptyList)
			return
		}
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}), nil)
	const watches = 250
	for _, way := range []struct{ name, url string }{{"direct", s.api.Direct()}, {"proxy", s.url}} {
		b.Run(way.name, func(b *testing.B) {
			for b.Loop() {
				heap, routines := memory()
				c := s.client(true)
				getList(b, c, way.url) // or each watch would dial a connection of its own
				var open sync.WaitGroup
				bodies := make([]io.Closer, watches)
				for i := range watches {
					open.Go(func() {
						resp, err := c.Get(fmt.Sprintf("%s/api/v1/namespaces/default/secrets?watch=true&resourceVersion=1&fieldSelector=metadata.name%%3Ds%d", way.url, i))
						if err != nil {
							b.Error(err)
							return
						}
						bodies[i] = resp.Body
					})
				}
				open.Wait()
				eventually(b, 30*time.Second, "gaps are found, and listed", func() bool {
					return way.url != s.url || len(s.store.Scopes("", scope.Resource{Version: "v1", Resource: "secrets"})) >= watches
				})
				heap2, routines2 := memory()
				b.ReportMetric(float64(heap2-heap)/watches, "B/watch")
				b.ReportMetric(float64(routines2-routines)/watches, "goroutines/watch")
				for _, body := range bodies {
					body.Close()
				}
				c.CloseIdleConnections()
				eventually(b, 30*time.Second, "watches end", func() bool { return runtime.NumGoroutine() < routines+50 })
			}
		})
	}
}

func memory() (bytes, routines int) {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapInuse + m.StackInuse), runtime.NumGoroutine()
}
