package offline_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/offline"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// TestReflector runs the kubelet's pod source: a reflector with client-go's defaults, which are WatchList streams.
func TestReflector(t *testing.T) {
	s := newSite(t)
	s.boot(t)
	client := s.client(t, nodeUser)
	store := cache.NewStore(cache.MetaNamespaceKeyFunc)
	lw := cache.NewListWatchFromClient(client.CoreV1().RESTClient(), "pods", metav1.NamespaceAll, fields.OneTermEqualSelector("spec.nodeName", nodeName))
	reflector := cache.NewReflector(lw, &corev1.Pod{}, store, 0)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); reflector.RunWithContext(ctx) }()
	defer func() { cancel(); <-done }()
	eventually(t, "the reflector has both pods", func() bool { return len(store.ListKeys()) == 2 && reflector.LastSyncResourceVersion() == "130" })

	// The link comes back and goes again: the reflector resumes from what it knows, and loses nothing.
	for range 3 {
		s.handler.Online()
		s.handler.Offline()
	}
	// What upstream said in between is newer: a watch from an older version is told to list again.
	s.replace(scope.Key{Identity: nodeUser, Resource: podsResource, Fields: "spec.nodeName=" + nodeName}, "PodList", "140",
		item(t, podOf("default", "web", "139"), "v1", "Pod"))
	s.handler.Online()
	s.handler.Offline()
	eventually(t, "the reflector has listed again and dropped the ghost", func() bool {
		return len(store.ListKeys()) == 1 && reflector.LastSyncResourceVersion() == "140"
	})
	// The cache falls behind the client: nothing older is shown as if it were current.
	s.replace(scope.Key{Identity: nodeUser, Resource: podsResource, Fields: "spec.nodeName=" + nodeName}, "PodList", "120")
	watches := s.wasAsked("watch=true", "resourceVersion=140")
	s.handler.Online()
	s.handler.Offline()
	eventually(t, "the reflector has resumed from what it knows, twice", func() bool {
		if s.wasAsked("watch=true", "resourceVersion=140") >= watches+2 {
			return true
		}
		s.handler.Online()
		s.handler.Offline()
		return false
	})
	if len(store.ListKeys()) != 1 || reflector.LastSyncResourceVersion() != "140" {
		t.Fatalf("the reflector went back to %s with %v", reflector.LastSyncResourceVersion(), store.ListKeys())
	}
}

// TestStatusesReachInformers: what the kubelet writes offline comes back on its watches, as it would from upstream.
func TestStatusesReachInformers(t *testing.T) {
	s := newSite(t)
	s.boot(t)
	client := s.client(t, nodeUser)
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = "metadata.name=" + nodeName
	}))
	nodes := factory.Core().V1().Nodes()
	nodes.Informer()
	ctx, cancel := context.WithCancel(t.Context())
	factory.StartWithContext(ctx)
	defer factory.Shutdown()
	defer cancel()
	for kind, ok := range factory.WaitForCacheSync(ctx.Done()) {
		if !ok {
			t.Fatalf("%v does not sync", kind)
		}
	}
	patch := `{"status":{"conditions":[{"type":"Ready","status":"False","reason":"KubeletNotReady","message":"starting"}],"nodeInfo":{"bootID":"second"}}}`
	got, err := client.CoreV1().Nodes().Patch(ctx, nodeName, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "status")
	if err != nil || got.Status.NodeInfo.BootID != "second" || got.ResourceVersion != "110" {
		t.Fatalf("patch: %v, %v", got, err)
	}
	eventually(t, "the informer has the new status", func() bool {
		node, err := nodes.Lister().Get(nodeName)
		return err == nil && node.Status.NodeInfo.BootID == "second" && node.Spec.PodCIDR == "10.0.0.0/24"
	})
	// The node's own version is older than what the informer knows: it must not resume from there.
	eventually(t, "the informer is at the version it was at", func() bool { return nodes.Informer().LastSyncResourceVersion() == "120" })
}

