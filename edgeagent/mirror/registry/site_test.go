package registry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/registry"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/upstream"
)

// source is a registry, in memory or a real one.
type source interface {
	manifest(ref oci.Reference, credential upstream.Credential) (mediaType string, raw []byte, err error)
	blob(ref oci.Reference, credential upstream.Credential) ([]byte, error)
	tags(ref oci.Reference, credential upstream.Credential) ([]string, error)
	referrers(ref oci.Reference, credential upstream.Credential) ([]oci.Descriptor, error)
}

// site is all that a Handler needs, in memory: the fleet's word, the way to one source, the store and what is kept.
type site struct {
	source source
	mu     sync.Mutex // guards what follows
	asked  []string
	now    time.Time
	store  map[oci.Digest][]byte
	pinned map[string]oci.Digest
	signed map[string]error // by repository: what the gate says
	// body replaces how blobs are read.
	body func(raw []byte, from int64) (io.ReadCloser, error)
	// linking, if not nil, is closed when a link is on disk.
	linking chan struct{}

	tagged    map[string]registry.Tag
	decisions map[string]registry.Decision
	links     map[string]bool
	refs      map[string][]oci.Descriptor
	writes    int   // to what is kept
	full      error // of all writes
	damaged   error // of all reads of links
	log       bytes.Buffer
	served    []registry.Request
}

func newSite(s source) *site {
	return &site{
		source: s, now: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC),
		store: map[oci.Digest][]byte{}, pinned: map[string]oci.Digest{}, signed: map[string]error{},
		tagged: map[string]registry.Tag{}, decisions: map[string]registry.Decision{}, links: map[string]bool{}, refs: map[string][]oci.Descriptor{},
	}
}

var key = bytes.Repeat([]byte{7}, 32)

func (s *site) config() registry.Config {
	return registry.Config{
		Fleet: s, Upstream: s, Content: s, Meta: meta{s}, Key: key,
		Log:    slog.New(slog.NewTextHandler(locked{s}, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Now:    func() time.Time { s.mu.Lock(); defer s.mu.Unlock(); return s.now },
		Served: func(r registry.Request) { s.mu.Lock(); defer s.mu.Unlock(); s.served = append(s.served, r) },
	}
}

type locked struct{ s *site }

func (l locked) Write(p []byte) (int, error) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	return l.s.log.Write(p)
}

// handler is a Handler that was just started: it remembers nothing but what is kept.
func (s *site) handler(t testing.TB) *registry.Handler {
	t.Helper()
	h, err := registry.New(s.config())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (s *site) pass(d time.Duration) { s.mu.Lock(); defer s.mu.Unlock(); s.now = s.now.Add(d) }

func (s *site) asks() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}

func (s *site) ask(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, fmt.Sprintf(format, args...))
}

// The fleet.

func (s *site) Declared(name string) bool {
	return name == "reg.example" || name == "other.example:5000"
}

func (s *site) Pinned(ref oci.Reference) (oci.Digest, bool) {
	d, ok := s.pinned[ref.String()]
	return d, ok
}

func (s *site) Verified(_ context.Context, ref oci.Reference) error { return s.signed[ref.Repository] }

// Upstream.

func (s *site) Head(ctx context.Context, ref oci.Reference, c upstream.Credential) (oci.Descriptor, error) {
	s.ask("HEAD %s as %q", ref, c.Username)
	mediaType, raw, err := s.source.manifest(ref, c)
	if err := errors.Join(err, ctx.Err()); err != nil {
		return oci.Descriptor{}, err
	}
	digest := ref.Digest
	if digest.IsZero() {
		digest = oci.SHA256.FromBytes(raw)
	}
	return oci.Descriptor{Digest: digest, MediaType: mediaType, Size: int64(len(raw))}, nil
}

func (s *site) HeadBlob(_ context.Context, ref oci.Reference, c upstream.Credential) (int64, error) {
	s.ask("HEAD blob %s as %q", ref, c.Username)
	raw, err := s.source.blob(ref, c)
	return int64(len(raw)), err
}

func (s *site) Tags(_ context.Context, ref oci.Reference, c upstream.Credential, after string, n int) ([]string, bool, error) {
	s.ask("tags %s/%s as %q", ref.Registry, ref.Repository, c.Username)
	tags, err := s.source.tags(ref, c)
	return page(tags, after, n, err)
}

