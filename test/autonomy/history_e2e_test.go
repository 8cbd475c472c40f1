//go:build e2e

package autonomy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

// troubleTime is how long the link is cut and the agent killed. HOLDFAST_TEST_SEED repeats a run's choices.
const troubleTime = 45 * time.Second

// TestHistories records what clients through the proxy are told while objects change upstream, the link is cut and the agent is killed, at
// random points. Whatever a client is told is a state that there was, none of them goes back, and in the end all have what upstream has.
func TestHistories(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("HOLDFAST_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("HOLDFAST_TEST_SEED=%d", seed)
	h := &histories{callers: newCallers(t), random: rand.New(rand.NewPCG(seed, 1)), truth: map[string]*recorder{}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	h.startWriter(ctx, seed)
	h.startDirect(ctx)
	h.startThrough(ctx)
	h.trouble()
	h.converge()
	cancel()
	h.work.Wait()
	h.verdict()
}

// histories are what all clients were told.
type histories struct {
	*callers
	random *rand.Rand
	writer *writer
	work   sync.WaitGroup
	// truth is what a direct client of each resource was told; clients are those through the proxy.
	truth   map[string]*recorder
	clients []witness
	// restarts counts how often the agent was started anew; offline counts answers that were served offline.
	restarts, offline, listed, refused atomic.Int64

	mu    sync.Mutex // guards lists
	lists []witness
}

// witness is a recorder with the resource that it is about.
type witness struct {
	resource string
	*recorder
}

func (h *histories) startWriter(ctx context.Context, seed uint64) {
	h.Helper()
	cfg := h.direct()
	var err error
	h.writer, err = newWriter(cfg, rand.New(rand.NewPCG(seed, 2)))
	h.must(err)
	h.work.Go(func() {
		if err := h.writer.run(ctx); err != nil {
			h.Error(err)
		}
	})
	h.wrote(100)
}

// direct gives the administrator's configuration, straight to the API server by an address that is never cut.
func (h *histories) direct() *rest.Config {
	h.Helper()
	cfg, err := clientcmd.BuildConfigFromFlags("", h.lab.AdminKubeconfig())
	h.must(err)
	cfg.QPS = -1
	return cfg
}

// wrote waits until the writer wrote so often more. It is how time passes here.
func (h *histories) wrote(more int) {
	h.Helper()
	until := h.writer.writes.Load() + int64(more)
	h.within(time.Minute, func() error {
		if now := h.writer.writes.Load(); now < until {
			return fmt.Errorf("the writer stands at %d", now)
		}
		return nil
	})
}

func everything(version) bool { return true }

// startDirect starts a client of each resource, straight at the API server.
func (h *histories) startDirect(ctx context.Context) {
	h.Helper()
	cfg := h.direct()
	for _, resource := range []string{"configmaps", "secrets"} {
		h.truth[resource] = newRecorder("direct "+resource, everything)
		h.reflect(ctx, h.truth[resource], typedSource(h.core(cfg), resource, "shop", nil), nil)
	}
	h.truth["tills"] = newRecorder("direct tills", everything)
	h.reflect(ctx, h.truth["tills"], h.tillSource(cfg, nil), nil)
	h.within(time.Minute, func() error {
		for name, r := range h.truth {
			if r.reached() == 0 {
				return fmt.Errorf("the direct client of %s has nothing", name)
			}
		}
		return nil
	})
}

func (h *histories) core(cfg *rest.Config) rest.Interface {
	h.Helper()
	set, err := kubernetes.NewForConfig(cfg)
	h.must(err)
	return set.CoreV1().RESTClient()
}

// startThrough starts the clients through the proxy: both encodings, selectors, custom resources, one object, metadata alone.
func (h *histories) startThrough(ctx context.Context) {
	h.Helper()
	node, pod := h.counted(h.asNode()), h.counted(h.asPod(h.token("shop", "reader")))
	node.ContentType, node.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf+","+runtime.ContentTypeJSON
	left := func(v version) bool { return v.lane == "left" }
	named := func(name string) func(version) bool { return func(v version) bool { return v.name == name } }
	label := func(o *metav1.ListOptions) { o.LabelSelector = "lane=left" }
	field := func(selector string) func(*metav1.ListOptions) {
		return func(o *metav1.ListOptions) { o.FieldSelector = selector }
	}
	nodeCore, podCore := h.core(node), h.core(pod)
	for _, c := range []struct {
		name, resource string
		selects        func(version) bool
		source         cache.ListerWatcher
	}{
		{"protobuf", "configmaps", everything, typedSource(nodeCore, "configmaps", "shop", nil)},
		{"JSON", "configmaps", everything, typedSource(podCore, "configmaps", "shop", nil)},
		{"label, protobuf", "configmaps", left, typedSource(nodeCore, "configmaps", "shop", label)},
		{"label, JSON", "secrets", left, typedSource(podCore, "secrets", "shop", label)},
		{"field, protobuf", "secrets", func(v version) bool { return v.special }, typedSource(nodeCore, "secrets", "shop", field("type="+string(specialType)))},
		{"name, protobuf", "secrets", named("shop/o-1"), typedSource(nodeCore, "secrets", "shop", field("metadata.name=o-1"))},
		{"name, JSON", "configmaps", named("shop/o-7"), typedSource(podCore, "configmaps", "shop", field("metadata.name=o-7"))},
		{"custom", "tills", everything, h.tillSource(pod, nil)},
		{"custom, label", "tills", left, h.tillSource(node, label)},
		{"metadata", "configmaps", everything, h.metadataSource(pod)},
	} {
		r := newRecorder(c.name+" "+c.resource, c.selects)
		h.clients = append(h.clients, witness{c.resource, r})
		h.reflect(ctx, r, c.source, &wait.Backoff{Duration: 50 * time.Millisecond, Factor: 2, Jitter: 1, Steps: 4, Cap: 400 * time.Millisecond})
	}
	h.within(time.Minute, func() error {
		for _, c := range h.clients {
			if c.reached() == 0 {
				return fmt.Errorf("the client %s has nothing", c.name)
			}
		}
		return nil
	})
	h.work.Go(func() {
		h.list(ctx, "protobuf", "configmaps", everything, typedSource(nodeCore, "configmaps", "shop", nil), 0)
	})
	h.work.Go(func() { h.list(ctx, "label", "configmaps", left, typedSource(podCore, "configmaps", "shop", label), 0) })
	h.work.Go(func() { h.list(ctx, "pages", "secrets", left, typedSource(podCore, "secrets", "shop", label), 3) })
	h.work.Go(func() { h.list(ctx, "custom", "tills", everything, h.tillSource(pod, nil), 0) })
}

// trouble cuts and kills at random points.
func (h *histories) trouble() {
	h.Helper()
	cuts := 0
	kill := func() { h.must(h.lab.Stop("agent")) }
	start := func() { h.restarts.Add(1); h.startAgent() }
	for begun := time.Now(); time.Since(begun) < troubleTime; {
		choice := h.random.IntN(5)
		if choice != 1 {
			h.must(h.link.Cut())
			cuts++
			h.wrote(1 + h.random.IntN(200))
		}
		switch choice {
		case 0: // only a cut
		case 1, 2: // killed, online or offline
			kill()
			h.wrote(h.random.IntN(20))
			start()
			h.wrote(h.random.IntN(120))
		case 3: // killed while the link comes back
			h.must(h.link.Restore())
			h.wrote(h.random.IntN(100))
			kill()
			start()
		case 4: // the link comes back while the agent starts
			kill()
			start()
			h.wrote(h.random.IntN(40))
		}
		h.must(h.link.Restore())
		h.wrote(1 + h.random.IntN(120))
	}
	h.Logf("%d cuts, %d kills, %d writes", cuts, h.restarts.Load(), h.writer.writes.Load())
}

// converge waits until every client knows of all that was written before.
func (h *histories) converge() {
	h.Helper()
	goal := map[string]uint64{}
	for resource, r := range h.truth {
		goal[resource] = r.reached()
	}
	h.within(time.Minute, func() error {
		for _, c := range h.clients {
			if now := c.reached(); c.selectsMore(h.truth[c.resource], now, goal[c.resource]) {
				return fmt.Errorf("%s is at version %d, upstream was at %d", c.name, now, goal[c.resource])
			}
		}
		return nil
	})
}

// selectsMore tells whether the truth has something for this client after a version, up to another.
func (c witness) selectsMore(truth *recorder, after, to uint64) bool {
	truth.mu.Lock()
	defer truth.mu.Unlock()
	for _, s := range truth.steps {
		for _, v := range s.objects {
			if s.kind != "Replace" && s.number > after && s.number <= to && c.selects(v) {
				return true
			}
		}
	}
	return false
}

// verdict holds everything against the truth.
func (h *histories) verdict() {
	h.Helper()
	for resource, r := range h.truth {
		for i, s := range r.steps {
			if s.kind == "Replace" && i > 0 {
				h.Fatalf("the direct client of %s had to begin anew: it does not know all that happened", resource)
			}
		}
		if err := h.writer.confirm(resource, r.steps); err != nil {
			h.Error(err)
		}
	}
	told := 0
	for _, c := range append(h.clients, h.lists...) {
		told += len(c.steps)
		if err := errors.Join(c.check(h.truth[c.resource].steps)...); err != nil {
			h.Error(err)
		}
	}
	for _, c := range h.clients {
		if len(c.steps) < 20 {
			h.Errorf("%s was told only %d things: this test shows nothing", c.name, len(c.steps))
		}
	}
	h.Logf("%d things told to %d clients; %d lists, %d refused; %d answers offline", told, len(h.clients), h.listed.Load(), h.refused.Load(), h.offline.Load())
	if h.offline.Load() < 20 || h.listed.Load() < 50 || h.restarts.Load() < 3 {
		h.Error("there was too little trouble: this test shows nothing")
	}
	if h.Failed() {
		h.dump()
	}
}
