package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/identity"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/upstream"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// maxDocument bounds an answer that is kept whole. The largest that Kubernetes has, /openapi/v2, has 4 MiB.
const maxDocument = 16 << 20

// docTap keeps an answer whole.
type docTap struct {
	s              *Server
	identity, path string
	contentType    string
	etag           string
	share          share
	body           bytes.Buffer
	err            error
}

// document gives a tap if the answer is kept whole: discovery and the like for everyone, a Table for who asked for it. One that did
// not change is confirmed.
func (c *call) document(resp *http.Response) tap {
	if c.req.Resourceful() && !c.s.keeps(c.req.Resource) || !c.caller.Node && !c.common() {
		return nil
	}
	id, path, ok := c.s.cfg.Offline.Document(c.r, c.req, c.who(), resp.Header.Get("Content-Type"))
	switch {
	case !ok:
		return nil
	case resp.StatusCode == http.StatusNotModified:
		c.s.confirm(id, path)
		return nil
	case resp.StatusCode != http.StatusOK:
		return nil
	}
	t := &docTap{
		s: c.s, identity: id, path: path, contentType: resp.Header.Get("Content-Type"), etag: resp.Header.Get("ETag"),
		share: share{budget: &c.s.budget},
	}
	if resp.ContentLength > 0 && resp.Header.Get("Content-Encoding") == "" {
		t.body.Grow(int(min(resp.ContentLength, maxDocument)))
	}
	return unzipped(resp, t)
}

// common tells whether a request is one that everyone sends alike. A pod could make up any number of others, and fill the cache.
func (c *call) common() bool {
	q := c.r.URL.Query()
	q.Del("timeout") // kubectl's, which is no part of the name that a document is kept under
	return !c.req.Resourceful() && (len(q) == 0 || len(q) == 1 && q.Has("hash"))
}

// confirm says that a document is as upstream has it.
func (s *Server) confirm(identity, path string) {
	if d, ok, err := s.cfg.Store.Document(identity, path); ok && err == nil {
		d.Read = s.cfg.Now()
		s.cfg.Store.PutDocument(identity, path, d)
	}
}

func (t *docTap) take(p []byte) {
	if t.err != nil {
		return
	}
	if t.body.Len()+len(p) > maxDocument {
		t.err = wire.ErrTooLarge
	} else {
		t.err = t.share.add(len(p))
	}
	if t.err == nil {
		t.body.Write(p)
	}
}

func (t *docTap) between() bool { return false }

func (t *docTap) done(whole bool) {
	defer t.share.free()
	switch {
	case !whole:
	case t.err != nil:
		t.s.unkept(scope.Key{Identity: t.identity, Resource: scope.Resource{Resource: t.path}}, t.err)
	default:
		t.s.cfg.Store.PutDocument(t.identity, t.path, scope.Document{
			ContentType: t.contentType, ETag: t.etag, Body: t.body.Bytes(), Read: t.s.cfg.Now(), // nobody writes to it any more
		})
	}
}

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

// prefetchAll asks for all documents once, one after the other.
func (s *Server) prefetchAll(ctx context.Context) bool {
	type wanted struct{ path, accept string }
	todo := []wanted{{"/version", typeJSON}}
	for _, root := range []string{"/api", "/apis"} {
		todo = append(todo, wanted{root, aggregated}, wanted{root, typeJSON})
	}
	for _, d := range todo {
		if _, ok := s.prefetchOne(ctx, d.path, d.accept); !ok {
			return false
		}
	}
	groups, _ := s.prefetchOne(ctx, "/apis", typeJSON)
	paths := append([]string{"/api/v1"}, groupPaths(groups)...)
	for _, path := range paths {
		if _, ok := s.prefetchOne(ctx, path, typeJSON); !ok {
			return false
		}
	}
	index, ok := s.prefetchOne(ctx, "/openapi/v3", typeJSON)
	for _, path := range openAPIPaths(index) {
		if _, ok := s.prefetchOne(ctx, path, typeJSON); !ok {
			return false
		}
	}
	_, ok2 := s.prefetchOne(ctx, "/openapi/v2", openAPI2)
	return ok && ok2
}

// prefetchOne asks for a document as a client would. It gives the body if it was sent, and whether the link still stands.
func (s *Server) prefetchOne(ctx context.Context, path, accept string) ([]byte, bool) {
	ctx, cancel := context.WithTimeout(ctx, relistTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, true
	}
	r.Header.Set("Accept", accept)
	r.Header.Set("User-Agent", "holdfast-proxy")
	c := &call{s: s, r: r, caller: identity.Caller{Name: s.node(), Node: true}}
	c.req, c.err = request.Parse(r)
	var kept scope.Document
	for _, contentType := range []string{contentTypeFor(accept), typeJSON} {
		if id, at, ok := s.cfg.Offline.Document(r, c.req, c.who(), contentType); ok {
			if d, ok, err := s.cfg.Store.Document(id, at); err == nil && ok && d.ETag != "" {
				kept = d
				r.Header.Set("If-None-Match", d.ETag)
				break
			}
		}
	}
	resp, err := s.cfg.Link.RoundTrip(r, true)
	if err != nil {
		return nil, s.cfg.Link.State() == upstream.Online && ctx.Err() == nil
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotModified && resp.Header.Get("Content-Type") == "" {
		resp.Header.Set("Content-Type", kept.ContentType)
	}
	t, ok := c.tap(resp).(*docTap)
	if !ok {
		return kept.Body, true
	}
	_, err = io.Copy(tapWriter{t}, resp.Body)
	t.done(err == nil)
	return t.body.Bytes(), true
}

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
