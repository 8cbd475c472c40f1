package hub

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/hub/api/v1alpha1"
	"github.com/holdfast-dev/holdfast/reconciler/hub/rollup"
)

// poolIndex finds the EdgeNodes of a pool in the cache.
const poolIndex = "spec.pool"

// pools keeps the NodePools. It is the one place that writes their status.
type pools struct {
	client  client.Client // reads from the cache
	board   *board
	clock   func() time.Time
	log     *slog.Logger
	metrics *metrics
	event   func(about client.Object, typ, reason, action, message string)
}

// Reconcile brings one NodePool to what the newest picture says: made, put right, or deleted; then its status.
func (r *pools) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	pic := r.board.current.Load()
	if pic == nil {
		return reconcile.Result{}, nil
	}
	var observed v1alpha1.NodePool
	err := r.client.Get(ctx, req.NamespacedName, &observed)
	exists := err == nil
	if err != nil && !apierrors.IsNotFound(err) {
		return reconcile.Result{}, err
	}
	if exists && observed.Spec.Fleet != pic.fleet {
		r.event(&observed, corev1.EventTypeWarning, condition.ReasonForeignFleet, "RollOut", foreign(observed.Spec.Fleet, pic.fleet))
		return reconcile.Result{}, nil
	}
	if pic.rollout != nil {
		done, err := r.spec(ctx, pic.rollout, req.Name, exists, &observed)
		if done || err != nil {
			return retry(err)
		}
	}
	if !exists {
		return reconcile.Result{}, nil
	}
	return retry(r.status(ctx, pic, &observed))
}

// spec makes, puts right or deletes the NodePool. If it wrote, it is done: the watch tells when to go on.
func (r *pools) spec(ctx context.Context, ro *rollout, name string, exists bool, observed *v1alpha1.NodePool) (done bool, err error) {
	planned := ro.pools[name]
	switch {
	case planned == nil && ro.has(name), planned == nil && !exists:
		return false, nil
	case planned == nil:
		r.log.Info("pool left the fleet: deleting its NodePool", "pool", name, "revision", ro.revision)
		r.metrics.forgetPool(name)
		return true, client.IgnoreNotFound(r.client.Delete(ctx, observed, client.Preconditions{UID: &observed.UID, ResourceVersion: &observed.ResourceVersion}))
	}
	want := nodePool(planned, observed)
	switch {
	case !exists:
		err = r.client.Create(ctx, want)
	case same(observed, want, observed.Spec, want.Spec):
		return false, nil
	default:
		err = r.client.Update(ctx, want)
	}
	if err != nil {
		return false, fmt.Errorf("write NodePool %s: %w", name, err)
	}
	return true, nil
}

func (r *pools) status(ctx context.Context, pic *picture, pool *v1alpha1.NodePool) error {
	var nodes v1alpha1.EdgeNodeList
	if err := r.client.List(ctx, &nodes, client.MatchingFields{poolIndex: pool.Name}, client.UnsafeDisableDeepCopy); err != nil {
		return err
	}
	sum := rollup.Of(nodes.Items, func(name string) rollup.Kubelet {
		var node corev1.Node
		if r.client.Get(ctx, client.ObjectKey{Name: name}, &node, client.UnsafeDisableDeepCopy) != nil {
			return rollup.Kubelet{} // the cache knows no other error
		}
		return rollup.KubeletOf(&node)
	})
	r.metrics.pool(pool.Name, sum)
	status := poolStatus(pool, sum, pic, metav1.NewTime(r.clock()).Rfc3339Copy())
	if apiequality.Semantic.DeepEqual(status, pool.Status) {
		return nil
	}
	r.tell(pool, status)
	next := pool.DeepCopy()
	next.Status = status
	if err := r.client.Status().Update(ctx, next); err != nil {
		return fmt.Errorf("write status of NodePool %s: %w", pool.Name, err)
	}
	return nil
}

// tell makes an Event of a pool that has just lost its plan. What befalls the whole fleet is one Event of the tracker's.
func (r *pools) tell(pool *v1alpha1.NodePool, next v1alpha1.NodePoolStatus) {
	before := meta.FindStatusCondition(pool.Status.Conditions, condition.PlanReady)
	after := meta.FindStatusCondition(next.Conditions, condition.PlanReady)
	if after.Status == metav1.ConditionFalse && (before == nil || before.Status != after.Status || before.Message != after.Message) {
		r.event(pool, corev1.EventTypeWarning, after.Reason, "RollOut", after.Message)
	}
}

// foreign says why an object is left alone.
func foreign(theirs, ours string) string {
	return fmt.Sprintf("it belongs to fleet %q; the hub of fleet %q leaves it alone: give one of them another name, or delete this object", theirs, ours)
}

// retry tries again soon, without a word, after having worked from an old copy: the newer one is on its way.
func retry(err error) (reconcile.Result, error) {
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		return reconcile.Result{RequeueAfter: 100 * time.Millisecond}, nil
	}
	return reconcile.Result{}, err
}
