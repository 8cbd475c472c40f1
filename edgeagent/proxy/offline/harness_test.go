package offline_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"go.uber.org/goleak"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/offline"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/outbox"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/rewrite"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

const (
	nodeName = "n1"
	nodeUser = "system:node:n1"
)

var (
	podsResource    = scope.Resource{Version: "v1", Resource: "pods"}
	nodesResource   = scope.Resource{Version: "v1", Resource: "nodes"}
	secretsResource = scope.Resource{Version: "v1", Resource: "secrets"}
	slicesResource  = scope.Resource{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"}
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a cache in memory whose disk can be made to fail.
type memory struct {
	mu        sync.Mutex
	infos     map[scope.Key]scope.Info
	items     map[scope.Key][]scope.Item
	documents map[string]scope.Document
	tokens    map[string][]byte
	queue     map[string]map[string]scope.Queued
	seq       uint64
	// broken fails reads of a resource, damaged those of one scope, full fails Enqueue.
	broken  string
	damaged scope.Key
	full    bool
	writes  int
}

func newMemory() *memory {
	return &memory{infos: map[scope.Key]scope.Info{}, items: map[scope.Key][]scope.Item{}, documents: map[string]scope.Document{},
		tokens: map[string][]byte{}, queue: map[string]map[string]scope.Queued{}}
}

var errDisk = errors.New("the disk is on fire")

func (m *memory) replace(key scope.Key, list, version string, items ...scope.Item) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.infos[key] = scope.Info{Key: key, Kind: scope.Kind{APIVersion: key.Resource.GroupVersion(), Kind: list}, Version: version, Read: epoch, Items: len(items)}
	m.items[key] = items
}

func (m *memory) Scopes(identity string, r scope.Resource) (out []scope.Info) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, i := range m.infos {
		if k.Identity == identity && k.Resource == r {
			out = append(out, i)
		}
	}
	return out
}

func (m *memory) Read(key scope.Key, use func(scope.Info, iter.Seq2[scope.Item, error]) error) error {
	m.mu.Lock()
	info, items, broken := m.infos[key], m.items[key], m.broken == key.Resource.Resource
	m.mu.Unlock()
	if broken {
		return errDisk
	}
	return use(info, func(yield func(scope.Item, error) bool) {
		for _, item := range items {
			if !yield(item, nil) {
				return
			}
		}
	})
}

func (m *memory) Get(key scope.Key, namespace, name string) (scope.Item, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken == key.Resource.Resource || m.damaged == key {
		return scope.Item{}, false, errDisk
	}
	for _, item := range m.items[key] {
		if item.Namespace == namespace && item.Name == name {
			return item, true, nil
		}
	}
	return scope.Item{}, false, nil
}

func (m *memory) Document(identity, path string) (scope.Document, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.documents[identity+" "+path]
	return d, ok, nil
}

func (m *memory) PutDocument(identity, path string, d scope.Document) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.documents[identity+" "+path] = d
}

func (m *memory) Token(key string) ([]byte, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	raw, ok := m.tokens[key]
	return raw, ok, nil
}

func (m *memory) PutToken(key string, raw []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tokens[key] = raw
}

func (m *memory) Enqueue(_ context.Context, bucket, key string, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.full {
		return errDisk
	}
	m.seq++
	m.writes++
	if m.queue[bucket] == nil {
		m.queue[bucket] = map[string]scope.Queued{}
	}
	m.queue[bucket][key] = scope.Queued{Key: key, Value: value, Seq: m.seq}
	return nil
}

func (m *memory) Pending(bucket string) iter.Seq2[scope.Queued, error] {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := slices.SortedFunc(maps.Values(m.queue[bucket]), func(a, b scope.Queued) int { return int(a.Seq) - int(b.Seq) })
	return func(yield func(scope.Queued, error) bool) {
		for _, q := range all {
			if !yield(q, nil) {
				return
			}
		}
	}
}

func (m *memory) Waiting(bucket, key string) (scope.Queued, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	q, ok := m.queue[bucket][key]
	return q, ok, nil
}

func (m *memory) Done(bucket, key string, seq uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.queue[bucket][key].Seq == seq {
		delete(m.queue[bucket], key)
	}
}

var epoch = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// site is a proxy that is offline, with a server in front of it.
type site struct {
	*memory
	handler  *offline.Handler
	outbox   *outbox.Outbox
	rewriter *rewrite.Rewriter
	server   *httptest.Server

	asked struct {
		sync.Mutex
		queries []string
	}
}

type option func(*offline.Config)

func newSite(t testing.TB, options ...option) *site {
	t.Helper()
	return siteOn(t, newMemory(), options...)
}

