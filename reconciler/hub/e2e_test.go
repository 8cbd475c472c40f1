//go:build e2e

package hub

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/policy/verify"
	"github.com/holdfast-dev/holdfast/policy/verify/verifytest"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
	"github.com/holdfast-dev/holdfast/test/gitserver"
)

func TestRevisionReachesTheCluster(t *testing.T) {
	w := newWorld(t, "reach", files(
		poolFile("reach-a", `
	displayName: "A"
	taints: "kelp.example/dedicated": {value: "edge", effect: "NoSchedule"}
	nodes: {
		"reach-1": labels: {"node-restriction.kubernetes.io/pci": "yes", "kelp.example/row": "3", "node-role.kubernetes.io/edge": ""}
		"reach-2": {}
	}`),
		poolFile("reach-b", `nodes: "reach-3": {}`)))
	w.newNode("reach-1", corev1.Taint{Key: "node.kubernetes.io/unreachable", Effect: corev1.TaintEffectNoExecute}, corev1.Taint{Key: uninitializedTaint, Effect: corev1.TaintEffectNoSchedule})
	stop := w.start()

	w.eventually("EdgeNode reach-1", func() error {
		n, err := w.edgeNode("reach-1")
		if err == nil && (n.Spec.Pool != "reach-a" || n.Spec.Fleet != "reach" || !strings.HasPrefix(n.Spec.PlanDigest, "sha256:") || n.Labels[plan.PoolLabel] != "reach-a") {
			err = fmt.Errorf("spec %+v, labels %v", n.Spec, n.Labels)
		}
		return err
	})
	w.eventually("Node reach-1 is marked", func() error {
		n, err := w.node("reach-1")
		if err != nil {
			return err
		}
		want := map[string]string{plan.PoolLabel: "reach-a", "node-restriction.kubernetes.io/pci": "yes", "node-role.kubernetes.io/edge": ""}
		for k, v := range want {
			if got, ok := n.Labels[k]; !ok || got != v {
				return fmt.Errorf("labels %v, want %s=%s", n.Labels, k, v)
			}
		}
		if _, ok := n.Labels["kelp.example/row"]; ok {
			return errors.New("the hub set a label that is the node's to set")
		}
		if got, want := formatTaints(n.Spec.Taints), "node.kubernetes.io/unreachable:NoExecute kelp.example/dedicated=edge:NoSchedule"; got != want {
			return fmt.Errorf("taints %q, want %q", got, want)
		}
		return nil
	})
	w.newNode("reach-2") // a kubelet that registers later
	w.eventually("Node reach-2 is marked", func() error {
		n, err := w.node("reach-2")
		if err == nil && (n.Labels[plan.PoolLabel] != "reach-a" || formatTaints(n.Spec.Taints) != "kelp.example/dedicated=edge:NoSchedule") {
			err = fmt.Errorf("labels %v, taints %v", n.Labels, n.Spec.Taints)
		}
		return err
	})
	w.condition("reach-a", "Verified", "True", "Accepted", w.anchor[:12])
	w.condition("reach-a", "SourceReady", "True", "Fetched", "")
	w.condition("reach-a", "PlanReady", "True", "Planned", w.anchor[:12])
	w.condition("reach-b", "Synced", "False", "NotSynced", "0 of 1 nodes are at the newest plan: reach-3 (NodeMissing)")

	// The node reports: the pool counts it.
	edge, err := w.edgeNode("reach-2")
	w.must(err)
	w.reportReady("reach-2", edge.Spec.PlanDigest, w.anchor)
	w.eventually("the pool counts reach-2", func() error {
		p, err := w.pool("reach-a")
		if err == nil && (p.Status.Nodes != 2 || p.Status.Ready != 1 || p.Status.Synced != 1 || len(p.Status.Revisions) != 1 || p.Status.Revisions[0].Revision != w.anchor) {
			err = fmt.Errorf("status %+v", p.Status)
		}
		return err
	})

	// What others change is put back; what is theirs stays.
	out, err := w.lab.Kubectl(t.Context(), "label", "node", "reach-1", plan.PoolLabel+"=elsewhere", "node-restriction.kubernetes.io/pci-", "foreign=1", "--overwrite")
	if err != nil {
		t.Fatal(out, err)
	}
	p, err := w.pool("reach-a")
	w.must(err)
	p.Spec.DisplayName, p.Spec.Type = "mine", "Cloud"
	w.must(w.admin.Update(t.Context(), p))
	w.must(w.admin.Delete(t.Context(), edge))
	w.eventually("all is put back", func() error {
		n, err1 := w.node("reach-1")
		p, err2 := w.pool("reach-a")
		_, err3 := w.edgeNode("reach-2")
		if err := errors.Join(err1, err2, err3); err != nil {
			return err
		}
		if n.Labels[plan.PoolLabel] != "reach-a" || n.Labels["node-restriction.kubernetes.io/pci"] != "yes" || n.Labels["foreign"] != "1" {
			return fmt.Errorf("labels %v", n.Labels)
		}
		if p.Spec.DisplayName != "A" || p.Spec.Type != "Edge" {
			return fmt.Errorf("spec %+v", p.Spec)
		}
		return nil
	})

	// A label and a taint leave the plan, a node leaves the fleet, one moves, a pool goes.
	tip := w.repo.Commit(verifytest.Commit{By: w.repo.Key("alice"), Remove: []string{"pools/reach-b"}, Files: poolFile("reach-a", `
	nodes: {
		"reach-1": labels: "node-role.kubernetes.io/edge": ""
		"reach-3": {}
	}`)})
	w.eventually("the second revision is rolled out", func() error {
		n, err := w.node("reach-1")
		if err != nil {
			return err
		}
		if _, ok := n.Labels["node-restriction.kubernetes.io/pci"]; ok || n.Labels[plan.PoolLabel] != "reach-a" || n.Labels["foreign"] != "1" {
			return fmt.Errorf("labels %v", n.Labels)
		}
		if got := formatTaints(n.Spec.Taints); got != "node.kubernetes.io/unreachable:NoExecute" {
			return fmt.Errorf("taints %q", got)
		}
		gone, err := w.node("reach-2")
		if err != nil {
			return err
		}
		if _, ok := gone.Labels[plan.PoolLabel]; ok || len(gone.Spec.Taints) > 0 || gone.Annotations[fleetAnnotation] != "" {
			return fmt.Errorf("a node that left keeps %v %v %v", gone.Labels, gone.Annotations, gone.Spec.Taints)
		}
		moved, err := w.edgeNode("reach-3")
		if err == nil && moved.Spec.Pool != "reach-a" {
			err = fmt.Errorf("reach-3 is in %s", moved.Spec.Pool)
		}
		_, err2 := w.edgeNode("reach-2")
		_, err3 := w.pool("reach-b")
		if err == nil && (!apierrors.IsNotFound(err2) || !apierrors.IsNotFound(err3)) {
			err = fmt.Errorf("still there: EdgeNode reach-2 (%v), NodePool reach-b (%v)", err2, err3)
		}
		return err
	})
	w.condition("reach-a", "Verified", "True", "Accepted", tip[:12])

	// Descent survives a restart: an older signed revision is not taken although the clone is new.
	stop()
	w.repo.SetRef("refs/heads/"+verifytest.Branch, w.anchor)
	w.start()
	w.condition("reach-a", "Verified", "False", "NotDescendant", tip[:12]+" stays in force")
	if _, err := w.pool("reach-b"); !apierrors.IsNotFound(err) {
		t.Errorf("the replayed revision brought pool reach-b back: %v", err)
	}
}

