package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/holdfast-dev/holdfast/reconciler/hub/api/v1alpha1"
)

// firstPicture is how long pods wait at a time until the hub knows which fleet it is of, just after its start.
const firstPicture = 2 * time.Second

// nodeIndex finds the pods of a node.
const nodeIndex = "spec.nodeName"

// pods keeps the pods of nodes that are only cut off from being evicted: for as long as their pool's autonomySeconds say.
type pods struct {
	client client.Client // reads from the cache
	board  *board
	log    *slog.Logger
}

// Reconcile brings the tolerations of one pod to what its node's pool says. A pod of no pool gets back what the hub changed.
func (r *pods) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	pic := r.board.current.Load()
	if pic == nil {
		return reconcile.Result{RequeueAfter: firstPicture}, nil
	}
	var pod corev1.Pod
	if err := r.client.Get(ctx, req.NamespacedName, &pod); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if pod.DeletionTimestamp != nil || pod.Annotations[corev1.MirrorPodAnnotationKey] != "" {
		return reconcile.Result{}, nil
	}
	seconds, decided, err := r.seconds(ctx, pod.Spec.NodeName, pic.fleet)
	if err != nil || !decided {
		return reconcile.Result{}, err
	}
	tolerations, memory := keepFor(seconds, pod.Spec.Tolerations, pod.Annotations[evictionAnnotation])
	if memory == pod.Annotations[evictionAnnotation] && apiequality.Semantic.DeepEqual(tolerations, pod.Spec.Tolerations) {
		return reconcile.Result{}, nil
	}
	return retry(r.patch(ctx, &pod, tolerations, memory))
}

// seconds gives for how long pods of a node are kept; decided is false if the node is another fleet's.
func (r *pods) seconds(ctx context.Context, node, fleet string) (seconds int64, decided bool, err error) {
	var edge v1alpha1.EdgeNode
	if err := r.client.Get(ctx, client.ObjectKey{Name: node}, &edge, client.UnsafeDisableDeepCopy); err != nil {
		return 0, apierrors.IsNotFound(err), client.IgnoreNotFound(err)
	}
	if edge.Spec.Fleet != fleet {
		return 0, false, nil
	}
	var pool v1alpha1.NodePool
	if err := r.client.Get(ctx, client.ObjectKey{Name: edge.Spec.Pool}, &pool, client.UnsafeDisableDeepCopy); err != nil {
		return 0, false, client.IgnoreNotFound(err) // on its way; its pods come again with it
	}
	return pool.Spec.AutonomySeconds, pool.Spec.Fleet == fleet, nil
}

func (r *pods) patch(ctx context.Context, pod *corev1.Pod, tolerations []corev1.Toleration, memory string) error {
	annotation := any(memory)
	if memory == "" {
		annotation = nil
	}
	// The resourceVersion and the UID make it this pod as it was seen.
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID, "resourceVersion": pod.ResourceVersion, "annotations": map[string]any{evictionAnnotation: annotation}},
		"spec":     map[string]any{"tolerations": tolerations},
	})
	if err != nil {
		return err
	}
	target := &corev1.Pod{}
	target.Namespace, target.Name = pod.Namespace, pod.Name
	err = r.client.Patch(ctx, target, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(fieldManager))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("set tolerations of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}

// runningPods is what the cache keeps of pods: those that are bound and have not ended, and of them what keepFor looks at.
func runningPods() cache.ByObject {
	return cache.ByObject{
		Field:     fields.ParseSelectorOrDie("spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed"),
		Transform: slimPod,
	}
}

func slimPod(obj any) (any, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil
	}
	slim := &corev1.Pod{}
	slim.Namespace, slim.Name, slim.UID, slim.ResourceVersion = pod.Namespace, pod.Name, pod.UID, pod.ResourceVersion
	slim.DeletionTimestamp = pod.DeletionTimestamp
	for _, key := range []string{evictionAnnotation, corev1.MirrorPodAnnotationKey} {
		if v, ok := pod.Annotations[key]; ok {
			slim.Annotations = with(slim.Annotations, map[string]string{key: v})
		}
	}
	slim.Spec.NodeName, slim.Spec.Tolerations = pod.Spec.NodeName, pod.Spec.Tolerations
	return slim, nil
}

// addPods has the pods looked at when they come or their tolerations change, and when their node's pool does.
func addPods(mgr manager.Manager, r *pods) error {
	err := mgr.GetFieldIndexer().IndexField(context.Background(), &corev1.Pod{}, nodeIndex, func(obj client.Object) []string {
		return []string{obj.(*corev1.Pod).Spec.NodeName}
	})
	if err != nil {
		return fmt.Errorf("index Pods: %w", err)
	}
	return builder.ControllerManagedBy(mgr).Named("pod").
		For(&corev1.Pod{}, builder.WithPredicates(predicate.Funcs{UpdateFunc: tolerationsChanged, DeleteFunc: func(event.DeleteEvent) bool { return false }})).
		Watches(&v1alpha1.EdgeNode{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, node client.Object) []reconcile.Request {
			return r.of(ctx, node.GetName())
		}), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.NodePool{}, handler.EnqueueRequestsFromMapFunc(r.ofPool), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Complete(r)
}

func tolerationsChanged(e event.UpdateEvent) bool {
	before, ok1 := e.ObjectOld.(*corev1.Pod)
	after, ok2 := e.ObjectNew.(*corev1.Pod)
	return !ok1 || !ok2 || before.Spec.NodeName != after.Spec.NodeName || before.Annotations[evictionAnnotation] != after.Annotations[evictionAnnotation] ||
		!apiequality.Semantic.DeepEqual(before.Spec.Tolerations, after.Spec.Tolerations)
}

// of gives the pods of a node.
func (r *pods) of(ctx context.Context, node string) []reconcile.Request {
	var list corev1.PodList
	if err := r.client.List(ctx, &list, client.MatchingFields{nodeIndex: node}, client.UnsafeDisableDeepCopy); err != nil {
		r.log.Error("list the pods of a node", "node", node, "err", err)
		return nil
	}
	out := make([]reconcile.Request, 0, len(list.Items))
	for i := range list.Items {
		out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return out
}

// ofPool gives the pods of a pool's nodes.
func (r *pods) ofPool(ctx context.Context, pool client.Object) []reconcile.Request {
	var nodes v1alpha1.EdgeNodeList
	if err := r.client.List(ctx, &nodes, client.MatchingFields{poolIndex: pool.GetName()}, client.UnsafeDisableDeepCopy); err != nil {
		r.log.Error("list the nodes of a pool", "pool", pool.GetName(), "err", err)
		return nil
	}
	var out []reconcile.Request
	for i := range nodes.Items {
		out = append(out, r.of(ctx, nodes.Items[i].Name)...)
	}
	return out
}
