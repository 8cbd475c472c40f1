package registry_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/registry"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/upstream"
)

// TestTagsOffline: a tag leads to what is pinned, then to what was last seen, else nowhere.
func TestTagsOffline(t *testing.T) {
	s, f := public()
	app := f.repos["app"]
	newer := image("", "newer")
	get := func(tag string) *httptest.ResponseRecorder {
		t.Helper()
		return do(t, s.handler(t), "GET", "app/manifests/"+tag+ns)
	}
	leads := func(when, tag string, want oci.Digest, how registry.Resolution) {
		t.Helper()
		w := get(tag)
		if got := w.Header().Get("Docker-Content-Digest"); w.Code != 200 || got != want.String() || oci.SHA256.FromBytes(w.Body.Bytes()) != want {
			t.Errorf("%s: %s leads to %q (%d %s), want %s", when, tag, got, w.Code, w.Body, want)
		}
		if r := s.served[len(s.served)-1]; r.Resolution != how {
			t.Errorf("%s: resolved by %q, want %q", when, r.Resolution, how)
		}
	}
	first := app.v1()
	leads("online", "v1", first, registry.ByUpstream)
	if tag := s.tagged["reg.example/app:v1"]; tag.Digest != first || tag.Source != "reg.example" || !tag.Seen.Equal(s.now) || tag.MediaType != oci.MediaTypeManifest {
		t.Errorf("remembered %+v", tag)
	}
	for _, kind := range []upstream.Kind{upstream.Unavailable, upstream.Broken, upstream.ErrorPage, upstream.RateLimited, upstream.Stalled} {
		f.set(func(f *fake) { f.fails = fail(kind) })
		leads(string(kind), "v1", first, registry.ByMemory)
	}
	if seen := get("v1").Header().Get("Holdfast-Tag-Seen"); seen != "2026-05-01T12:00:00Z" {
		t.Errorf("seen %q", seen)
	}
	f.set(func(f *fake) { f.fails = fail(upstream.Unavailable) })
	if w := get("v9"); w.Code != 404 || codeOf(t, w) != "MANIFEST_UNKNOWN" {
		t.Errorf("a tag that was never seen: %d %s", w.Code, w.Body)
	}

	// Upstream moves the tag on.
	f.set(func(f *fake) {
		f.fails = nil
		app.tags["v1"], app.manifests[newer.v1()] = newer.v1(), newer.manifests[newer.v1()]
	})
	s.pass(time.Minute)
	leads("moved on", "v1", newer.v1(), registry.ByUpstream)
	f.set(func(f *fake) { f.fails = fail(upstream.Unavailable) })
	leads("moved on, offline", "v1", newer.v1(), registry.ByMemory)

	// A release pins it: that counts before what was seen.
	s.pinned["reg.example/app:v1"] = first
	leads("pinned, offline", "v1", first, registry.ByPin)
	f.set(func(f *fake) { f.fails = nil })
	leads("pinned, online", "v1", newer.v1(), registry.ByUpstream)
	delete(s.pinned, "reg.example/app:v1")

	// What is gone upstream is gone; what was seen stays for when nobody can be asked.
	asked := s.handler(t)
	if w := do(t, asked, "GET", "app/manifests/v1"+ns); w.Code != 200 {
		t.Error(w.Body)
	}
	f.set(func(*fake) { delete(app.tags, "v1") })
	for _, h := range []http.Handler{asked, s.handler(t)} {
		if w := do(t, h, "GET", "app/manifests/v1"+ns); w.Code != 404 {
			t.Errorf("gone upstream: %d", w.Code)
		}
	}
	f.set(func(f *fake) { f.fails = fail(upstream.Unavailable) })
	leads("gone, offline", "v1", newer.v1(), registry.ByMemory)

	// The tag is remembered, and its manifest was collected.
	delete(s.store, newer.v1())
	for _, method := range []string{"GET", "HEAD"} {
		if w := do(t, s.handler(t), method, "app/manifests/v1"+ns); w.Code != 404 {
			t.Errorf("%s of what is not there: %d", method, w.Code)
		}
	}
}

// TestTagsAreRarelyWritten: flash wears.
func TestTagsAreRarelyWritten(t *testing.T) {
	s, _ := public()
	h := s.handler(t)
	head := func() (writes int) {
		before := s.writes
		if w := do(t, h, "HEAD", "app/manifests/v1"+ns); w.Code != 200 {
			t.Fatal(w.Body)
		}
		return s.writes - before
	}
	for _, test := range []struct {
		passes time.Duration
		writes int
	}{{0, 2}, {time.Minute, 0}, {50 * time.Minute, 0}, {10 * time.Minute, 1}, {-24 * time.Hour, 1}} {
		s.pass(test.passes)
		if got := head(); got != test.writes {
			t.Errorf("after %s: %d writes, want %d", test.passes, got, test.writes)
		}
	}
}
