package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/hub/api/v1alpha1"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

// nodes keeps the EdgeNodes, and on the Nodes what only the hub may set. A request names both.
type nodes struct {
	client client.Client // reads from the cache
	board  *board
	log    *slog.Logger
	event  func(about client.Object, typ, reason, action, message string)
}

// Reconcile brings one node's EdgeNode and Node to what the newest picture says. Where the picture does not decide, it
// changes nothing.
func (r *nodes) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	pic := r.board.current.Load()
	if pic == nil || pic.rollout == nil {
		return reconcile.Result{}, nil
	}
	edge, node, err := r.observe(ctx, req.Name)
	if err != nil {
		return reconcile.Result{}, err
	}
	if edge != nil && edge.Spec.Fleet != pic.fleet {
		r.event(edge, corev1.EventTypeWarning, condition.ReasonForeignFleet, "RollOut", foreign(edge.Spec.Fleet, pic.fleet))
		return reconcile.Result{}, nil
	}
	planned, decided := pic.rollout.node(req.Name, currentPool(edge, node))
	if !decided {
		return reconcile.Result{}, nil
	}
	if planned != nil {
		if err := r.register(ctx, planned, edge); err != nil {
			return retry(err)
		}
	}
	if node != nil && (planned != nil || node.Annotations[fleetAnnotation] == pic.fleet) {
		if err := r.mark(ctx, node, marksOf(planned)); err != nil {
			return retry(err)
		}
	}
	if planned == nil && edge != nil {
		r.log.Info("node left the fleet: deleting its EdgeNode", "node", edge.Name, "pool", edge.Spec.Pool, "revision", pic.rollout.revision)
		err := r.client.Delete(ctx, edge, client.Preconditions{UID: &edge.UID})
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	return reconcile.Result{}, nil
}

// observe gives the EdgeNode and the Node, nil where there is none.
func (r *nodes) observe(ctx context.Context, name string) (*v1alpha1.EdgeNode, *corev1.Node, error) {
	edge, node := &v1alpha1.EdgeNode{}, &corev1.Node{}
	if err := r.client.Get(ctx, client.ObjectKey{Name: name}, edge); apierrors.IsNotFound(err) {
		edge = nil
	} else if err != nil {
		return nil, nil, err
	}
	if err := r.client.Get(ctx, client.ObjectKey{Name: name}, node); apierrors.IsNotFound(err) {
		node = nil
	} else if err != nil {
		return nil, nil, err
	}
	return edge, node, nil
}

// currentPool gives the pool that the cluster has the node in now, or "".
func currentPool(edge *v1alpha1.EdgeNode, node *corev1.Node) string {
	switch {
	case edge != nil:
		return edge.Spec.Pool
	case node != nil:
		return node.Labels[plan.PoolLabel]
	}
	return ""
}

// register makes or puts right the EdgeNode.
func (r *nodes) register(ctx context.Context, planned *plan.Node, observed *v1alpha1.EdgeNode) error {
	if observed == nil {
		if err := r.client.Create(ctx, edgeNode(planned, &v1alpha1.EdgeNode{})); err != nil {
			return fmt.Errorf("make EdgeNode %s: %w", planned.Name, err)
		}
		return nil
	}
	want := edgeNode(planned, observed)
	if same(observed, want, observed.Spec, want.Spec) {
		return nil
	}
	if err := r.client.Update(ctx, want); err != nil {
		return fmt.Errorf("write EdgeNode %s: %w", planned.Name, err)
	}
	return nil
}

// mark brings what the hub sets on the Node to m: taints first, then labels, and the uninitialized taint goes once both
// are there. It is idempotent and leaves alone what others set.
func (r *nodes) mark(ctx context.Context, node *corev1.Node, m marks) error {
	labelled := m.onNode(node)
	if err := r.taint(ctx, node, m.taints, labelled); err != nil {
		return err
	}
	if labelled {
		return nil
	}
	if err := r.unlabel(ctx, node, m.leftover(node)); err != nil {
		return err
	}
	return r.label(ctx, node, m)
}

// unlabel takes labels off. Applying without them would not do: a stolen node can make itself another owner of what it has,
// and so keep it.
func (r *nodes) unlabel(ctx context.Context, node *corev1.Node, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	gone := map[string]any{}
	for _, k := range keys {
		gone[k] = nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": node.UID, "labels": gone}})
	if err != nil {
		return err
	}
	target := &corev1.Node{}
	target.Name = node.Name
	if err := r.client.Patch(ctx, target, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(fieldManager)); err != nil {
		return fmt.Errorf("take labels off Node %s: %w", node.Name, err)
	}
	return nil
}

// taint merges the planned taints into the Node's. The list is one atomic value that the node lifecycle controller writes
// too: the patch holds only for the resourceVersion that the merge was made from, and carries in the same write the
// annotation that remembers which of them are the hub's.
func (r *nodes) taint(ctx context.Context, node *corev1.Node, want []plan.Taint, initialized bool) error {
	merged := mergeTaints(node.Spec.Taints, parseOwned(node.Annotations[taintsAnnotation]), want, initialized)
	owned := formatOwned(want)
	if apiequality.Semantic.DeepEqual(merged, node.Spec.Taints) && owned == node.Annotations[taintsAnnotation] {
		return nil
	}
	var remembered any // null takes the annotation away
	if owned != "" {
		remembered = owned
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": node.ResourceVersion, "annotations": map[string]any{taintsAnnotation: remembered}},
		"spec":     map[string]any{"taints": merged},
	})
	if err != nil {
		return err
	}
	target := &corev1.Node{}
	target.Name = node.Name
	if err := r.client.Patch(ctx, target, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(fieldManager)); err != nil {
		return fmt.Errorf("taint Node %s: %w", node.Name, err)
	}
	return nil
}

// label applies the labels and annotations server-side: what an earlier plan had and this one has not goes by itself. The
// UID keeps it from making a Node that is gone.
func (r *nodes) label(ctx context.Context, node *corev1.Node, m marks) error {
	metadata := map[string]any{"name": node.Name, "uid": string(node.UID)}
	if len(m.labels) > 0 {
		metadata["labels"] = anyMap(m.labels)
	}
	if len(m.annotations) > 0 {
		metadata["annotations"] = anyMap(m.annotations)
	}
	apply := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Node", "metadata": metadata}}
	if err := r.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(apply), client.FieldOwner(fieldManager), client.ForceOwnership); err != nil {
		return fmt.Errorf("label Node %s: %w", node.Name, err)
	}
	return nil
}

func anyMap(m map[string]string) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}
