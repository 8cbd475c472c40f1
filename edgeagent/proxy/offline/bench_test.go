package offline_test

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/offline"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/outbox"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
	"github.com/holdfast-dev/holdfast/edgeagent/store/cache"
)

// onDisk is a Handler on a real cache that holds a node, 110 pods and 200 Secrets.
func onDisk(b testing.TB) (*offline.Handler, *cache.Cache) {
	b.Helper()
	c, err := cache.Open(b.TempDir(), cache.Options{Log: slog.New(slog.DiscardHandler), Node: nodeUser})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	c.Replace(scope.Key{Identity: nodeUser, Resource: nodesResource, Fields: "metadata.name=" + nodeName}, scope.Kind{APIVersion: "v1", Kind: "NodeList"}, "120",
		[]scope.Item{item(b, nodeOf("110"), "v1", "Node")})
	c.Put(scope.Key{Identity: nodeUser, Resource: nodesResource, Name: nodeName}, item(b, nodeOf("110"), "v1", "Node"))
	var pods []scope.Item
	for i := range 110 {
		pods = append(pods, item(b, podOf("default", "pod-"+string(rune('a'+i/26))+string(rune('a'+i%26)), "100"), "v1", "Pod"))
	}
	c.Replace(scope.Key{Identity: nodeUser, Resource: podsResource, Fields: "spec.nodeName=" + nodeName}, scope.Kind{APIVersion: "v1", Kind: "PodList"}, "130", pods)
	for i := range 200 {
		name := "secret-" + string(rune('a'+i/26)) + string(rune('a'+i%26))
		c.Replace(scope.Key{Identity: nodeUser, Resource: secretsResource, Namespace: "default", Fields: "metadata.name=" + name},
			scope.Kind{APIVersion: "v1", Kind: "SecretList"}, "90", []scope.Item{item(b, secretOf("default", name, "80"), "v1", "Secret")})
	}
	if err := c.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	o, err := outbox.New(outbox.Config{Store: c})
	if err != nil {
		b.Fatal(err)
	}
	return offline.New(offline.Config{Node: nodeName, Store: c, Outbox: o, Now: time.Now}), c
}

func answerer(h *offline.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req, err := request.Parse(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		h.Serve(w, r, req, offline.Caller{Name: nodeUser, Node: true})
	})
}

const kubelets = "application/vnd.kubernetes.protobuf,application/json"

// BenchmarkGetHandler is a GET without its connection.
func BenchmarkGetHandler(b *testing.B) {
	h, _ := onDisk(b)
	serve := answerer(h)
	for _, path := range []string{"/api/v1/nodes/n1", "/api/v1/namespaces/default/pods/pod-aa", "/api/v1/namespaces/default/secrets/secret-aa"} {
		b.Run(path, func(b *testing.B) {
			r := httptest.NewRequest("GET", path, nil)
			r.Header.Set("Accept", kubelets)
			b.ReportAllocs()
			for b.Loop() {
				w := discard{head: http.Header{}}
				serve.ServeHTTP(&w, r)
				if w.code != 200 {
					b.Fatal(w.code)
				}
			}
		})
	}
}

type discard struct {
	head http.Header
	code int
}

func (d *discard) Header() http.Header         { return d.head }
func (d *discard) WriteHeader(code int)        { d.code = code }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkGetNodeTLS is what YurtHub was measured with: GET of a node, four connections, the client on the same cores.
func BenchmarkGetNodeTLS(b *testing.B) {
	for _, proto := range []string{"h1", "h2"} {
		b.Run(proto, func(b *testing.B) {
			h, _ := onDisk(b)
			server := httptest.NewUnstartedServer(answerer(h))
			server.EnableHTTP2 = proto == "h2"
			server.StartTLS()
			defer server.Close()
			pool := server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
			const connections = 4
			var wg sync.WaitGroup
			work := make(chan struct{}, connections)
			for range connections {
				transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: proto == "h2", DisableCompression: true}
				defer transport.CloseIdleConnections()
				client := &http.Client{Transport: transport}
				wg.Go(func() {
					for range work {
						r, _ := http.NewRequest("GET", server.URL+"/api/v1/nodes/n1", nil)
						r.Header.Set("Accept", kubelets)
						resp, err := client.Do(r)
						if err != nil {
							b.Error(err)
							return
						}
						_, _ = io.Copy(io.Discard, resp.Body)
						resp.Body.Close()
					}
				})
			}
			b.ResetTimer()
			start := time.Now()
			for range b.N {
				work <- struct{}{}
			}
			close(work)
			wg.Wait()
			b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "req/s")
		})
	}
}
