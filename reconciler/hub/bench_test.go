//go:build bench

package hub

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/reconciler/hub/api/v1alpha1"
	"github.com/holdfast-dev/holdfast/reconciler/hub/install"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
	"github.com/holdfast-dev/holdfast/reconciler/source"
	"github.com/holdfast-dev/holdfast/test/lab"
	"github.com/holdfast-dev/holdfast/test/lab/labtest"
)

// BenchmarkRollout measures from an empty cluster to every NodePool and EdgeNode of a fleet being there and counted, against a
// real API server on the same machine, and the hub's heap then. Evaluating CUE is not part of it.
func BenchmarkRollout(b *testing.B) {
	for _, nodes := range []int{1000} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			l := labtest.Start(b, lab.Options{})
			cfg, err := clientcmd.BuildConfigFromFlags("", l.AdminKubeconfig())
			if err != nil {
				b.Fatal(err)
			}
			cfg.QPS = -1
			objects, err := install.Objects()
			if err != nil {
				b.Fatal(err)
			}
			dyn, err := dynamic.NewForConfig(cfg)
			if err != nil {
				b.Fatal(err)
			}
			if err := install.Apply(b.Context(), dyn, objects, func(install.Step) {}); err != nil {
				b.Fatal(err)
			}
			scheme := kruntime.NewScheme()
			if err := clientgoscheme.AddToScheme(scheme); err != nil {
				b.Fatal(err)
			}
			if err := v1alpha1.AddToScheme(scheme); err != nil {
				b.Fatal(err)
			}
			admin, err := client.New(cfg, client.Options{Scheme: scheme})
			if err != nil {
				b.Fatal(err)
			}
			ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "bench"}}
			if err := admin.Create(b.Context(), ns); err != nil {
				b.Fatal(err)
			}
			follower := &script{refs: source.Refs{Tip: fmt.Sprintf("%040d", 1)}, fleet: "bench", pools: map[string]*plan.Pool{}}
			for i := range nodes / 20 {
				p := poolOf(fmt.Sprintf("site-%04d", i))
				p.Fleet, p.Type = "bench", "Edge"
				for n := range 20 {
					p.Nodes = append(p.Nodes, plan.Node{Fleet: "bench", Pool: p.Name, Name: fmt.Sprintf("%s-%02d", p.Name, n), Labels: map[string]string{"a": "b"}})
				}
				follower.pools[p.Name] = p
			}
			for b.Loop() {
				rollOutOnce(b, cfg, admin, follower, int32(nodes))
			}
		})
	}
}

// rollOutOnce runs a hub until the sum of all pools' statuses is every node.
func rollOutOnce(b *testing.B, cfg *rest.Config, admin client.Client, follower *script, nodes int32) {
	h, err := New(Config{Cluster: cfg, Namespace: "bench", Follower: follower, Anchor: "anchor", Listen: "127.0.0.1:0", NoLeaderElection: true, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	started := time.Now()
	for counted := int32(0); counted < nodes; {
		select {
		case err := <-ended:
			b.Fatal(err)
		case <-time.After(250 * time.Millisecond):
		}
		var pools v1alpha1.NodePoolList
		if err := admin.List(ctx, &pools); err != nil {
			b.Fatal(err)
		}
		counted = 0
		for i := range pools.Items {
			counted += pools.Items[i].Status.Nodes
		}
	}
	b.ReportMetric(time.Since(started).Seconds(), "s-to-settle")
	runtime.GC()
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	b.ReportMetric(float64(mem.HeapAlloc)/(1<<20), "heap-MB")
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}