// siteOn starts a proxy on what an earlier one left.
func siteOn(t testing.TB, m *memory, options ...option) *site {
	t.Helper()
	s := &site{memory: m}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	var err error
	if s.outbox, err = outbox.New(outbox.Config{Store: s.memory, Log: log, Now: time.Now}); err != nil {
		t.Fatal(err)
	}
	s.rewriter = rewrite.New(rewrite.Config{Node: nodeName})
	cfg := offline.Config{
		Node: nodeName, Store: s.memory, Outbox: s.outbox, Rewriter: s.rewriter, Log: log,
		Now:    func() time.Time { return epoch.Add(90 * time.Second) },
		Spread: 50 * time.Millisecond, Bookmarks: 50 * time.Millisecond,
	}
	for _, o := range options {
		o(&cfg)
	}
	s.handler = offline.New(cfg)
	s.server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.server.EnableHTTP2 = true
	s.server.StartTLS()
	t.Cleanup(func() {
		s.handler.Online() // watches end
		s.server.CloseClientConnections()
		s.server.Close()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
	return s
}

// serve is what the proxy's server does before it asks package offline. The bearer token is the caller's name.
func (s *site) serve(w http.ResponseWriter, r *http.Request) {
	req, err := request.Parse(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.asked.Lock()
	s.asked.queries = append(s.asked.queries, r.URL.RawQuery)
	s.asked.Unlock()
	name := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	s.handler.Serve(w, r, req, offline.Caller{Name: name, Node: name == nodeUser, Impersonates: r.Header.Get("Impersonate-User") != ""})
}

// wasAsked counts the queries so far that have all these parts.
func (s *site) wasAsked(parts ...string) int {
	s.asked.Lock()
	defer s.asked.Unlock()
	n := 0
	for _, query := range s.asked.queries {
		if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(query, part) }) {
			n++
		}
	}
	return n
}

// config is a client's, as the kubelet has it: protobuf first.
func (s *site) config(user string) *rest.Config {
	return &rest.Config{
		Host: s.server.URL, BearerToken: user, QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{CAData: pemOf(s.server)},
		ContentConfig:   rest.ContentConfig{AcceptContentTypes: "application/vnd.kubernetes.protobuf,application/json", ContentType: "application/vnd.kubernetes.protobuf"},
	}
}

func (s *site) client(t testing.TB, user string) kubernetes.Interface {
	t.Helper()
	c := s.config(user)
	httpClient, err := rest.HTTPClientFor(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(httpClient.CloseIdleConnections)
	clientset, err := kubernetes.NewForConfigAndClient(c, httpClient)
	if err != nil {
		t.Fatal(err)
	}
	return clientset
}

// ask sends one request by hand.
func (s *site) ask(t testing.TB, user, method, path string, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.server.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+user)
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := s.server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(raw)
}

// item makes what the cache has of an object that was read in protobuf, or in JSON where it has no protobuf.
func item(t testing.TB, object runtime.Object, apiVersion, kind string) scope.Item {
	t.Helper()
	accessor, err := meta.Accessor(object)
	if err != nil {
		t.Fatal(err)
	}
	it := scope.Item{Namespace: accessor.GetNamespace(), Name: accessor.GetName(), UID: string(accessor.GetUID()),
		Version: accessor.GetResourceVersion(), APIVersion: apiVersion, Kind: kind}
	if proto, ok := object.(interface{ Marshal() ([]byte, error) }); ok {
		it.Encoding = scope.Protobuf
		it.Raw, err = proto.Marshal()
	} else {
		it.Encoding = scope.JSON
		it.Raw, err = json.Marshal(object)
	}
	if err != nil {
		t.Fatal(err)
	}
	read, err := wire.Inner(it.Encoding, apiVersion, kind, it.Raw)
	if err != nil {
		t.Fatal(err)
	}
	if read.Name != it.Name || read.UID != it.UID {
		t.Fatalf("read %+v, want %+v", read, it)
	}
	return it
}

func podOf(namespace, name, version string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("uid-" + name), ResourceVersion: version, Labels: map[string]string{"app": name}},
		Spec:       corev1.PodSpec{NodeName: nodeName, Containers: []corev1.Container{{Name: "main", Image: "example.com/main:1"}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, QOSClass: corev1.PodQOSBestEffort, PodIP: "10.0.0.5", PodIPs: []corev1.PodIP{{IP: "10.0.0.5"}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(epoch)}}},
	}
	for _, c := range change {
		c(p)
	}
	return p
}

func nodeOf(version string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: nodeName, UID: "uid-n1", ResourceVersion: version, Labels: map[string]string{"kubernetes.io/hostname": nodeName}},
		Spec:       corev1.NodeSpec{PodCIDR: "10.0.0.0/24"},
		Status: corev1.NodeStatus{
			Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}},
			Conditions: []corev1.NodeCondition{
				{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: metav1.NewTime(epoch), LastTransitionTime: metav1.NewTime(epoch)},
				{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionFalse, Reason: "RouteCreated", LastTransitionTime: metav1.NewTime(epoch)},
			},
		},
	}
}

func secretOf(namespace, name, version string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("uid-" + name), ResourceVersion: version},
		Data: map[string][]byte{"password": []byte("hunter2")}}
}

// boot fills the cache with what a kubelet reads at start.
func (s *site) boot(t testing.TB) {
	t.Helper()
	s.replace(scope.Key{Identity: nodeUser, Resource: nodesResource, Fields: "metadata.name=" + nodeName}, "NodeList", "120", item(t, nodeOf("110"), "v1", "Node"))
	s.replace(scope.Key{Identity: nodeUser, Resource: podsResource, Fields: "spec.nodeName=" + nodeName}, "PodList", "130",
		item(t, podOf("default", "web", "100"), "v1", "Pod"), item(t, podOf("kube-system", "dns", "101"), "v1", "Pod"))
	s.replace(scope.Key{Identity: nodeUser, Resource: secretsResource, Namespace: "default", Fields: "metadata.name=db"}, "SecretList", "90",
		item(t, secretOf("default", "db", "80"), "v1", "Secret"))
}

// eventually polls until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("after 15 s still not: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
