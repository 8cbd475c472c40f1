package proxy_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/identity"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/offline"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/upstream"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/upstream/upstreamtest"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const nodeName = "system:node:n1"

// linkPatience is long, so that a busy machine is not taken for a link that is down. Times are tested in package upstream.
const linkPatience = 3 * time.Second

// store is a cache in memory, with the real one's rules.
type store struct {
	mu     sync.Mutex
	scopes map[scope.Key]*kept
	docs   map[string]scope.Document
	log    []string
}

type kept struct {
	info  scope.Info
	items map[string]scope.Item
}

func newStore() *store {
	return &store{scopes: map[scope.Key]*kept{}, docs: map[string]scope.Document{}}
}

func (s *store) note(format string, args ...any) { s.log = append(s.log, fmt.Sprintf(format, args...)) }

func (s *store) Replace(key scope.Key, kind scope.Kind, version string, items []scope.Item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := &kept{info: scope.Info{Key: key, Kind: kind, Version: version, Read: time.Now(), Items: len(items)}, items: map[string]scope.Item{}}
	for _, item := range items {
		k.items[item.Namespace+"/"+item.Name] = item
	}
	s.scopes[key] = k
	s.note("replace %s %s %d", key.Resource.Resource, version, len(items))
}

func (s *store) Apply(key scope.Key, version string, events []scope.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.scopes[key]
	if k == nil || k.info.Dirty != "" {
		return
	}
	for _, e := range events {
		if older, _ := scope.Older(k.info.Version, e.Item.Version); !older {
			continue
		}
		at := e.Item.Namespace + "/" + e.Item.Name
		if e.Deleted {
			delete(k.items, at)
		} else {
			k.items[at] = e.Item
		}
		k.info.Version = e.Item.Version
	}
	if older, _ := scope.Older(k.info.Version, version); older {
		k.info.Version = version
	}
	k.info.Read = time.Now()
}

func (s *store) Advance(key scope.Key, version string) { s.Apply(key, version, nil) }

func (s *store) Put(key scope.Key, item scope.Item) {
	s.Replace(key, scope.Kind{APIVersion: item.APIVersion, Kind: item.Kind}, item.Version, []scope.Item{item})
}

func (s *store) Forget(key scope.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.scopes, key)
	s.note("forget %s %s", key.Resource.Resource, key.Name)
}

func (s *store) Drop(identity string, r scope.Resource, namespace string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.scopes {
		if key.Identity == identity && key.Resource == r && key.Namespace == namespace {
			delete(s.scopes, key)
		}
	}
	s.note("drop %s %s", r.Resource, namespace)
}

func (s *store) Dirty(key scope.Key, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.scopes[key]; k != nil {
		k.info.Dirty = why
	}
	s.note("dirty %s", key.Resource.Resource)
}

func (s *store) Info(key scope.Key) (scope.Info, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.scopes[key]; k != nil {
		return k.info, true
	}
	return scope.Info{}, false
}

func (s *store) Scopes(identity string, r scope.Resource) (out []scope.Info) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, k := range s.scopes {
		if (identity == "" || key.Identity == identity) && (r == scope.Resource{} || r == key.Resource) {
			out = append(out, k.info)
		}
	}
	return out
}

func (s *store) Document(identity, path string) (scope.Document, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.docs[identity+" "+path]
	return d, ok, nil
}

func (s *store) PutDocument(identity, path string, d scope.Document) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.docs[identity+" "+path] = d
}

func (s *store) ConfirmDocument(identity, path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.docs[identity+" "+path]
	d.Read = time.Now()
	s.docs[identity+" "+path] = d
	s.note("confirm %s", path)
}

// names gives the names that a scope holds, in order, and its version.
func (s *store) names(key scope.Key) (version, names string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.scopes[key]
	if k == nil {
		return "", ""
	}
	var all []string
	for at := range k.items {
		all = append(all, at)
	}
	slices.Sort(all)
	version = k.info.Version
	if k.info.Dirty != "" {
		version += " dirty"
	}
	return version, strings.Join(all, " ")
}

// answerer says who asked for what.
type answerer struct {
	mu       sync.Mutex
	memories []offline.Exchange
	states   []string
}

func (a *answerer) Serve(w http.ResponseWriter, r *http.Request, req request.Request, c offline.Caller) {
	w.Header().Set("Warning", `299 - "holdfast: offline"`)
	fmt.Fprintf(w, "offline %s %s for %s", req.Verb, req.Path, c.Name)
}

func (a *answerer) note(s string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.states = append(a.states, s)
}

func (a *answerer) Online()  { a.note("online") }
func (a *answerer) Offline() { a.note("offline") }

func (a *answerer) Remembers(req request.Request) bool { return req.Subresource == "token" }

func (a *answerer) Remember(_ request.Request, _ offline.Caller, e offline.Exchange) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.memories = append(a.memories, e)
}

