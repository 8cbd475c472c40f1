package rollup_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/reconciler/hub/api/v1alpha1"
	"github.com/holdfast-dev/holdfast/reconciler/hub/rollup"
)

var (
	revA, revB = strings.Repeat("a", 40), strings.Repeat("b", 40)
	planA      = "sha256:" + strings.Repeat("1", 64)
	planB      = "sha256:" + strings.Repeat("2", 64)
	up         = rollup.Kubelet{Known: true, Ready: true}
)

func cond(typ, status, reason, message string) metav1.Condition {
	return metav1.Condition{Type: typ, Status: metav1.ConditionStatus(status), Reason: reason, Message: message}
}

func node(name, revision, plan string, conditions ...metav1.Condition) v1alpha1.EdgeNode {
	n := v1alpha1.EdgeNode{Spec: v1alpha1.EdgeNodeSpec{Pool: "berlin", PlanDigest: planA}}
	n.Name = name
	n.Status = v1alpha1.EdgeNodeStatus{Revision: revision, PlanDigest: plan, Conditions: conditions}
	return n
}

func TestTroubleOf(t *testing.T) {
	ready := cond("Ready", "True", "Reconciled", "")
	for _, c := range []struct {
		name    string
		node    v1alpha1.EdgeNode
		kubelet rollup.Kubelet
		want    string
	}{
		{"all well", node("a", revA, planA, ready), up, ""},
		{"no Node", node("a", revA, planA, ready), rollup.Kubelet{}, "NodeMissing: there is no Node of that name: the kubelet has not registered"},
		{"kubelet dead", node("a", revA, planA, ready), rollup.Kubelet{Known: true, Message: "Kubelet stopped posting node status."}, "KubeletNotReady: Kubelet stopped posting node status."},
		{"silent agent", node("a", "", ""), up, "NoReport: the agent has not reported: see `holdfast-agent status` on the node"},
		{"refuses a revision", node("a", revA, planA, ready, cond("Verified", "False", "Unsigned", "commit x")), up, "Unsigned: commit x"},
		{"not ready", node("a", revA, planA, cond("Ready", "False", "Forbidden", "no")), up, "Forbidden: no"},
		{"old plan", node("a", revB, planB, ready), up, "NotSynced: the plan in force is that of revision bbbbbbbbbbbb, not the newest"},
		{"no plan", node("a", "", "", ready), up, "NotSynced: the node has no plan in force yet"},
		{"stale", node("a", revA, planA, ready, cond("Stale", "True", "TooOld", "90 days")), up, "TooOld: 90 days"},
		{"fresh", node("a", revA, planA, ready, cond("Stale", "False", "Fresh", "")), up, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			if tr, bad := rollup.TroubleOf(&c.node, c.kubelet); bad {
				got = tr.Reason + ": " + tr.Message
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestOf(t *testing.T) {
	ready := cond("Ready", "True", "Reconciled", "")
	sum := rollup.Of([]v1alpha1.EdgeNode{
		node("c", revB, planB, ready),
		node("a", revA, planA, ready),
		node("b", revA, planA, cond("Ready", "False", "BackingOff", "x")),
		node("d", "", ""),
	}, func(name string) rollup.Kubelet {
		return rollup.Kubelet{Known: name != "d", Ready: name != "d"}
	})
	var troubled []string
	for _, tr := range sum.Trouble {
		troubled = append(troubled, tr.Node+" "+tr.Reason)
	}
	if want := []string{"b BackingOff", "c NotSynced", "d NodeMissing"}; !reflect.DeepEqual(troubled, want) {
		t.Errorf("trouble %v, want %v", troubled, want)
	}
	if sum.Nodes != 4 || sum.Ready != 2 || sum.Synced != 2 {
		t.Errorf("nodes %d ready %d synced %d, want 4 2 2", sum.Nodes, sum.Ready, sum.Synced)
	}
	if want := []v1alpha1.RevisionInUse{{Revision: revA, Nodes: 2}, {Revision: revB, Nodes: 1}}; !reflect.DeepEqual(sum.Revisions, want) {
		t.Errorf("revisions %v, want %v", sum.Revisions, want)
	}
}

func TestOfBoundsRevisions(t *testing.T) {
	var nodes []v1alpha1.EdgeNode
	for i := range 20 {
		nodes = append(nodes, node(fmt.Sprint(i), fmt.Sprintf("%040x", i), planA))
	}
	if got := len(rollup.Of(nodes, func(string) rollup.Kubelet { return up }).Revisions); got != 16 {
		t.Errorf("%d revisions, want 16: the schema takes no more", got)
	}
}

func TestKubeletOf(t *testing.T) {
	withReady := func(s corev1.ConditionStatus) *corev1.Node {
		return &corev1.Node{Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{
			{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionFalse}, {Type: corev1.NodeReady, Status: s, Message: "m"}}}}
	}
	for _, c := range []struct {
		node *corev1.Node
		want rollup.Kubelet
	}{
		{nil, rollup.Kubelet{}},
		{&corev1.Node{}, rollup.Kubelet{Known: true, Message: "the kubelet has not reported yet"}},
		{withReady(corev1.ConditionTrue), rollup.Kubelet{Known: true, Ready: true, Message: "m"}},
		{withReady(corev1.ConditionUnknown), rollup.Kubelet{Known: true, Message: "m"}},
	} {
		if got := rollup.KubeletOf(c.node); got != c.want {
			t.Errorf("KubeletOf = %+v, want %+v", got, c.want)
		}
	}
}