// TestMovedPods: an informer of EndpointSlices notices that a local pod has a new address.
func TestMovedPods(t *testing.T) {
	s := newSite(t)
	s.boot(t)
	yes := true
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: "web-1", UID: "uid-slice", ResourceVersion: "70", Labels: map[string]string{"kubernetes.io/service-name": "web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.5"}, Conditions: discoveryv1.EndpointConditions{Ready: &yes},
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "web", UID: "uid-web"}}},
	}
	other := slice.DeepCopy()
	other.Name, other.UID, other.Endpoints[0].TargetRef.UID = "other-1", "uid-other", "uid-elsewhere"
	s.replace(scope.Key{Identity: nodeUser, Resource: slicesResource}, "EndpointSliceList", "125",
		item(t, slice, "discovery.k8s.io/v1", "EndpointSlice"), item(t, other, "discovery.k8s.io/v1", "EndpointSlice"))
	client := s.client(t, nodeUser)
	factory := informers.NewSharedInformerFactory(client, 0)
	endpoints := factory.Discovery().V1().EndpointSlices()
	seen := &recorder{}
	if _, err := endpoints.Informer().AddEventHandler(seen); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	factory.StartWithContext(ctx)
	defer factory.Shutdown()
	defer cancel()
	factory.WaitForCacheSync(ctx.Done())
	eventually(t, "both slices were seen", func() bool { return len(seen.all()) == 2 })

	moved := `{"metadata":{"uid":"uid-web"},"status":{"podIP":"10.0.0.9","podIPs":[{"ip":"10.0.0.9"},{"ip":"10.0.0.5","$patch":"delete"}],"$setElementOrder/podIPs":[{"ip":"10.0.0.9"}]}}`
	if _, err := client.CoreV1().Pods("default").Patch(ctx, "web", types.StrategicMergePatchType, []byte(moved), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the informer's handlers were told", func() bool { return len(seen.all()) == 4 })
	if got := strings.Join(seen.all()[2:], " "); got != "delete web-1 10.0.0.9 add web-1 10.0.0.9" {
		t.Fatalf("handlers were told: %s", got)
	}
	// A restart of the proxy forgets nothing.
	again := siteOn(t, s.memory)
	slices, err := again.client(t, nodeUser).DiscoveryV1().EndpointSlices("default").List(ctx, metav1.ListOptions{})
	if err != nil || slices.Items[1].Endpoints[0].Addresses[0] != "10.0.0.5" || slices.Items[0].Endpoints[0].Addresses[0] != "10.0.0.9" {
		t.Fatalf("after a restart: %v, %v", slices, err)
	}
}

// recorder writes down what a handler is told.
type recorder struct {
	mu    sync.Mutex
	lines []string
}

func (r *recorder) note(what string, o any) {
	if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = gone.Obj
	}
	slice := o.(*discoveryv1.EndpointSlice)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintf("%s %s %s", what, slice.Name, slice.Endpoints[0].Addresses[0]))
}

func (r *recorder) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.lines...)
}

func (r *recorder) OnAdd(o any, _ bool) { r.note("add", o) }
func (r *recorder) OnUpdate(_, o any)   { r.note("update", o) }
func (r *recorder) OnDelete(o any)      { r.note("delete", o) }

// stream reads a watch line by line.
func (s *site) stream(t *testing.T, path string) (next func() map[string]any, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", s.server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+nodeUser)
	resp, err := s.server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(resp.Body)
	return func() map[string]any {
			if !lines.Scan() {
				if err := lines.Err(); err != nil {
					t.Errorf("the watch ended badly: %v", err)
				}
				return nil
			}
			var frame map[string]any
			if err := json.Unmarshal(lines.Bytes(), &frame); err != nil {
				t.Fatalf("%s: %v", lines.Text(), err)
			}
			return frame
		}, func() {
			cancel()
			resp.Body.Close()
		}
}

func describe(frame map[string]any) string {
	object, _ := frame["object"].(map[string]any)
	metadata, _ := object["metadata"].(map[string]any)
	annotations, _ := metadata["annotations"].(map[string]any)
	text := fmt.Sprintf("%v %v %v", frame["type"], object["kind"], metadata["resourceVersion"])
	if annotations["k8s.io/initial-events-end"] == "true" {
		text += " end"
	}
	return text
}