func (s *site) Referrers(_ context.Context, ref oci.Reference, c upstream.Credential) ([]oci.Descriptor, error) {
	s.ask("referrers %s as %q", ref, c.Username)
	return s.source.referrers(ref, c)
}

func page(tags []string, after string, n int, err error) ([]string, bool, error) {
	slices.Sort(tags)
	tags = slices.DeleteFunc(tags, func(tag string) bool { return tag <= after })
	return tags[:min(n, len(tags))], len(tags) > n, err
}

// Content.

func (s *site) Manifest(_ context.Context, ref oci.Reference, c upstream.Credential) (registry.ManifestContent, error) {
	raw, proved, err := s.content(ref, "GET %s as %q", c, func() ([]byte, error) {
		_, raw, err := s.source.manifest(ref, c)
		return raw, err
	})
	if err != nil {
		return registry.ManifestContent{}, err
	}
	m, err := oci.ParseManifest("", raw)
	return registry.ManifestContent{MediaType: m.MediaType, Raw: raw, Proved: proved}, err
}

func (s *site) Blob(_ context.Context, ref oci.Reference, c upstream.Credential) (registry.BlobContent, error) {
	raw, proved, err := s.content(ref, "GET blob %s as %q", c, func() ([]byte, error) { return s.source.blob(ref, c) })
	open := func(_ context.Context, from int64) (io.ReadCloser, error) {
		if s.body != nil {
			return s.body(raw, from)
		}
		return io.NopCloser(bytes.NewReader(raw[from:])), nil
	}
	return registry.BlobContent{Size: int64(len(raw)), Proved: proved, Open: open}, err
}

func (s *site) content(ref oci.Reference, asking string, c upstream.Credential, fetch func() ([]byte, error)) (raw []byte, proved bool, err error) {
	s.mu.Lock()
	raw, ok := s.store[ref.Digest]
	s.mu.Unlock()
	if ok {
		return raw, false, nil
	}
	s.ask(asking, ref, c.Username)
	if raw, err = fetch(); err != nil {
		return nil, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store[ref.Digest] = raw
	return raw, true, nil
}

func (s *site) Stored(_ context.Context, digest oci.Digest) (int64, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	raw, ok := s.store[digest]
	return int64(len(raw)), ok, nil
}

// meta is what a site keeps.
type meta struct{ s *site }

func kept[T any](m meta, from map[string]T, key string) (T, error) {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	found, ok := from[key]
	if !ok {
		return found, registry.ErrNotKept
	}
	return found, nil
}

func keep[T any](m meta, in map[string]T, key string, value T) error {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	if m.s.full != nil {
		return m.s.full
	}
	m.s.writes++
	in[key] = value
	return nil
}

func (m meta) Tag(_ context.Context, ref oci.Reference) (registry.Tag, error) {
	return kept(m, m.s.tagged, ref.String())
}

func (m meta) SetTag(_ context.Context, ref oci.Reference, tag registry.Tag) error {
	return keep(m, m.s.tagged, ref.String(), tag)
}

func (m meta) Tags(_ context.Context, ref oci.Reference, after string, n int) ([]string, bool, error) {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	var tags []string
	for name := range maps.Keys(m.s.tagged) {
		if seen, err := oci.ParseReference(name); err == nil && seen.Registry == ref.Registry && seen.Repository == ref.Repository {
			tags = append(tags, seen.Tag)
		}
	}
	if tags == nil {
		return nil, false, registry.ErrNotKept
	}
	return page(tags, after, n, nil)
}

func decisionKey(ref oci.Reference, key registry.Key) string {
	return fmt.Sprintf("%s/%s %x", ref.Registry, ref.Repository, key[:])
}

func (m meta) Decision(_ context.Context, ref oci.Reference, key registry.Key) (registry.Decision, error) {
	return kept(m, m.s.decisions, decisionKey(ref, key))
}

func (m meta) SetDecision(_ context.Context, ref oci.Reference, key registry.Key, d registry.Decision) error {
	return keep(m, m.s.decisions, decisionKey(ref, key), d)
}

func (m meta) Linked(_ context.Context, ref oci.Reference) (bool, error) {
	if m.s.damaged != nil {
		return false, m.s.damaged
	}
	linked, _ := kept(m, m.s.links, ref.String())
	return linked, nil
}

func (m meta) Link(ctx context.Context, ref oci.Reference) error {
	if m.s.linking != nil {
		<-m.s.linking
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return keep(m, m.s.links, ref.String(), true)
}

func (m meta) Referrers(_ context.Context, ref oci.Reference) ([]oci.Descriptor, error) {
	return kept(m, m.s.refs, ref.String())
}

func (m meta) SetReferrers(_ context.Context, ref oci.Reference, found []oci.Descriptor) error {
	return keep(m, m.s.refs, ref.String(), found)
}

// fake is a registry in memory.
type fake struct {
	mu    sync.Mutex // guards what follows
	repos map[string]*repository
	fails error // of every answer
	hides bool  // says 404 of what is private
}

type repository struct {
	secret    string // of the user "alice"; "" is public
	tags      map[string]oci.Digest
	manifests map[oci.Digest][]byte
	blobs     map[oci.Digest][]byte
	referrers []oci.Descriptor
}

func fail(kind upstream.Kind) error {
	return &upstream.Error{Kind: kind, Registry: "reg.example", Doing: "ask", Err: fmt.Errorf("said so")}
}

func (f *fake) set(change func(f *fake)) { f.mu.Lock(); defer f.mu.Unlock(); change(f) }

func (f *fake) repo(ref oci.Reference, c upstream.Credential) (*repository, error) {
	if f.fails != nil {
		return nil, f.fails
	}
	r := f.repos[ref.Repository]
	switch {
	case r == nil:
		return nil, fail(upstream.NotFound)
	case r.secret == "" || c.Username == "alice" && c.Password == r.secret:
		return r, nil
	case f.hides:
		return nil, fail(upstream.NotFound)
	}
	return nil, fail(upstream.Unauthorized)
}

func (f *fake) manifest(ref oci.Reference, c upstream.Credential) (string, []byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, err := f.repo(ref, c)
	if err != nil {
		return "", nil, err
	}
	digest := ref.Digest
	if digest.IsZero() {
		digest = r.tags[ref.Tag]
	}
	raw, ok := r.manifests[digest]
	if !ok {
		return "", nil, fail(upstream.NotFound)
	}
	return oci.MediaTypeManifest, raw, nil
}

func (f *fake) blob(ref oci.Reference, c upstream.Credential) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, err := f.repo(ref, c)
	if err != nil {
		return nil, err
	}
	raw, ok := r.blobs[ref.Digest]
	if !ok {
		return nil, fail(upstream.NotFound)
	}
	return raw, nil
}

func (f *fake) tags(ref oci.Reference, c upstream.Credential) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, err := f.repo(ref, c)
	if err != nil {
		return nil, err
	}
	return slices.Collect(maps.Keys(r.tags)), nil
}

