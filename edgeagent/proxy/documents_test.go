package proxy_test

import (
	"compress/gzip"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/upstream"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// discovery is what an API server offers.
type discovery struct{ full, unchanged, schemas atomic.Int64 }

// schema is a document that is long enough to be kept compressed.
var schema = `{"schema":"` + strings.Repeat("0123456789abcdef", 10000) + `"}`

func (d *discovery) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	body := fmt.Sprintf("{%q:1}", r.URL.Path)
	switch r.URL.Path {
	case "/apis":
		if strings.Contains(r.Header.Get("Accept"), "as=APIGroupDiscoveryList") {
			w.Header().Set("Content-Type", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
			w.Header().Set("ETag", `"1"`)
			if r.Header.Get("If-None-Match") == `"1"` {
				d.unchanged.Add(1)
				w.Header().Del("Content-Type")
				w.WriteHeader(http.StatusNotModified)
				return
			}
			d.full.Add(1)
			break
		}
		body = `{"kind":"APIGroupList","groups":[{"versions":[{"groupVersion":"apps/v1"}]},{"versions":[{"groupVersion":"example.com/v1"},{"groupVersion":"example.com/v2"}]}]}`
	case "/openapi/v3":
		body = `{"paths":{"api/v1":{"serverRelativeURL":"/openapi/v3/api/v1?hash=A"}}}`
	case "/openapi/v3/api/v1":
		d.schemas.Add(1)
		body = schema
	case "/openapi/v2":
		body = schema
		if r.Header.Get("Accept-Encoding") == "gzip" {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			defer z.Close()
			z.Write([]byte(body))
			return
		}
	}
	w.Write([]byte(body))
}

// TestPrefetch: what kubectl needs is there although nobody asked for it; what did not change is not sent again.
func TestPrefetch(t *testing.T) {
	d := &discovery{}
	s := start(t, d, nil)
	for _, path := range []string{"/version", "/api", "/apis", "/api/v1", "/apis/apps/v1", "/apis/example.com/v2", "/openapi/v3", "/openapi/v3/api/v1", "/openapi/v2"} {
		eventually(t, 30*time.Second, path+" is kept", func() bool {
			_, ok, _ := s.store.Document("", path+" application/json")
			return ok
		})
	}
	for _, path := range []string{"/openapi/v3/api/v1", "/openapi/v2"} {
		d, _, _ := s.store.Document("", path+" application/json")
		if raw, err := d.Plain(); err != nil || string(raw) != schema || !d.Gzipped || len(d.Body) > len(schema)/10 {
			t.Errorf("%s: %d bytes are kept in %d, %v", path, len(raw), len(d.Body), err)
		}
	}
	const groups = "/apis application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
	before, _, _ := s.store.Document("", groups)
	c := s.client(true)
	if resp, _ := s.do(c, "GET", "/apis", "", "Accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", "If-None-Match", `"1"`); resp.StatusCode != http.StatusNotModified {
		t.Errorf("got %s", resp.Status)
	}
	if after, ok, _ := s.store.Document("", groups); !ok || before.ETag != `"1"` || len(after.Body) == 0 || d.full.Load() != 1 {
		t.Errorf("the document is %+v, sent %d times", after, d.full.Load())
	}
}

// TestPrefetchAgain: what was kept before the proxy was started anew is confirmed, not sent again. Under a hash there is nothing to ask.
func TestPrefetchAgain(t *testing.T) {
	d := &discovery{}
	before := start(t, d, nil)
	const last, schemaAt = "/openapi/v2 application/json", "/openapi/v3/api/v1 application/json"
	eventually(t, 30*time.Second, "all is kept", func() bool { _, ok, _ := before.store.Document("", last); return ok })
	began := time.Now()
	start(t, d, func(c *proxy.Config) { c.Store = before.store })
	eventually(t, 30*time.Second, "all is confirmed", func() bool {
		d, _, _ := before.store.Document("", last)
		return d.Read.After(began)
	})
	if d.full.Load() != 1 || d.unchanged.Load() != 1 || d.schemas.Load() != 1 {
		t.Errorf("sent %d and %d times, unchanged %d times", d.full.Load(), d.schemas.Load(), d.unchanged.Load())
	}
	if after, _, _ := before.store.Document("", schemaAt); !after.Read.After(began) || !after.Gzipped {
		t.Errorf("the document under a hash is of %s, begun %s", after.Read, began)
	}
}

// TestTooLongDocument: what is not kept is passed on all the same, and is forgotten.
func TestTooLongDocument(t *testing.T) {
	const length = 17 << 20
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for range length >> 20 {
			w.Write(make([]byte, 1<<20))
		}
	}), func(c *proxy.Config) { c.Spread = time.Hour })
	if _, body := s.do(s.client(true), "GET", "/openapi/v2", ""); len(body) != length {
		t.Errorf("got %d bytes", len(body))
	}
	if d, ok, _ := s.store.Document("", "/openapi/v2 application/json"); ok {
		t.Errorf("%d bytes are kept", len(d.Body))
	}
}