func TestWatchFrames(t *testing.T) {
	s := newSite(t)
	s.boot(t)
	pods := "/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3D" + nodeName
	for _, test := range []struct {
		name, query string
		want        []string
	}{
		{"WatchList", "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true",
			[]string{"ADDED Pod 100", "ADDED Pod 101", "BOOKMARK Pod 130 end", "BOOKMARK Pod 130"}},
		{"WatchList from a version", "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&resourceVersion=120",
			[]string{"ADDED Pod 100", "ADDED Pod 101", "BOOKMARK Pod 130 end", "BOOKMARK Pod 130"}},
		{"from anything", "&resourceVersion=0", []string{"ADDED Pod 100", "ADDED Pod 101"}},
		{"from here", "&resourceVersion=130&allowWatchBookmarks=true", []string{"BOOKMARK Pod 130", "BOOKMARK Pod 130"}},
		{"from the future", "&resourceVersion=200&allowWatchBookmarks=true", []string{"BOOKMARK Pod 200", "BOOKMARK Pod 200"}},
		{"from the past", "&resourceVersion=10", []string{"ERROR Status <nil>", ""}},
		{"ends in time", "&resourceVersion=130&timeoutSeconds=1", []string{""}},
	} {
		t.Run(test.name, func(t *testing.T) {
			next, stop := s.stream(t, pods+test.query)
			defer stop()
			for i, want := range test.want {
				frame := next()
				if want == "" && frame == nil {
					continue
				}
				if got := describe(frame); got != want {
					t.Fatalf("frame %d: got %q, want %q", i, got, want)
				}
			}
		})
	}
	t.Run("what is older than the client knows is not sent", func(t *testing.T) {
		next, stop := s.stream(t, pods+"&resourceVersion=200&allowWatchBookmarks=true")
		defer stop()
		const patch = `{"status":{"message":"written here"}}`
		if resp, body := s.ask(t, nodeUser, "PATCH", "/api/v1/namespaces/default/pods/web/status", patch, "Content-Type", "application/merge-patch+json"); resp.StatusCode != 200 {
			t.Fatalf("patch: %d %s", resp.StatusCode, body)
		}
		for range 3 {
			if got := describe(next()); got != "BOOKMARK Pod 200" {
				t.Fatalf("got %q", got)
			}
		}
		up, stop := s.stream(t, pods+"&resourceVersion=130&allowWatchBookmarks=true")
		defer stop()
		if first, second := describe(up()), describe(up()); first != "MODIFIED Pod 100" || second != "BOOKMARK Pod 130" {
			t.Fatalf("who is up to date got %q, %q", first, second)
		}
	})
	t.Run("the link comes back", func(t *testing.T) {
		next, stop := s.stream(t, pods+"&resourceVersion=130")
		defer stop()
		s.handler.Online()
		if frame := next(); frame != nil {
			t.Fatalf("got %v, want the end", frame)
		}
	})
}

// TestManyWatches: two hundred Secrets, each with its own watch, cost the goroutines of their requests and nothing else.
func TestManyWatches(t *testing.T) {
	const n = 200
	s := newSite(t, func(c *offline.Config) { c.Bookmarks = time.Hour })
	for i := range n {
		name := fmt.Sprintf("secret-%d", i)
		s.replace(scope.Key{Identity: nodeUser, Resource: secretsResource, Namespace: "default", Fields: "metadata.name=" + name}, "SecretList", "90",
			item(t, secretOf("default", name, "80"), "v1", "Secret"))
	}
	c := s.client(t, nodeUser)
	before := runtime.NumGoroutine()
	for i := range n {
		w, err := c.CoreV1().Secrets("default").Watch(t.Context(), metav1.ListOptions{
			FieldSelector: fmt.Sprintf("metadata.name=secret-%d", i), ResourceVersion: "90", AllowWatchBookmarks: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
	}
	// One handler on the server, and two of client-go on this side.
	if grew := runtime.NumGoroutine() - before; grew > 3*n+20 {
		t.Errorf("%d watches have %d goroutines", n, grew)
	}
}
