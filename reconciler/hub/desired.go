package hub

import (
	"fmt"
	"maps"
	"slices"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/hub/api/v1alpha1"
	"github.com/holdfast-dev/holdfast/reconciler/hub/rollup"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

// ownLabels are on everything the hub makes.
var ownLabels = map[string]string{"app.kubernetes.io/managed-by": fieldManager}

// nodePool gives the NodePool as the plan has it, on top of what is observed: foreign labels and the status stay.
func nodePool(p *plan.Pool, observed *v1alpha1.NodePool) *v1alpha1.NodePool {
	want := observed.DeepCopy()
	want.Name = p.Name
	want.Labels = with(observed.Labels, ownLabels)
	want.Spec = v1alpha1.NodePoolSpec{Fleet: p.Fleet, DisplayName: p.DisplayName, Type: p.Type, AutonomySeconds: int64(time.Duration(p.AutonomyDuration) / time.Second)}
	for k, v := range p.Labels {
		if !plan.Reserved(k) {
			if want.Spec.Labels == nil {
				want.Spec.Labels = map[string]v1alpha1.LabelValue{}
			}
			want.Spec.Labels[k] = v1alpha1.LabelValue(v)
		}
	}
	for k, v := range p.Annotations {
		if !plan.Reserved(k) {
			want.Spec.Annotations = with(want.Spec.Annotations, map[string]string{k: v})
		}
	}
	for _, t := range p.Taints {
		want.Spec.Taints = append(want.Spec.Taints, v1alpha1.Taint{Key: t.Key, Value: v1alpha1.LabelValue(t.Value), Effect: t.Effect})
	}
	return want
}

// edgeNode gives the EdgeNode as the plan has it, on top of what is observed.
func edgeNode(n *plan.Node, observed *v1alpha1.EdgeNode) *v1alpha1.EdgeNode {
	want := observed.DeepCopy()
	want.Name = n.Name
	want.Labels = with(observed.Labels, ownLabels)
	want.Labels[plan.PoolLabel] = n.Pool // so that `kubectl get edgenodes -l` finds a pool's
	want.Spec = v1alpha1.EdgeNodeSpec{Fleet: n.Fleet, Pool: n.Pool, PlanDigest: n.Digest()}
	return want
}

// with gives a copy of m with more in it.
func with(m, more map[string]string) map[string]string {
	out := maps.Clone(m)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, more)
	return out
}

// same tells whether spec and labels need no write.
func same(a, b metav1.Object, specA, specB any) bool {
	return maps.Equal(a.GetLabels(), b.GetLabels()) && apiequality.Semantic.DeepEqual(specA, specB)
}

// poolStatus gives a NodePool's status from what its nodes report and what the fleet repo says. now dates what changes.
func poolStatus(pool *v1alpha1.NodePool, sum rollup.Pool, pic *picture, now metav1.Time) v1alpha1.NodePoolStatus {
	status := *pool.Status.DeepCopy()
	status.ObservedGeneration = pool.Generation
	status.Nodes, status.Ready, status.Synced, status.Revisions = sum.Nodes, sum.Ready, sum.Synced, sum.Revisions
	planned := pic.poolPlanned(pool.Name)
	if pic.rollout != nil && planned.Status == condition.True {
		status.Revision = pic.rollout.revision
	}
	for _, c := range []condition.Condition{
		pic.source, pic.verified, planned,
		counted(condition.Ready, condition.ReasonNodesNotReady, "ready", sum.Ready, sum, func(t rollup.Trouble) bool { return !t.Ready }),
		counted(condition.Synced, condition.ReasonNotSynced, "at the newest plan", sum.Synced, sum, func(t rollup.Trouble) bool { return !t.Synced }),
	} {
		meta.SetStatusCondition(&status.Conditions, metav1.Condition{
			Type: c.Type, Status: metav1.ConditionStatus(c.Status), Reason: c.Reason, Message: c.Message,
			ObservedGeneration: pool.Generation, LastTransitionTime: now,
		})
	}
	slices.SortFunc(status.Conditions, func(a, b metav1.Condition) int {
		if a.Type < b.Type {
			return -1
		}
		return 1
	})
	return status
}

// named is how many nodes a condition's message names.
const named = 3

// counted gives the condition of so many nodes being something, and names some of those that explain why others are not.
func counted(typ, reason, what string, count int32, sum rollup.Pool, explains func(rollup.Trouble) bool) condition.Condition {
	c := condition.Condition{Type: typ, Status: condition.True, Reason: condition.ReasonReconciled, Message: fmt.Sprintf("%d of %d nodes are %s", count, sum.Nodes, what)}
	if count == sum.Nodes {
		return c
	}
	c.Status, c.Reason = condition.False, reason
	sep, left := ": ", named
	for _, t := range sum.Trouble {
		if !explains(t) {
			continue
		}
		if left--; left < 0 {
			c.Message += " …"
			break
		}
		c.Message += sep + t.Node + " (" + t.Reason + ")"
		sep = ", "
	}
	return c
}
