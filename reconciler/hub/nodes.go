package hub

import (
	"context"
	"fmt"
	"log/slog"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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

// mark brings what the hub sets on the Node to m. It is idempotent and leaves alone what others set.
func (r *nodes) mark(ctx context.Context, node *corev1.Node, m marks) error {
	patch, err := m.patch(node)
	if err != nil || patch == nil {
		return err
	}
	target := &corev1.Node{}
	target.Name = node.Name
	if err := r.client.Patch(ctx, target, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(fieldManager)); err != nil {
		return fmt.Errorf("mark Node %s: %w", node.Name, err)
	}
	return nil
}
