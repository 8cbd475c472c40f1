// Package rollup sums a pool's nodes up. It is pure, and hub and `holdfast status` share it, so that both count alike
// and name the same trouble.
package rollup

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/hub/api/v1alpha1"
)

// maxRevisions is how many revisions in use a NodePool's status holds: the schema's bound.
const maxRevisions = 16

// Kubelet is what Kubernetes knows of a node's kubelet.
type Kubelet struct {
	// Known: there is a Node of that name.
	Known bool
	// Ready: the Node's Ready condition is True.
	Ready bool
	// Message says why it is not ready.
	Message string
}

// KubeletOf reads a Node. The Node may be nil.
func KubeletOf(node *corev1.Node) Kubelet {
	if node == nil {
		return Kubelet{}
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return Kubelet{Known: true, Ready: c.Status == corev1.ConditionTrue, Message: c.Message}
		}
	}
	return Kubelet{Known: true, Message: "the kubelet has not reported yet"}
}

// Trouble is why a node is not as it should be.
type Trouble struct {
	Node string `json:"node"`
	Pool string `json:"pool"`
	// Reason is a stable reason of package condition, or of a verdict.
	Reason  string `json:"reason"`
	Message string `json:"message,omitempty"`
	// Ready and Synced tell what the node is all the same.
	Ready  bool `json:"ready"`
	Synced bool `json:"synced"`
}

// Pool is the sum of a pool's nodes.
type Pool struct {
	Nodes  int32 `json:"nodes"`
	Ready  int32 `json:"ready"`
	Synced int32 `json:"synced"`
	// Revisions are the revisions that nodes accepted last, the one with most nodes first; at most 16.
	Revisions []v1alpha1.RevisionInUse `json:"revisions,omitempty"`
	// Trouble holds, sorted by node, the nodes that are not ready, not synced, or refuse the newest revision.
	Trouble []Trouble `json:"trouble,omitempty"`
}

// Of sums up nodes of one pool or of many. kubelet gives what Kubernetes knows of a node's kubelet.
func Of(nodes []v1alpha1.EdgeNode, kubelet func(name string) Kubelet) Pool {
	var sum Pool
	revisions := map[string]int32{}
	for i := range nodes {
		n := &nodes[i]
		sum.Nodes++
		k := kubelet(n.Name)
		if Ready(n, k) {
			sum.Ready++
		}
		if Synced(n) {
			sum.Synced++
		}
		if n.Status.Revision != "" {
			revisions[n.Status.Revision]++
		}
		if t, bad := TroubleOf(n, k); bad {
			sum.Trouble = append(sum.Trouble, t)
		}
	}
	slices.SortFunc(sum.Trouble, func(a, b Trouble) int { return cmp.Compare(a.Node, b.Node) })
	for rev, count := range revisions {
		sum.Revisions = append(sum.Revisions, v1alpha1.RevisionInUse{Revision: rev, Nodes: count})
	}
	slices.SortFunc(sum.Revisions, func(a, b v1alpha1.RevisionInUse) int {
		return cmp.Or(cmp.Compare(b.Nodes, a.Nodes), cmp.Compare(a.Revision, b.Revision))
	})
	sum.Revisions = sum.Revisions[:min(len(sum.Revisions), maxRevisions)]
	return sum
}

// Ready tells whether a node says it is Ready and Kubernetes calls its kubelet Ready. A dead node's last report still
// says Ready; its kubelet's lease does not.
func Ready(n *v1alpha1.EdgeNode, k Kubelet) bool {
	return k.Ready && meta.IsStatusConditionTrue(n.Status.Conditions, condition.Ready)
}

// Synced tells whether the plan in force on the node is the one of the newest accepted revision.
func Synced(n *v1alpha1.EdgeNode) bool {
	return n.Spec.PlanDigest != "" && n.Status.PlanDigest == n.Spec.PlanDigest
}

// TroubleOf gives the first thing that is wrong with a node, the one that explains the most, and whether there is one.
func TroubleOf(n *v1alpha1.EdgeNode, k Kubelet) (Trouble, bool) {
	t := Trouble{Node: n.Name, Pool: n.Spec.Pool, Ready: Ready(n, k), Synced: Synced(n)}
	ready := meta.FindStatusCondition(n.Status.Conditions, condition.Ready)
	verified := meta.FindStatusCondition(n.Status.Conditions, condition.Verified)
	stale := meta.FindStatusCondition(n.Status.Conditions, condition.Stale)
	switch {
	case !k.Known:
		t.Reason, t.Message = condition.ReasonNodeMissing, "there is no Node of that name: the kubelet has not registered"
	case !k.Ready:
		t.Reason, t.Message = condition.ReasonKubeletNotReady, k.Message
	case ready == nil:
		t.Reason, t.Message = condition.ReasonNoReport, "the agent has not reported: see `holdfast-agent status` on the node"
	case verified != nil && verified.Status == metav1.ConditionFalse:
		t.Reason, t.Message = verified.Reason, verified.Message
	case ready.Status != metav1.ConditionTrue:
		t.Reason, t.Message = ready.Reason, ready.Message
	case !t.Synced:
		t.Reason, t.Message = condition.ReasonNotSynced, notSynced(n)
	case stale != nil && stale.Status == metav1.ConditionTrue:
		t.Reason, t.Message = stale.Reason, stale.Message
	default:
		return Trouble{}, false
	}
	return t, true
}

func notSynced(n *v1alpha1.EdgeNode) string {
	if n.Status.PlanDigest == "" {
		return "the node has no plan in force yet"
	}
	return fmt.Sprintf("the plan in force is that of revision %s, not the newest", Short(n.Status.Revision))
}

// Short gives the first twelve digits of a commit.
func Short(commit string) string { return commit[:min(len(commit), 12)] }