func TestRejectedRevisionChangesNothing(t *testing.T) {
	w := newWorld(t, "reject", poolFile("reject-a", `nodes: "reject-1": {}`))
	w.start()
	w.condition("reject-a", "Verified", "True", "Accepted", "")
	bad := w.repo.PushUnsigned(poolFile("reject-a", `nodes: {"reject-1": {}, "reject-2": {}}`))
	w.condition("reject-a", "Verified", "False", "Unsigned", "revision "+bad[:12]+" is rejected and "+w.anchor[:12]+" stays in force")
	w.eventually("an Event says so", func() error {
		var events corev1.EventList
		if err := w.admin.List(t.Context(), &events, client.InNamespace("reject")); err != nil {
			return err
		}
		for _, e := range events.Items {
			if e.Reason == "Unsigned" && e.InvolvedObject.Name == stateName && e.Type == corev1.EventTypeWarning {
				return nil
			}
		}
		return fmt.Errorf("%d events, none of them", len(events.Items))
	})
	if _, err := w.edgeNode("reject-2"); !apierrors.IsNotFound(err) {
		t.Errorf("the unsigned revision made EdgeNode reject-2: %v", err)
	}
	// It is removed, and the next one is in force.
	w.repo.SetRef("refs/heads/"+verifytest.Branch, w.anchor)
	good := w.repo.Push("carol", poolFile("reject-a", `nodes: {"reject-1": {}, "reject-3": {}}`))
	w.condition("reject-a", "Verified", "True", "Accepted", good[:12])
	w.eventually("reject-3", func() error { _, err := w.edgeNode("reject-3"); return err })

	// The Git server goes away: it is said, nothing else happens.
	w.git.Set(gitserver.Answer(http.StatusBadGateway))
	w.condition("reject-a", "SourceReady", "False", "Unreachable", "")
	w.condition("reject-a", "Verified", "True", "Accepted", good[:12])
	w.git.Set(gitserver.Healthy)
	w.condition("reject-a", "SourceReady", "True", "Fetched", "")
}

