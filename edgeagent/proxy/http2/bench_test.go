package http2_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/http2"
)

// servers are net/http's and this one, as it answers what waits for something, and what does not.
var servers = []struct {
	name         string
	plain, brief bool
}{{"net-http", true, false}, {"own", false, false}, {"own-brief", false, true}}

func startFor(b *testing.B, plain, brief bool, handler http.HandlerFunc) *httptest.Server {
	return start(b, handler, http2.Config{Brief: func(*http.Request) bool { return brief }}, plain)
}

func client(s *httptest.Server) *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}}
}

// processorTime is what client and server used.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func perOp(b *testing.B, f func()) {
	before := processorTime(b)
	f()
	b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/1000/float64(b.N), "cpu-µs/op")
}

// BenchmarkGet asks for 6 KB, over one connection, and over four at once.
func BenchmarkGet(b *testing.B) {
	answer := strings.Repeat("x", 6<<10)
	for _, way := range servers {
		s := startFor(b, way.plain, way.brief, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, answer)
		})
		get := func(c *http.Client) {
			resp, err := c.Get(s.URL)
			if err != nil {
				b.Error(err)
				return
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		b.Run(way.name+"/one", func(b *testing.B) {
			c := client(s)
			defer c.CloseIdleConnections()
			get(c)
			b.ReportAllocs()
			b.ResetTimer()
			perOp(b, func() {
				for range b.N {
					get(c)
				}
			})
		})
		b.Run(way.name+"/four", func(b *testing.B) {
			b.SetParallelism(max(1, 4/runtime.GOMAXPROCS(0)))
			perOp(b, func() {
				b.RunParallel(func(pb *testing.PB) {
					c := client(s)
					defer c.CloseIdleConnections()
					for pb.Next() {
						get(c)
					}
				})
			})
		})
	}
}

// BenchmarkEvent passes an event of 1 KB to a client that waits for it.
func BenchmarkEvent(b *testing.B) {
	for _, way := range servers[:2] {
		b.Run(way.name, func(b *testing.B) {
			events := make(chan []byte)
			s := startFor(b, way.plain, way.brief, func(w http.ResponseWriter, r *http.Request) {
				w.(http.Flusher).Flush()
				for e := range events {
					w.Write(e)
					w.(http.Flusher).Flush()
				}
			})
			defer close(events)
			c := client(s)
			defer c.CloseIdleConnections()
			resp, err := c.Get(s.URL)
			if err != nil {
				b.Fatal(err)
			}
			defer resp.Body.Close()
			event, got := make([]byte, 1000), make([]byte, 1000)
			b.ReportAllocs()
			b.ResetTimer()
			perOp(b, func() {
				for range b.N {
					events <- event
					if _, err := io.ReadFull(resp.Body, got); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

// BenchmarkIdleWatches tells what an open answer costs that nothing is sent on. The client's part is the same for all.
func BenchmarkIdleWatches(b *testing.B) {
	const watches = 250
	for _, way := range servers[:2] {
		b.Run(way.name, func(b *testing.B) {
			for b.Loop() {
				s := startFor(b, way.plain, way.brief, func(w http.ResponseWriter, r *http.Request) {
					w.(http.Flusher).Flush()
					<-r.Context().Done()
				})
				c := client(s)
				before := memory()
				var bodies []io.Closer
				for i := range watches {
					resp, err := c.Get(fmt.Sprintf("%s/%d", s.URL, i))
					if err != nil {
						b.Fatal(err)
					}
					bodies = append(bodies, resp.Body)
				}
				b.ReportMetric(float64(memory()-before)/watches, "B/watch")
				for _, body := range bodies {
					body.Close()
				}
				c.CloseIdleConnections()
			}
		})
	}
}

func memory() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}
