//go:build e2e

package hub

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/test/lab"
	"github.com/holdfast-dev/holdfast/test/lab/labtest"
)

// newPod makes a pod that says how long it bears a lost node; on is its node, or "" with a selector for the pool.
func (w *world) newPod(name, on, pool string, seconds ...int64) {
	w.t.Helper()
	pod := &corev1.Pod{}
	pod.Namespace, pod.Name, pod.Spec.NodeName = w.fleet, name, on
	pod.Spec.Containers = []corev1.Container{{Name: "web", Image: lab.WebImage, ImagePullPolicy: corev1.PullNever}}
	pod.Spec.AutomountServiceAccountToken = new(false)
	if pool != "" {
		pod.Spec.NodeSelector = map[string]string{"fleet.holdfast.dev/pool": pool}
	}
	for _, s := range seconds {
		for _, key := range lostTaints {
			pod.Spec.Tolerations = append(pod.Spec.Tolerations, tolerationOf(key, s))
		}
	}
	w.eventually("pod "+name, func() error { return w.admin.Create(w.t.Context(), pod) })
}

func (w *world) pod(name string) (*corev1.Pod, error) {
	p := &corev1.Pod{}
	return p, w.admin.Get(w.t.Context(), client.ObjectKey{Namespace: w.fleet, Name: name}, p)
}

// bears waits until a pod's tolerations are these, as render writes them.
func (w *world) bears(name, want string) {
	w.t.Helper()
	w.eventually("tolerations of pod "+name, func() error {
		p, err := w.pod(name)
		if err == nil && p.DeletionTimestamp != nil {
			return errors.New("it is being evicted")
		}
		if err == nil && render(p.Spec.Tolerations) != want {
			err = fmt.Errorf("%q, want %q", render(p.Spec.Tolerations), want)
		}
		return err
	})
}

// beat reports of a node every second until the test ends, as its kubelet would.
func (w *world) beat(name string) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for tick := time.NewTicker(time.Second); ; {
			n := &corev1.Node{}
			if w.admin.Get(ctx, client.ObjectKey{Name: name}, n) == nil {
				n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: metav1.Now(), LastTransitionTime: n.CreationTimestamp}}
				_ = w.admin.Status().Update(ctx, n) // the next one may succeed
			}
			select {
			case <-ctx.Done():
				tick.Stop()
				return
			case <-tick.C:
			}
		}
	}()
	w.t.Cleanup(func() { cancel(); <-done })
}

func (w *world) evicted(name string) {
	w.t.Helper()
	w.eventually("eviction of pod "+name, func() error {
		p, err := w.pod(name)
		if apierrors.IsNotFound(err) || err == nil && p.DeletionTimestamp != nil {
			return nil
		}
		return fmt.Errorf("it is there: %w", err)
	})
}

// lostFor waits until Kubernetes has held a node for lost for so long.
func (w *world) lostFor(node string, d time.Duration) {
	w.t.Helper()
	w.eventually("Node "+node+" is lost for "+d.String(), func() error {
		n, err := w.node(node)
		if err != nil {
			return err
		}
		for _, t := range n.Spec.Taints {
			if t.Key == corev1.TaintNodeUnreachable && t.Effect == corev1.TaintEffectNoExecute && t.TimeAdded != nil && time.Since(t.TimeAdded.Time) > d {
				return nil
			}
		}
		return fmt.Errorf("its taints are %s", formatTaints(n.Spec.Taints))
	})
}

// TestPodsOfLostNodesAreKept has the real controllers of Kubernetes lose two nodes that never report again.
func TestPodsOfLostNodesAreKept(t *testing.T) {
	l := labtest.Start(t, lab.Options{Controllers: true, ControllerFlags: []string{
		"--node-monitor-grace-period=4s", "--node-monitor-period=1s", "--node-startup-grace-period=4s"}})
	const hubUser = "system:serviceaccount:evict:holdfast-hub"
	far, near := poolFile("far", `autonomyDuration: "1h", nodes: "far-1": {}`), poolFile("near", `nodes: "near-1": {}`)
	w := newWorldIn(t, l, hubUser, "evict", files(far, near))
	for _, name := range []string{"far-1", "near-1"} {
		w.newNode(name)
	}
	// Kubernetes evicts nothing where most nodes are lost.
	for _, name := range []string{"steady-1", "steady-2", "steady-3"} {
		w.newNode(name)
		w.beat(name)
	}
	stop := w.start()
	w.newPod("kept", "far-1", "", 2)
	w.newPod("plain", "far-1", "")
	w.newPod("lost", "near-1", "", 2)
	w.bears("kept", "not-ready 3600, unreachable 3600")
	w.bears("plain", "not-ready 3600, unreachable 3600")

	// The policy, which needs no hub, for a pod that is not scheduled yet.
	w.eventually("the policy is in force", func() error {
		name := fmt.Sprintf("asks-%d", time.Now().UnixNano())
		w.newPod(name, "", "far")
		p, err := w.pod(name)
		if err == nil && render(p.Spec.Tolerations) != "not-ready 3600, unreachable 3600" {
			err = errors.New(render(p.Spec.Tolerations))
		}
		return err
	})
	w.newPod("asks-more", "", "far", 9000)
	w.bears("asks-more", "not-ready 9000, unreachable 9000")
	w.newPod("asks-near", "", "near")
	w.bears("asks-near", "not-ready 300, unreachable 300")

	w.evicted("lost")
	w.lostFor("far-1", 5*time.Second)
	w.bears("kept", "not-ready 3600, unreachable 3600")

	// The pool takes its word back: pods are as they were. Kubernetes itself changes no time that is running.
	w.repo.Push("carol", poolFile("far", `nodes: "far-1": {}`))
	w.bears("plain", "not-ready 300, unreachable 300")
	w.bears("kept", "not-ready 2, unreachable 2")
	stop()
	w.hubIsNarrow(hubUser)
}

// hubIsNarrow: of a pod the hub's account changes tolerations and its annotation, and nothing else.
func (w *world) hubIsNarrow(user string) {
	w.t.Helper()
	file, err := w.lab.Kubeconfig("narrow", user)
	hub, err := client.New(w.config(file, err), client.Options{Scheme: w.admin.Scheme()})
	w.must(err)
	target := &corev1.Pod{}
	target.Namespace, target.Name = w.fleet, "plain"
	for patch, fine := range map[string]bool{
		`{"spec":{"containers":[{"name":"web","image":"evil.example/miner"}]}}`:        false,
		`{"metadata":{"labels":{"app":"other"}}}`:                                      false,
		`{"metadata":{"annotations":{"other":"x"}}}`:                                   false,
		`{"spec":{"activeDeadlineSeconds":1}}`:                                         false,
		`{"metadata":{"annotations":{"fleet.holdfast.dev/eviction-seconds":"x=1/2"}}}`: true,
	} {
		err := hub.Patch(w.t.Context(), target.DeepCopy(), client.RawPatch(types.StrategicMergePatchType, []byte(patch)))
		if fine && err != nil || !fine && (!apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "the hub may change")) {
			w.t.Errorf("patch %s: %v", patch, err)
		}
	}
}