// TestDocumentsOfPods: a pod cannot fill the cache with what nobody will ask for.
func TestDocumentsOfPods(t *testing.T) {
	s := start(t, &discovery{}, func(c *proxy.Config) { c.Spread = time.Hour })
	c := s.client(false)
	for path, kept := range map[string]bool{"/version": true, "/version?x=1": false, "/openapi/v3/api/v1?hash=A": true, "/api/v1?hash=A&b=1": false} {
		s.do(c, "GET", path, "", "Authorization", "Bearer "+pod("web"))
		key := " " + strings.SplitN(path, "?", 2)[0] + " application/json"
		s.store.mu.Lock()
		_, ok := s.store.docs[key]
		delete(s.store.docs, key)
		s.store.mu.Unlock()
		if ok != kept {
			t.Errorf("%s: kept=%v, want %v", path, ok, kept)
		}
	}
}

// rewriter makes every config map named "b" another.
type rewriter struct{}

func (rewriter) Wants(r scope.Resource, caller string) bool {
	return r.Resource == "configmaps" && caller == nodeName
}

func (rewriter) Item(item scope.Item) (scope.Item, bool) {
	if item.Name != "b" {
		return item, false
	}
	item.Raw = []byte(strings.Replace(string(item.Raw), `"k":"v"`, `"k":"rewritten"`, 1))
	return item, true
}

// TestRewriting: the node sees objects rewritten, in lists, alone and in watches; the cache and other callers as they are.
func TestRewriting(t *testing.T) {
	k := newKube("a", "b")
	k.gzip = true
	s := start(t, k, func(c *proxy.Config) { c.Rewriter = rewriter{} })
	c := s.client(true)
	count := func(what, body string, rewritten int) {
		t.Helper()
		if got := strings.Count(body, "rewritten"); got != rewritten {
			t.Errorf("%s: %d objects are rewritten, want %d: %s", what, got, rewritten, body)
		}
	}
	_, body := s.do(c, "GET", maps, "", "Accept-Encoding", "gzip")
	count("list", body, 1)
	scanner := wire.NewListScanner(scope.JSON, wire.Limits{}, func(scope.Item) error { return nil })
	scanner.Write([]byte(body))
	if list, err := scanner.Close(); err != nil || list.Version != "12" {
		t.Errorf("the rewritten list is %+v, %v", list, err)
	}
	_, body = s.do(c, "GET", maps+"/b", "")
	count("get", body, 1)
	_, body = s.do(c, "GET", maps+"/a", "")
	count("get of another", body, 0)
	lines, _ := s.stream(c, maps+"?watch=true&resourceVersion=10")
	count("event of another", s.next(lines), 0)
	count("event", s.next(lines), 1)
	_, body = s.do(s.client(false), "GET", maps, "", "Authorization", "Bearer "+pod("web"))
	count("list of a pod", body, 0)
	s.kept(mapsOf(nodeName), 12, "default/a default/b")
	for _, item := range s.store.scopes[mapsOf(nodeName)].items {
		count("kept", string(item.Raw), 0)
	}
}

func TestMetrics(t *testing.T) {
	s := start(t, newKube("a"), func(c *proxy.Config) { c.Spread = time.Hour })
	c := s.client(true)
	s.do(c, "GET", maps, "")
	s.do(s.client(false), "GET", maps, "")
	s.do(s.client(false), "BREW", "/apis/x/v1/widgets-of-my-own", "", "Authorization", "Bearer "+pod("web"))
	eventually(t, 30*time.Second, "online", func() bool { return s.link.State() == upstream.Online })
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(s.Collector())
	gather := func() map[string]float64 {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]float64{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				name := f.GetName()
				for _, l := range m.GetLabel() {
					if l.GetName() != "listener" {
						name += " " + l.GetValue()
					}
				}
				out[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
		return out
	}
	eventually(t, 30*time.Second, "the state is counted", func() bool { return gather()["holdfast_proxy_online"] == 1 })
	got := gather()
	for name, want := range map[string]float64{
		"holdfast_proxy_requests_total online configmaps list": 1,
		"holdfast_proxy_requests_total online other other":     1, // a client cannot make up labels
		"holdfast_proxy_requests_total refused none other":     1,
		"holdfast_proxy_scopes clean":                          1,
		"holdfast_proxy_connections node":                      1,
		"holdfast_proxy_connections token":                     1,
		"holdfast_proxy_connections unknown":                   1,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	if age, ok := got["holdfast_proxy_age_seconds configmaps"]; !ok || age > 60 {
		t.Errorf("age is %v", age)
	}
}
