package proxy

import (
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/identity"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/upstream"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

const (
	aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
	openAPI2   = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"

	// documentsFresh is how long documents are good for before they are asked for again.
	documentsFresh = 6 * time.Hour
)

// prefetch keeps what kubectl needs before anything else, so that it works offline although nobody ran it while the node was online.
// It asks as the node, a while after the link came up, and then every few hours; what did not change is not sent again.
func (s *Server) prefetch(ctx context.Context) {
	for {
		pause := s.cfg.Spread + rand.N(s.cfg.Spread)
		if !sleep(ctx, pause) {
			return
		}
		if s.cfg.Link.Wait(ctx) == upstream.Online && s.prefetchAll(ctx) {
			if !sleep(ctx, documentsFresh+rand.N(documentsFresh/4)) {
				return
			}
		}
	}
}

// prefetchAll asks for all documents once, one after the other, and tells whether the link stood all the time.
func (s *Server) prefetchAll(ctx context.Context) bool {
	ask := func(accept string, paths ...string) bool {
		for _, path := range paths {
			if !s.prefetchOne(ctx, path, accept) {
				return false
			}
		}
		return true
	}
	return ask(aggregated, "/api", "/apis") && ask(typeJSON, "/version", "/api", "/apis") &&
		ask(typeJSON, append([]string{"/api/v1"}, groupPaths(s.prefetched(ctx, "/apis"))...)...) &&
		ask(typeJSON, "/openapi/v3") && ask(typeJSON, openAPIPaths(s.prefetched(ctx, "/openapi/v3"))...) &&
		ask(openAPI2, "/openapi/v2")
}

// own is a request of the proxy's own for a document.
func (s *Server) own(ctx context.Context, path, accept string) (*call, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", accept)
	r.Header.Set("Accept-Encoding", "gzip")
	r.Header.Set("User-Agent", "holdfast-proxy")
	c := &call{s: s, r: r, caller: identity.Caller{Name: s.node(), Node: true}}
	c.req, c.err = request.Parse(r)
	return c, nil
}

// kept gives what is kept of a document, and where.
func (c *call) kept() (identity, path string, d scope.Document, ok bool) {
	for _, contentType := range []string{contentTypeFor(c.r.Header.Get("Accept")), typeJSON} {
		if identity, path, ok = c.s.cfg.Offline.Document(c.r, c.req, c.who(), contentType); !ok {
			continue
		}
		if d, ok, err := c.s.cfg.Store.Document(identity, path); ok && err == nil {
			return identity, path, d, true
		}
	}
	return "", "", scope.Document{}, false
}

// prefetched gives what is kept of a document of JSON, nil if nothing is.
func (s *Server) prefetched(ctx context.Context, path string) []byte {
	c, err := s.own(ctx, path, typeJSON)
	if err != nil {
		return nil
	}
	_, _, d, _ := c.kept()
	raw, err := d.Plain()
	if err != nil {
		return nil
	}
	return raw
}

// prefetchOne asks for a document as a client would, and tells whether the link still stands.
func (s *Server) prefetchOne(ctx context.Context, path, accept string) bool {
	ctx, cancel := context.WithTimeout(ctx, relistTime)
	defer cancel()
	c, err := s.own(ctx, path, accept)
	if err != nil {
		return true
	}
	id, at, d, ok := c.kept()
	if ok && named(path) {
		s.cfg.Store.ConfirmDocument(id, at)
		return true
	}
	if d.ETag != "" {
		c.r.Header.Set("If-None-Match", d.ETag)
	}
	resp, err := s.cfg.Link.RoundTrip(c.r, true)
	if err != nil {
		return s.cfg.Link.State() == upstream.Online && ctx.Err() == nil
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotModified && resp.Header.Get("Content-Type") == "" {
		resp.Header.Set("Content-Type", d.ContentType)
	}
	if t := c.tap(resp); t != nil {
		b := bodyBuffers.Get().(*[bodyBuffer]byte)
		defer bodyBuffers.Put(b)
		_, err = io.CopyBuffer(tapWriter{t}, resp.Body, b[:])
		t.done(err == nil)
	}
	return true
}

// named tells whether a path names its content: under a hash there is never anything else.
func named(path string) bool { return strings.Contains(path, "?hash=") }

// contentTypeFor is what kube-apiserver answers with to an Accept of ours.
func contentTypeFor(accept string) string {
	if accept == aggregated {
		return "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
	}
	return accept
}

// groupPaths gives the paths of all groups' versions from an APIGroupList.
func groupPaths(raw []byte) []string {
	var list struct {
		Groups []struct {
			Versions []struct {
				GroupVersion string `json:"groupVersion"`
			} `json:"versions"`
		} `json:"groups"`
	}
	if json.Unmarshal(raw, &list) != nil {
		return nil
	}
	var out []string
	for _, g := range list.Groups {
		for _, v := range g.Versions {
			out = append(out, "/apis/"+v.GroupVersion)
		}
	}
	return out
}

// openAPIPaths gives the documents that /openapi/v3 names.
func openAPIPaths(raw []byte) []string {
	var index struct {
		Paths map[string]struct {
			URL string `json:"serverRelativeURL"`
		} `json:"paths"`
	}
	if json.Unmarshal(raw, &index) != nil {
		return nil
	}
	var out []string
	for _, p := range index.Paths {
		out = append(out, p.URL)
	}
	return out
}
