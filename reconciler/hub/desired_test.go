package hub

import (
	"reflect"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/hub/api/v1alpha1"
	"github.com/holdfast-dev/holdfast/reconciler/hub/rollup"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

func TestNodePoolFromPlan(t *testing.T) {
	observed := &v1alpha1.NodePool{Spec: v1alpha1.NodePoolSpec{Fleet: "shops", Type: "Cloud", Labels: map[string]v1alpha1.LabelValue{"old": "x"}}}
	observed.Labels = map[string]string{"foreign": "y"}
	observed.ResourceVersion = "7"
	got := nodePool(&plan.Pool{
		Fleet: "shops", Name: "berlin", DisplayName: "Berlin", Type: "Edge",
		Labels:      map[string]string{"a": "b", "fleet.holdfast.dev/pool": "no"},
		Annotations: map[string]string{"c": "d", "fleet.holdfast.dev/x": "no"},
		Taints:      []plan.Taint{{Key: "k", Value: "v", Effect: "NoSchedule"}},
	}, observed)
	want := v1alpha1.NodePoolSpec{
		Fleet: "shops", DisplayName: "Berlin", Type: "Edge",
		Labels:      map[string]v1alpha1.LabelValue{"a": "b"},
		Annotations: map[string]string{"c": "d"},
		Taints:      []v1alpha1.Taint{{Key: "k", Value: "v", Effect: "NoSchedule"}},
	}
	if !reflect.DeepEqual(got.Spec, want) {
		t.Errorf("spec %+v, want %+v", got.Spec, want)
	}
	if got.Labels["foreign"] != "y" || got.Labels["app.kubernetes.io/managed-by"] != fieldManager || got.ResourceVersion != "7" {
		t.Errorf("metadata %+v", got.ObjectMeta)
	}
	if same(observed, got, observed.Spec, got.Spec) {
		t.Error("a changed pool needs no write")
	}
	again := nodePool(&plan.Pool{Fleet: "shops", Name: "berlin", DisplayName: "Berlin", Type: "Edge", Labels: map[string]string{"a": "b"},
		Annotations: map[string]string{"c": "d"}, Taints: []plan.Taint{{Key: "k", Value: "v", Effect: "NoSchedule"}}}, got)
	if !same(got, again, got.Spec, again.Spec) {
		t.Error("an unchanged pool needs a write")
	}
}

func TestEdgeNodeFromPlan(t *testing.T) {
	n := plan.Node{Fleet: "shops", Pool: "berlin", Name: "till-1"}
	got := edgeNode(&n, &v1alpha1.EdgeNode{Status: v1alpha1.EdgeNodeStatus{AgentVersion: "v1"}})
	if got.Name != "till-1" || got.Labels[plan.PoolLabel] != "berlin" || got.Status.AgentVersion != "v1" ||
		got.Spec != (v1alpha1.EdgeNodeSpec{Fleet: "shops", Pool: "berlin", PlanDigest: n.Digest()}) {
		t.Errorf("EdgeNode %+v", got)
	}
}

func TestPoolStatus(t *testing.T) {
	now := metav1.NewTime(time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC))
	rev := strings.Repeat("a", 40)
	pic := &picture{
		source:   condition.Condition{Type: condition.SourceReady, Status: condition.True, Reason: condition.ReasonFetched},
		verified: condition.Condition{Type: condition.Verified, Status: condition.False, Reason: "Unsigned", Message: "commit x"},
		planned:  condition.Condition{Type: condition.PlanReady, Status: condition.True, Reason: condition.ReasonPlanned},
		rollout:  newRollout(rev, []*plan.Pool{poolOf("berlin")}, map[string]condition.Condition{"paris": {Type: condition.PlanReady, Status: condition.False, Reason: "InvalidFleet", Message: "x"}}, clashes{}, nil),
	}
	pool := &v1alpha1.NodePool{}
	pool.Name, pool.Generation = "berlin", 4
	sum := rollup.Pool{Nodes: 5, Ready: 1, Synced: 5, Trouble: []rollup.Trouble{
		{Node: "a", Reason: "KubeletNotReady"}, {Node: "b", Reason: "BackingOff"}, {Node: "c", Reason: "Unsigned", Ready: true}, {Node: "d", Reason: "X"}, {Node: "e", Reason: "Y"},
	}}
	status := poolStatus(pool, sum, pic, now)
	var got []string
	for _, c := range status.Conditions {
		if c.ObservedGeneration != 4 || !c.LastTransitionTime.Equal(&now) {
			t.Errorf("%s: observedGeneration %d, at %s", c.Type, c.ObservedGeneration, c.LastTransitionTime)
		}
		got = append(got, c.Type+"="+string(c.Status)+" "+c.Reason+" "+c.Message)
	}
	want := []string{
		"PlanReady=True Planned ",
		"Ready=False NodesNotReady 1 of 5 nodes are ready: a (KubeletNotReady), b (BackingOff), d (X) …",
		"SourceReady=True Fetched ",
		"Synced=True Reconciled 5 of 5 nodes are at the newest plan",
		"Verified=False Unsigned commit x",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("conditions\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if status.Revision != rev || status.ObservedGeneration != 4 || status.Nodes != 5 || status.Ready != 1 || status.Synced != 5 {
		t.Errorf("status %+v", status)
	}
	// Later the same: nothing changes, so nothing is written.
	pool.Status = status
	if again := poolStatus(pool, sum, pic, metav1.NewTime(now.Add(time.Hour))); !reflect.DeepEqual(again, status) {
		t.Errorf("again %+v", again)
	}
	// A pool that gives no plan keeps the revision it has.
	paris := &v1alpha1.NodePool{Status: v1alpha1.NodePoolStatus{Revision: strings.Repeat("b", 40)}}
	paris.Name = "paris"
	if s := poolStatus(paris, rollup.Pool{}, pic, now); s.Revision != paris.Status.Revision {
		t.Errorf("revision %s", s.Revision)
	}
}