func (f *fake) referrers(ref oci.Reference, c upstream.Credential) ([]oci.Descriptor, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, err := f.repo(ref, c)
	if err != nil {
		return nil, err
	}
	return r.referrers, nil
}

// image is a repository with one image of one layer, tagged v1.
func image(secret, layer string) *repository {
	config := []byte(`{"of":"` + layer + `"}`)
	describe := func(raw []byte) oci.Descriptor {
		return oci.Descriptor{MediaType: "application/octet-stream", Digest: oci.SHA256.FromBytes(raw), Size: int64(len(raw))}
	}
	raw, _ := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeManifest, "config": describe(config), "layers": []oci.Descriptor{describe([]byte(layer))},
	})
	digest := oci.SHA256.FromBytes(raw)
	return &repository{
		secret: secret, tags: map[string]oci.Digest{"v1": digest}, manifests: map[oci.Digest][]byte{digest: raw},
		blobs: map[oci.Digest][]byte{oci.SHA256.FromBytes(config): config, oci.SHA256.FromBytes([]byte(layer)): []byte(layer)},
	}
}

// v1 is the digest of the image.
func (r *repository) v1() oci.Digest { return r.tags["v1"] }

func digestOf(s string) oci.Digest { return oci.SHA256.FromBytes([]byte(s)) }

// do sends a request to a Handler. The path is that below /v2/; headers are name, value, name, value.
func do(t testing.TB, h http.Handler, method, path string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "/v2/"+path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func as(user, password string) []string {
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(user, password)
	return []string{"Authorization", r.Header.Get("Authorization")}
}

// codeOf reads the code of an error, and checks that it is well-formed.
func codeOf(t testing.TB, w *httptest.ResponseRecorder) string {
	t.Helper()
	var body struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || len(body.Errors) != 1 || body.Errors[0].Message == "" || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("no error of the specification: %q, %v", w.Body, err)
		return ""
	}
	return body.Errors[0].Code
}