func (a *answerer) Document(r *http.Request, req request.Request, c offline.Caller, contentType string) (string, string, bool) {
	if req.Resourceful() {
		return c.Name, r.URL.String(), strings.Contains(contentType, "as=Table")
	}
	return "", r.URL.Path + " " + contentType, strings.HasPrefix(r.URL.Path, "/api") || strings.HasPrefix(r.URL.Path, "/openapi") || r.URL.Path == "/version"
}

func (a *answerer) Hold(request.Request, offline.Caller) func(int) { return func(int) {} }
func (a *answerer) Run(ctx context.Context) error                  { <-ctx.Done(); return nil }

// authenticator is the real one but for signatures.
type authenticator struct {
	*identity.Authenticator
	forged func(token string) bool
}

func (a *authenticator) Verify(_ context.Context, c identity.Caller) error {
	if a.forged != nil && a.forged(c.Token) {
		return &identity.Unauthenticated{Why: "the signature is wrong"}
	}
	return nil
}

// pod gives a token that says it is a service account's.
func pod(name string) string {
	part := func(v any) string {
		raw, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(raw)
	}
	const now = 1_800_000_000
	return part(map[string]string{"alg": "RS256", "kid": "k"}) + "." + part(map[string]any{
		"iss": "https://kubernetes.default.svc", "sub": "system:serviceaccount:default:" + name, "aud": []string{"https://kubernetes.default.svc"},
		"exp": now + 1<<31, "iat": now, "nbf": now,
		"kubernetes.io": map[string]any{"namespace": "default", "serviceaccount": map[string]string{"name": name, "uid": "u"}},
	}) + "." + base64.RawURLEncoding.EncodeToString([]byte("signature"))
}

func podName(name string) string {
	return "system:serviceaccount:default:" + name + "@https://kubernetes.default.svc"
}

// site is a proxy between clients and an API server.
type site struct {
	*proxy.Server
	tb       testing.TB
	api      *upstreamtest.API
	ca       *upstreamtest.Authority
	link     *upstream.Link
	store    *store
	answerer *answerer
	auth     *authenticator
	url      string
	nodeCert *tls.Certificate
}

// start gives a running proxy before an API server. change may alter its configuration.
func start(tb testing.TB, api http.Handler, change func(*proxy.Config)) *site {
	tb.Helper()
	s := &site{tb: tb, ca: upstreamtest.NewAuthority(tb), store: newStore(), answerer: &answerer{}}
	s.api = upstreamtest.NewAPI(tb, s.ca, api)
	s.nodeCert = s.ca.Issue(nodeName, "system:nodes")
	server := s.api.URL()
	if _, ok := tb.(*testing.B); ok {
		server = s.api.Direct() // the cable takes time
	}
	var err error
	s.link, err = upstream.New(upstream.Config{
		Servers: []string{server}, CA: s.ca.Pool, Certificate: func() (*tls.Certificate, error) { return s.nodeCert, nil },
		Race: linkPatience, Idle: linkPatience / 2, Timeout: linkPatience, Retry: 100 * time.Millisecond,
	})
	if err != nil {
		tb.Fatal(err)
	}
	s.auth = &authenticator{Authenticator: identity.New(identity.Config{
		Node: "n1", ClientCAs: s.ca.Pool, Now: time.Now, Document: func(string) []byte { return nil },
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	s.url = "https://" + l.Addr().String()
	cfg := proxy.Config{
		Node: "n1", Listeners: []proxy.Listener{{Listener: l}}, Link: s.link, Authenticator: s.auth, Store: s.store, Offline: s.answerer,
		TLS:    &tls.Config{Certificates: []tls.Certificate{*s.ca.Issue("127.0.0.1")}, ClientAuth: tls.RequestClientCert},
		Spread: 20 * time.Millisecond,
	}
	if change != nil {
		change(&cfg)
	}
	if s.Server, err = proxy.New(cfg); err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.link.Run(ctx) })
	wg.Go(func() {
		if err := s.Run(ctx); err != nil {
			tb.Error(err)
		}
	})
	tb.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return s
}

// client gives an HTTP client: with the node's certificate, or without any.
func (s *site) client(node bool, change ...func(*http.Transport)) *http.Client {
	conf := &tls.Config{RootCAs: s.ca.Pool}
	if node {
		conf.Certificates = []tls.Certificate{*s.nodeCert}
	}
	t := &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true, DisableCompression: true}
	for _, f := range change {
		f(t)
	}
	s.tb.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t}
}

// http1 makes a client speak HTTP/1.1.
func http1(t *http.Transport) {
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
}

// do sends a request. Headers are name, value, …
func (s *site) do(c *http.Client, method, path, body string, headers ...string) (*http.Response, string) {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.tb.Fatal(err)
	}
	if body == "" {
		req.Body = http.NoBody
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		s.tb.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		s.tb.Fatalf("%s %s: read answer: %v", method, path, err)
	}
	return resp, string(raw)
}

// eventually waits for a condition.
func eventually(tb testing.TB, d time.Duration, what string, ok func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(d); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("not within %v: %s", d, what)
		}
	}
}
