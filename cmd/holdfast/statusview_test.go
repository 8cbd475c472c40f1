package main

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/reconciler/hub/api/v1alpha1"
	"github.com/holdfast-dev/holdfast/reconciler/hub/rollup"
)

const statusDigest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"

func statusPool(name string, conditions ...metav1.Condition) v1alpha1.NodePool {
	p := v1alpha1.NodePool{Spec: v1alpha1.NodePoolSpec{Type: "Edge"}, Status: v1alpha1.NodePoolStatus{Conditions: conditions}}
	p.Name = name
	return p
}

func statusNode(pool, name, ready, reason, message string) v1alpha1.EdgeNode {
	n := v1alpha1.EdgeNode{Spec: v1alpha1.EdgeNodeSpec{Pool: pool, PlanDigest: statusDigest}}
	n.Name = name
	n.Status = v1alpha1.EdgeNodeStatus{Revision: strings.Repeat("a", 40), PlanDigest: statusDigest,
		Conditions: []metav1.Condition{{Type: "Ready", Status: metav1.ConditionStatus(ready), Reason: reason, Message: message}}}
	return n
}

func kubeletUp(string) rollup.Kubelet { return rollup.Kubelet{Known: true, Ready: true} }

func rendered(t *testing.T, f *fleetView, o viewOptions) string {
	t.Helper()
	var b strings.Builder
	if err := render(&b, f, o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestStatusOfAnEmptyFleet(t *testing.T) {
	f := compose(nil, nil, kubeletUp)
	if got, want := rendered(t, f, viewOptions{}), "No pools yet: the hub makes them from the fleet repo. Is it running? See docs/hub.md.\n"; got != want {
		t.Errorf("got %q", got)
	}
	if got, want := rendered(t, f, viewOptions{pool: "berlin"}), "There is no pool berlin.\n"; got != want {
		t.Errorf("got %q", got)
	}
	one := compose([]v1alpha1.NodePool{statusPool("berlin")}, nil, kubeletUp)
	if got, want := rendered(t, one, viewOptions{}), `1 pool, 0 nodes: 0 ready, 0 synced

POOL     TYPE   NODES   READY   SYNCED   REVISIONS IN USE
berlin   Edge   0       0       0        
`; got != want {
		t.Errorf("got\n%s", got)
	}
}

func TestStatusShowsTrouble(t *testing.T) {
	rejected := metav1.Condition{Type: "Verified", Status: "False", Reason: "Unsigned", Message: "revision bbbbbbbbbbbb is rejected and aaaaaaaaaaaa stays in force: commit bbbbbbbbbbbb carries no signature"}
	broken := metav1.Condition{Type: "PlanReady", Status: "False", Reason: "InvalidFleet", Message: "pools/paris/pool.cue:3:5: conflicting values"}
	f := compose(
		[]v1alpha1.NodePool{statusPool("paris", rejected, broken), statusPool("berlin", rejected, metav1.Condition{Type: "PlanReady", Status: "True"})},
		[]v1alpha1.EdgeNode{
			statusNode("berlin", "till-1", "True", "Reconciled", ""),
			statusNode("paris", "till-3", "False", "BackingOff", "several\nlines  of it"),
			statusNode("paris", "till-2", "True", "Reconciled", ""),
			statusNode("ghost", "lost-1", "True", "Reconciled", ""),
		},
		func(name string) rollup.Kubelet {
			return rollup.Kubelet{Known: true, Ready: name != "till-2", Message: "Kubernetes calls the Node NotReady"}
		})
	want := `3 pools, 4 nodes: 2 ready, 4 synced
Verified: Unsigned: revision bbbbbbbbbbbb is rejected and aaaaaaaaaaaa stays in force: commit bbbbbbbbbbbb carries no signature

POOL     TYPE   NODES   READY   SYNCED   REVISIONS IN USE
berlin   Edge   1       1       1        aaaaaaaaaaaa (1)
ghost           1       1       1        aaaaaaaaaaaa (1)
paris    Edge   2       0       2        aaaaaaaaaaaa (2)
ghost: PlanReady: PoolAbsent: there is no NodePool of that name
paris: PlanReady: InvalidFleet: pools/paris/pool.cue:3:5: conflicting values

NODE     POOL    REASON            MESSAGE
till-2   paris   KubeletNotReady   Kubernetes calls the Node NotReady
till-3   paris   BackingOff        several lines of it
`
	if got := rendered(t, f, viewOptions{}); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := rendered(t, f, viewOptions{color: true}); !strings.Contains(got, "\x1b[31mVerified: Unsigned:\x1b[0m revision") {
		t.Errorf("no colour in\n%s", got)
	}
}

// TestStatusOfALargeFleet: ten thousand nodes, all but a hundred of them well, fit on a screen.
func TestStatusOfALargeFleet(t *testing.T) {
	var pools []v1alpha1.NodePool
	var nodes []v1alpha1.EdgeNode
	for p := range 500 {
		name := fmt.Sprintf("site-%03d", p)
		pools = append(pools, statusPool(name))
		for n := range 20 {
			ready := "True"
			if p < 5 {
				ready = "False"
			}
			nodes = append(nodes, statusNode(name, fmt.Sprintf("%s-%02d", name, n), ready, "BackingOff", "x"))
		}
	}
	f := compose(pools, nodes, kubeletUp)
	got := rendered(t, f, viewOptions{})
	if lines := strings.Count(got, "\n"); lines > 32 {
		t.Errorf("%d lines", lines)
	}
	for _, want := range []string{
		"500 pools, 10000 nodes: 9900 ready, 10000 synced\n",
		"… and 495 pools with nothing wrong (--all lists them)\n",
		"… and 80 more nodes in trouble (--all lists them)\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if lines := strings.Count(rendered(t, f, viewOptions{all: true}), "\n"); lines != 1+2+500+2+100 {
		t.Errorf("--all has %d lines", lines)
	}
}

func TestInUse(t *testing.T) {
	var revisions []v1alpha1.RevisionInUse
	for i := range 4 {
		revisions = append(revisions, v1alpha1.RevisionInUse{Revision: strings.Repeat(fmt.Sprint(i), 40), Nodes: int32(9 - i)})
	}
	if got, want := inUse(revisions), "000000000000 (9), 111111111111 (8), 222222222222 (7), …"; got != want {
		t.Errorf("inUse = %q", got)
	}
}