func TestContestedNodeStaysAsItIs(t *testing.T) {
	w := newWorld(t, "twice", files(poolFile("twice-a", `nodes: "twice-1": {}`), poolFile("twice-b", `nodes: "twice-2": {}`)))
	w.start()
	w.condition("twice-b", "PlanReady", "True", "Planned", w.anchor[:12])
	w.repo.Push("alice", poolFile("twice-b", `
	displayName: "changed"
	nodes: {"twice-1": {}, "twice-2": {}}`))
	w.condition("twice-a", "PlanReady", "False", "DuplicateNode", "node twice-1 is in pool twice-a as well")
	w.condition("twice-b", "PlanReady", "False", "DuplicateNode", "node twice-1 is in pool twice-a as well")
	n, err := w.edgeNode("twice-1")
	w.must(err)
	p, err := w.pool("twice-b")
	w.must(err)
	if n.Spec.Pool != "twice-a" || p.Spec.DisplayName != "changed" || p.Status.Revision != w.anchor {
		t.Errorf("node in %s, pool %+v", n.Spec.Pool, p)
	}
	// A pool that gives no plan holds up nobody else, and keeps what it has.
	w.repo.Push("alice", files(poolFile("twice-b", `nodes: {"twice-1": {}, "twice-2": {}}`), verifytest.Files{"pools/twice-a/pool.cue": "package fleet\n\npool: {name: 7}\n"}))
	w.condition("twice-a", "PlanReady", "False", "InvalidFleet", "pools/twice-a/pool.cue:3:")
	w.condition("twice-b", "PlanReady", "True", "Planned", "")
	n, err = w.edgeNode("twice-1")
	w.must(err)
	if n.Spec.Pool != "twice-a" {
		t.Errorf("twice-1 went to %s while its pool cannot be read", n.Spec.Pool)
	}
	tip := w.repo.Push("alice", poolFile("twice-a", ``))
	w.condition("twice-a", "PlanReady", "True", "Planned", tip[:12])
	w.eventually("twice-1 has moved", func() error {
		n, err := w.edgeNode("twice-1")
		if err == nil && n.Spec.Pool != "twice-b" {
			err = fmt.Errorf("it is in %s", n.Spec.Pool)
		}
		return err
	})
}

func TestForeignObjectsAreLeftAlone(t *testing.T) {
	one := newWorld(t, "mine", poolFile("shared", `nodes: "shared-1": {}`))
	one.newNode("shared-1")
	one.start()
	one.condition("shared", "PlanReady", "True", "Planned", "")
	two := newWorld(t, "yours", files(poolFile("shared", `nodes: {"shared-1": {}, "shared-2": {}}`), poolFile("other", `nodes: {}`)))
	two.start()
	two.condition("other", "PlanReady", "True", "Planned", "")
	two.eventually("the second fleet's own node", func() error { _, err := two.edgeNode("shared-2"); return err })
	p, err := one.pool("shared")
	one.must(err)
	n, err := one.node("shared-1")
	one.must(err)
	two.eventually("an Event says so", func() error {
		var events corev1.EventList
		if err := two.admin.List(t.Context(), &events, client.InNamespace("default")); err != nil {
			return err
		}
		for _, kind := range []string{"NodePool", "EdgeNode"} {
			if !slices.ContainsFunc(events.Items, func(e corev1.Event) bool {
				return e.Reason == condition.ReasonForeignFleet && e.InvolvedObject.Kind == kind && strings.Contains(e.Message, `fleet "mine"`)
			}) {
				return fmt.Errorf("%d events, none of them about the %s", len(events.Items), kind)
			}
		}
		return nil
	})
	if p.Spec.Fleet != "mine" || n.Annotations[fleetAnnotation] != "mine" {
		t.Errorf("the other fleet's hub took pool %+v or node %v", p.Spec, n.Annotations)
	}
}

