package offline_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/offline"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/outbox"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/selftest"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
	"github.com/holdfast-dev/holdfast/edgeagent/store/cache"
)

// TestOnDisk runs the same on the real cache, over a restart of the agent: what was written is there, and the selftest says what
// would be missing.
func TestOnDisk(t *testing.T) {
	dir := t.TempDir()
	run := func(use func(*offline.Handler, *cache.Cache, func(method, path, body string) (int, string))) {
		c, err := cache.Open(dir, cache.Options{Log: slog.New(slog.DiscardHandler), Node: nodeUser, Rings: map[string]int{outbox.EventsBucket: 3}})
		if err != nil {
			t.Fatal(err)
		}
		o, err := outbox.New(outbox.Config{Store: c})
		if err != nil {
			t.Fatal(err)
		}
		h := offline.New(offline.Config{Node: nodeName, Store: c, Outbox: o, Now: time.Now})
		serve := answerer(h)
		use(h, c, func(method, path, body string) (int, string) {
			r := httptest.NewRequest(method, path, strings.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			if method == "PATCH" {
				r.Header.Set("Content-Type", "application/strategic-merge-patch+json")
			}
			w := httptest.NewRecorder()
			serve.ServeHTTP(w, r)
			return w.Code, w.Body.String()
		})
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	key := scope.Key{Identity: nodeUser, Resource: podsResource, Fields: "spec.nodeName=" + nodeName}
	run(func(h *offline.Handler, c *cache.Cache, ask func(string, string, string) (int, string)) {
		c.Replace(key, scope.Kind{APIVersion: "v1", Kind: "PodList"}, "130", []scope.Item{item(t, podOf("default", "web", "100"), "v1", "Pod")})
		c.Replace(scope.Key{Identity: nodeUser, Resource: nodesResource, Fields: "metadata.name=" + nodeName}, scope.Kind{APIVersion: "v1", Kind: "NodeList"}, "120",
			[]scope.Item{item(t, nodeOf("110"), "v1", "Node")})
		if code, body := ask("PATCH", "/api/v1/namespaces/default/pods/web/status", `{"metadata":{"uid":"uid-web"},"status":{"phase":"Failed"}}`); code != 200 {
			t.Fatalf("patch: %d %s", code, body)
		}
		for _, name := range []string{"a", "b", "c", "d"} {
			if code, body := ask("POST", "/api/v1/namespaces/default/events", `{"metadata":{"name":"`+name+`"}}`); code != 201 {
				t.Fatalf("event: %d %s", code, body)
			}
		}
	})
	run(func(h *offline.Handler, c *cache.Cache, ask func(string, string, string) (int, string)) {
		code, body := ask("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1", "")
		if code != 200 || !strings.Contains(body, `"phase":"Failed"`) || !strings.Contains(body, `"resourceVersion":"130"`) {
			t.Errorf("after a restart: %d %s", code, body)
		}
		if code, _ := ask("PATCH", "/api/v1/namespaces/default/events/a", `{"count":2}`); code != 404 {
			t.Errorf("the oldest event of a full ring: %d", code)
		}
		if code, _ := ask("PATCH", "/api/v1/namespaces/default/events/d", `{"count":2}`); code != 200 {
			t.Errorf("the newest event: %d", code)
		}
		result, err := selftest.Run(t.Context(), selftest.Config{Node: nodeName, Scopes: c.Scopes, Serve: func(w http.ResponseWriter, r *http.Request, req request.Request) {
			h.Serve(w, r, req, offline.Caller{Name: nodeUser, Node: true})
		}})
		if err != nil {
			t.Fatal(err)
		}
		var kinds []string
		for _, m := range result.Missing {
			kinds = append(kinds, m.Kind)
		}
		// The one pod has ended, so it needs nothing.
		if got := strings.Join(kinds, " "); got != "CSIDrivers CSINode RuntimeClasses Services" || result.Pods != 0 {
			t.Errorf("the selftest misses %s: %+v", got, result)
		}
	})
}
