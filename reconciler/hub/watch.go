package hub

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/holdfast-dev/holdfast/reconciler/hub/api/v1alpha1"
	"github.com/holdfast-dev/holdfast/reconciler/hub/rollup"
)

// coalesce is how long reports of a pool's nodes are gathered before its status is written: a thousand nodes that report
// at once make one write.
const coalesce = time.Second

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// feed puts names into a controller's queue, also those of objects that are not there yet. Names that come before
// the controller runs wait for it.
type feed struct {
	mu      sync.Mutex // guards queue and waiting
	queue   queue
	waiting []string
}

// source makes the feed a controller's source.
func (f *feed) source() source.Source {
	return source.Func(func(_ context.Context, q queue) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.queue = q
		for _, name := range f.waiting {
			q.Add(request(name))
		}
		f.waiting = nil
		return nil
	})
}

func (f *feed) add(names map[string]bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name := range names {
		if f.queue == nil {
			f.waiting = append(f.waiting, name)
		} else {
			f.queue.Add(request(name))
		}
	}
}

func request(name string) reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Name: name}}
}

// spreader tells the controllers of a new picture: every pool, and, if the rollout is a new one, every node.
type spreader struct {
	client client.Client // reads from the cache
	pools  feed
	nodes  feed
	log    *slog.Logger
	last   *rollout
}

func (s *spreader) spread(ctx context.Context, pic *picture) error {
	pools, nodes := map[string]bool{}, map[string]bool{}
	var existing v1alpha1.NodePoolList
	if err := s.client.List(ctx, &existing, client.UnsafeDisableDeepCopy); err != nil {
		return err
	}
	for i := range existing.Items {
		pools[existing.Items[i].Name] = true
	}
	if pic.rollout == nil || pic.rollout == s.last {
		s.pools.add(pools)
		return nil
	}
	s.warn(pic, existing.Items)
	for _, name := range pic.rollout.names() {
		pools[name] = true
	}
	for name := range pic.rollout.nodes {
		nodes[name] = true
	}
	var edges v1alpha1.EdgeNodeList
	if err := s.client.List(ctx, &edges, client.UnsafeDisableDeepCopy); err != nil {
		return err
	}
	for i := range edges.Items {
		nodes[edges.Items[i].Name] = true
	}
	var all corev1.NodeList
	if err := s.client.List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil {
		return err
	}
	for i := range all.Items {
		nodes[all.Items[i].Name] = true
	}
	s.last = pic.rollout
	s.nodes.add(nodes)
	s.pools.add(pools)
	return nil
}

// warn says so if a revision takes away more than half of a fleet's pools. It is signed, so it is done.
func (s *spreader) warn(pic *picture, existing []v1alpha1.NodePool) {
	total, leaving := 0, 0
	for i := range existing {
		if existing[i].Spec.Fleet != pic.fleet {
			continue
		}
		total++
		if !pic.rollout.has(existing[i].Name) {
			leaving++
		}
	}
	if total >= 4 && leaving*2 > total {
		s.log.Warn("this revision takes away more than half of the fleet's pools", "revision", pic.rollout.revision, "pools", total, "leaving", leaving)
	}
}

// slimNode keeps of a Node what the hub looks at: ten thousand Nodes with their images would take hundreds of megabytes.
func slimNode(obj any) (any, error) {
	node, ok := obj.(*corev1.Node)
	if !ok {
		return obj, nil
	}
	slim := &corev1.Node{}
	slim.TypeMeta = node.TypeMeta
	slim.Name, slim.UID, slim.ResourceVersion, slim.CreationTimestamp = node.Name, node.UID, node.ResourceVersion, node.CreationTimestamp
	slim.Labels, slim.Annotations, slim.Spec.Taints = node.Labels, node.Annotations, node.Spec.Taints
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			c.LastHeartbeatTime = metav1.Time{}
			slim.Status.Conditions = append(slim.Status.Conditions, c)
		}
	}
	return slim, nil
}

// marksChanged passes Nodes whose marks may need the hub's hand. A kubelet's heartbeat is none.
func marksChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok1 := e.ObjectOld.(*corev1.Node)
		after, ok2 := e.ObjectNew.(*corev1.Node)
		return !ok1 || !ok2 || !maps.Equal(before.Labels, after.Labels) || !maps.Equal(before.Annotations, after.Annotations) ||
			!apiequality.Semantic.DeepEqual(before.Spec.Taints, after.Spec.Taints)
	}}
}

// poolsOfEdgeNodes asks for the status of the pools that an EdgeNode is in, and was in, after a moment.
func poolsOfEdgeNodes() handler.EventHandler {
	later := func(q queue, objects ...client.Object) {
		for _, obj := range objects {
			if n, ok := obj.(*v1alpha1.EdgeNode); ok && n.Spec.Pool != "" {
				q.AddAfter(request(n.Spec.Pool), coalesce)
			}
		}
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { later(q, e.Object) },
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) { later(q, e.Object) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) { later(q, e.ObjectOld, e.ObjectNew) },
	}
}

// poolsOfNodes asks for the status of the pool that a Node is in when Kubernetes calls its kubelet something else.
func poolsOfNodes(cache client.Client) handler.EventHandler {
	later := func(ctx context.Context, q queue, obj client.Object) {
		var n v1alpha1.EdgeNode
		if cache.Get(ctx, client.ObjectKey{Name: obj.GetName()}, &n, client.UnsafeDisableDeepCopy) == nil {
			q.AddAfter(request(n.Spec.Pool), coalesce)
		}
	}
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) { later(ctx, q, e.Object) },
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) { later(ctx, q, e.Object) },
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			before, ok1 := e.ObjectOld.(*corev1.Node)
			after, ok2 := e.ObjectNew.(*corev1.Node)
			if !ok1 || !ok2 || rollup.KubeletOf(before) != rollup.KubeletOf(after) {
				later(ctx, q, e.ObjectNew)
			}
		},
	}
}