// TestTaintsUnderConcurrentChange has somebody else add and remove taints all the time, as the node lifecycle controller does,
// while revisions add and remove others: nobody's may be lost.
func TestTaintsUnderConcurrentChange(t *testing.T) {
	const node = "taint-1"
	rev := func(i int) verifytest.Files {
		return poolFile("taint-a", `nodes: %q: taints: "kelp.example/rev-%d": effect: "NoSchedule"`, node, i)
	}
	w := newWorld(t, "taint", rev(0))
	w.newNode(node)
	w.start()
	foreign := 0
	for i := range 6 {
		if i > 0 {
			w.repo.Push("alice", rev(i))
		}
		want := fmt.Sprintf("kelp.example/rev-%d", i)
		w.eventually("taint "+want, func() error {
			n, err := w.node(node)
			if err != nil {
				return err
			}
			foreign++
			n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: fmt.Sprintf("foreign.example/t%d", foreign), Effect: corev1.TaintEffectNoSchedule})
			if err := w.admin.Update(t.Context(), n); apierrors.IsConflict(err) {
				foreign-- // the hub was faster: this taint was never set
			} else if err != nil {
				return err
			}
			for _, taint := range n.Spec.Taints {
				if taint.Key == want {
					return nil
				}
			}
			return fmt.Errorf("taints %s", formatTaints(n.Spec.Taints))
		})
	}
	w.eventually("only the last revision's taint is left", func() error {
		n, err := w.node(node)
		if err != nil {
			return err
		}
		ours, theirs := 0, 0
		for _, taint := range n.Spec.Taints {
			switch {
			case taint.Key == "kelp.example/rev-5":
				ours++
			case strings.HasPrefix(taint.Key, "foreign.example/"):
				theirs++
			default:
				return fmt.Errorf("left over: %s", taint.Key)
			}
		}
		if ours != 1 || theirs != foreign {
			return fmt.Errorf("%d of ours, %d foreign ones of %d", ours, theirs, foreign)
		}
		return nil
	})
}

// TestStateIsOneWriters: two hubs that both think they lead cannot both go on.
func TestStateIsOneWriters(t *testing.T) {
	w := newWorld(t, "state", nil)
	cluster, err := kubernetes.NewForConfig(w.asHub)
	w.must(err)
	one, two := &configMapState{cluster: cluster, namespace: "state"}, &configMapState{cluster: cluster, namespace: "state"}
	for _, s := range []*configMapState{one, two} {
		w.eventually("the hub may read its state", func() error {
			v, err := s.load(t.Context())
			if err == nil && v.Anchor != "" {
				t.Errorf("a new hub has state %+v", v)
			}
			return err
		})
	}
	w.eventually("the hub may write its state", func() error {
		return one.save(t.Context(), stored{Anchor: "a", State: verify.State{Fleet: "state", Accepted: "1", Generation: 1}})
	})
	if err := two.save(t.Context(), stored{Anchor: "b"}); !errors.Is(err, errTakenOver) {
		t.Errorf("the second hub made the state anew: %v", err)
	}
	v, err := two.load(t.Context())
	if err != nil || v.State.Accepted != "1" {
		t.Fatalf("loaded %+v, %v", v, err)
	}
	w.must(one.save(t.Context(), stored{Anchor: "a", State: verify.State{Accepted: "2"}}))
	if err := two.save(t.Context(), stored{Anchor: "b"}); !errors.Is(err, errTakenOver) {
		t.Errorf("the second hub wrote over the first: %v", err)
	}
	out, err := w.lab.Kubectl(t.Context(), "patch", "configmap", stateName, "-n", "state", "--type=merge", "-p", `{"data":{"state.json":"{"}}`)
	if err != nil {
		t.Fatal(out, err)
	}
	if _, err := one.load(t.Context()); err == nil || !strings.Contains(err.Error(), "delete it to enrol anew at --anchor") {
		t.Errorf("a state that cannot be read: %v", err)
	}
}
