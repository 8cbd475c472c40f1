//go:build e2e

package install

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"github.com/holdfast-dev/holdfast/reconciler/plan"
	"github.com/holdfast-dev/holdfast/test/lab"
	"github.com/holdfast-dev/holdfast/test/lab/labtest"
)

var (
	edgeNodes = schema.GroupVersionResource{Group: "fleet.holdfast.dev", Version: "v1alpha1", Resource: "edgenodes"}
	nodePools = schema.GroupVersionResource{Group: "fleet.holdfast.dev", Version: "v1alpha1", Resource: "nodepools"}
	nodes     = schema.GroupVersionResource{Version: "v1", Resource: "nodes"}
)

func client(t *testing.T, kubeconfig string, err error) dynamic.Interface {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	cfg.QPS = -1
	c, err := dynamic.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// installed gives a lab with everything installed, and its administrator's client.
func installed(t *testing.T) (*lab.Lab, dynamic.Interface) {
	t.Helper()
	l := labtest.Shared(t)
	admin := client(t, l.AdminKubeconfig(), nil)
	objects, err := Objects()
	if err != nil {
		t.Fatal(err)
	}
	if err := Apply(t.Context(), admin, objects, func(Step) {}); err != nil {
		t.Fatal(err)
	}
	return l, admin
}

func object(t *testing.T, yaml string) *unstructured.Unstructured {
	t.Helper()
	obj := &unstructured.Unstructured{}
	if err := unmarshal(yaml, &obj.Object); err != nil {
		t.Fatal(err)
	}
	return obj
}

func edgeNode(t *testing.T, name string) *unstructured.Unstructured {
	return object(t, fmt.Sprintf(`{apiVersion: fleet.holdfast.dev/v1alpha1, kind: EdgeNode, metadata: {name: %s}, spec: {fleet: shops, pool: berlin}}`, name))
}

func report(t *testing.T, name, version string) *unstructured.Unstructured {
	return object(t, fmt.Sprintf(`{apiVersion: fleet.holdfast.dev/v1alpha1, kind: EdgeNode, metadata: {name: %s}, status: {agentVersion: %s}}`, name, version))
}

// eventually polls until try gives nil: policies and RBAC reach the API server's caches a moment after they are written.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		select {
		case <-t.Context().Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// denied gives nil if err is the API server's 403 with that text.
func denied(err error, text string) error {
	switch {
	case err == nil:
		return fmt.Errorf("the API server took it, want 403 with %q", text)
	case !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), text):
		return fmt.Errorf("got %w, want 403 with %q", err, text)
	}
	return nil
}

func TestApplyIsIdempotent(t *testing.T) {
	l := labtest.Start(t, lab.Options{})
	admin := client(t, l.AdminKubeconfig(), nil)
	objects, err := Objects()
	if err != nil {
		t.Fatal(err)
	}
	outcomes := func() (out []Outcome) {
		if err := Apply(t.Context(), admin, objects, func(s Step) { out = append(out, s.Outcome) }); err != nil {
			t.Fatal(err)
		}
		return out
	}
	for i, o := range outcomes() {
		if o != Created {
			t.Errorf("first time, %s: %s", objects[i].GetName(), o)
		}
	}
	// A new CustomResourceDefinition gets its status from the API server: from here on nothing may change any more.
	for i, o := range outcomes() {
		if o != Unchanged {
			t.Errorf("second time, %s: %s", objects[i].GetName(), o)
		}
	}
	role := admin.Resource(schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles"})
	if _, err := role.Patch(t.Context(), "holdfast-node", types.MergePatchType, []byte(`{"rules":[]}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	for i, o := range outcomes() {
		if want := map[bool]Outcome{true: Changed, false: Unchanged}[objects[i].GetName() == "holdfast-node" && objects[i].GetKind() == "ClusterRole"]; o != want {
			t.Errorf("after somebody took the rules away, %s %s: %s, want %s", objects[i].GetKind(), objects[i].GetName(), o, want)
		}
	}
}

func TestNodeReportsOfItselfOnly(t *testing.T) {
	l, admin := installed(t)
	for _, name := range []string{"own-a", "own-b"} {
		if _, err := admin.Resource(edgeNodes).Create(t.Context(), edgeNode(t, name), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	kubeconfig, err := l.NodeKubeconfig("own-a")
	a := client(t, kubeconfig, err)
	apply := metav1.ApplyOptions{FieldManager: "holdfast-agent", Force: true}
	eventually(t, "a writes its own status", func() error {
		_, err := a.Resource(edgeNodes).ApplyStatus(t.Context(), "own-a", report(t, "own-a", "v1"), apply)
		return err
	})
	eventually(t, "a writes b's status", func() error {
		_, err := a.Resource(edgeNodes).ApplyStatus(t.Context(), "own-b", report(t, "own-b", "evil"), apply)
		return denied(err, `may write only the status of its own EdgeNode, not that of "own-b"`)
	})
	if _, err := a.Resource(edgeNodes).Get(t.Context(), "own-a", metav1.GetOptions{}); err != nil {
		t.Errorf("a reads its own EdgeNode: %v", err)
	}
	// The status subresource takes the status and nothing else, whatever comes with it.
	patch := []byte(`{"metadata":{"labels":{"x":"y"},"finalizers":["x.example.com/y"]},"spec":{"pool":"vault"},"status":{"agentVersion":"v2"}}`)
	got, err := a.Resource(edgeNodes).Patch(t.Context(), "own-a", types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		t.Fatal(err)
	}
	pool, _, _ := unstructured.NestedString(got.Object, "spec", "pool")
	version, _, _ := unstructured.NestedString(got.Object, "status", "agentVersion")
	if pool != "berlin" || version != "v2" || len(got.GetLabels()) != 0 || len(got.GetFinalizers()) != 0 {
		t.Errorf("a patch of the status made it %v", got.Object)
	}
	for what, try := range map[string]func() error{
		"list": func() error { _, err := a.Resource(edgeNodes).List(t.Context(), metav1.ListOptions{}); return err },
		"own spec": func() error {
			_, err := a.Resource(edgeNodes).Patch(t.Context(), "own-a", types.MergePatchType, []byte(`{"spec":{"pool":"vault"}}`), metav1.PatchOptions{})
			return err
		},
		"create": func() error {
			_, err := a.Resource(edgeNodes).Create(t.Context(), edgeNode(t, "own-c"), metav1.CreateOptions{})
			return err
		},
		"delete": func() error { return a.Resource(edgeNodes).Delete(t.Context(), "own-b", metav1.DeleteOptions{}) },
		"pools":  func() error { _, err := a.Resource(nodePools).Get(t.Context(), "x", metav1.GetOptions{}); return err },
	} {
		if err := denied(try(), "cannot"); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestPoliciesHoldWhateverRBACGrants gives nodes everything by RBAC: the policies alone must hold.
func TestPoliciesHoldWhateverRBACGrants(t *testing.T) {
	l, admin := installed(t)
	if out, err := l.Kubectl(t.Context(), "create", "clusterrolebinding", "too-much", "--clusterrole=cluster-admin", "--user=system:node:rich"); err != nil {
		t.Fatal(out, err)
	}
	for _, name := range []string{"rich", "poor"} {
		if _, err := admin.Resource(edgeNodes).Create(t.Context(), edgeNode(t, name), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	kubeconfig, err := l.NodeKubeconfig("rich")
	rich := client(t, kubeconfig, err)
	const nothing = "may write nothing of fleet.holdfast.dev but the status of its own EdgeNode"
	pool := object(t, `{apiVersion: fleet.holdfast.dev/v1alpha1, kind: NodePool, metadata: {name: vault}, spec: {fleet: shops}}`)
	merge := func(r schema.GroupVersionResource, name, patch string, sub ...string) error {
		_, err := rich.Resource(r).Patch(t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}, sub...)
		return err
	}
	for what, try := range map[string]func() error{
		"own spec":     func() error { return merge(edgeNodes, "rich", `{"spec":{"pool":"vault"}}`) },
		"own labels":   func() error { return merge(edgeNodes, "rich", `{"metadata":{"labels":{"x":"y"}}}`) },
		"another spec": func() error { return merge(edgeNodes, "poor", `{"spec":{"pool":"vault"}}`) },
		"delete own":   func() error { return rich.Resource(edgeNodes).Delete(t.Context(), "rich", metav1.DeleteOptions{}) },
		"delete all": func() error {
			return rich.Resource(edgeNodes).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{})
		},
		"create a node": func() error {
			_, err := rich.Resource(edgeNodes).Create(t.Context(), edgeNode(t, "third"), metav1.CreateOptions{})
			return err
		},
		"create a pool": func() error {
			_, err := rich.Resource(nodePools).Create(t.Context(), pool, metav1.CreateOptions{})
			return err
		},
	} {
		eventually(t, what, func() error { return denied(try(), nothing) })
	}
	eventually(t, "another's status", func() error {
		return denied(merge(edgeNodes, "poor", `{"status":{"agentVersion":"evil"}}`, "status"), "may write only the status of its own EdgeNode")
	})
	eventually(t, "own status", func() error { return merge(edgeNodes, "rich", `{"status":{"agentVersion":"v1"}}`, "status") })
}

func TestNodeCannotMarkItself(t *testing.T) {
	l, admin := installed(t)
	kubeconfig, err := l.NodeKubeconfig("marked")
	node := client(t, kubeconfig, err)
	register := func(metadata string) error {
		_, err := node.Resource(nodes).Create(t.Context(), object(t, fmt.Sprintf(`{apiVersion: v1, kind: Node, metadata: {name: marked, %s}}`, metadata)), metav1.CreateOptions{DryRun: []string{"All"}})
		return err
	}
	eventually(t, "register with the pool label", func() error {
		return denied(register(`labels: {fleet.holdfast.dev/pool: vault}`), "may not set, change or remove labels under fleet.holdfast.dev/")
	})
	eventually(t, "register with an annotation", func() error {
		return denied(register(`annotations: {fleet.holdfast.dev/taints: ""}`), "may not set, change or remove annotations under fleet.holdfast.dev/")
	})
	if err := register(`labels: {tier: till, kubernetes.io/hostname: marked}`); err != nil {
		t.Errorf("an ordinary registration: %v", err)
	}
	marked := object(t, `{apiVersion: v1, kind: Node, metadata: {name: marked, labels: {fleet.holdfast.dev/pool: berlin, tier: till}, annotations: {fleet.holdfast.dev/taints: "a:NoSchedule"}}}`)
	if _, err := admin.Resource(nodes).Create(t.Context(), marked, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, sub := range [][]string{nil, {"status"}} {
		patch := func(metadata string) error {
			_, err := node.Resource(nodes).Patch(t.Context(), "marked", types.MergePatchType, []byte(`{"metadata":`+metadata+`}`), metav1.PatchOptions{}, sub...)
			return err
		}
		for what, metadata := range map[string]string{
			"change": `{"labels":{"fleet.holdfast.dev/pool":"vault"}}`,
			"add":    `{"labels":{"fleet.holdfast.dev/new":"x"}}`,
			"remove": `{"labels":{"fleet.holdfast.dev/pool":null}}`,
			"all":    `{"labels":null}`,
		} {
			if err := denied(patch(metadata), "may not set, change or remove labels under"); err != nil {
				t.Errorf("%s label %v: %v", what, sub, err)
			}
		}
		for what, metadata := range map[string]string{
			"change": `{"annotations":{"fleet.holdfast.dev/taints":""}}`,
			"add":    `{"annotations":{"fleet.holdfast.dev/fleet":"x"}}`,
			"remove": `{"annotations":{"fleet.holdfast.dev/taints":null}}`,
		} {
			if err := denied(patch(metadata), "may not set, change or remove annotations under"); err != nil {
				t.Errorf("%s annotation %v: %v", what, sub, err)
			}
		}
		if err := patch(`{"labels":{"tier":"counter"},"annotations":{"example.com/x":"y"}}`); err != nil {
			t.Errorf("an ordinary change %v: %v", sub, err)
		}
	}
	// Administrators and controllers are not held to it: the hub is one of them.
	if _, err := admin.Resource(nodes).Patch(t.Context(), "marked", types.MergePatchType, []byte(`{"metadata":{"labels":{"fleet.holdfast.dev/pool":"paris"}}}`), metav1.PatchOptions{}); err != nil {
		t.Error(err)
	}
}

// TestNodeMaySetAgreesWithNodeRestriction asks the API server itself which labels a node may set.
func TestNodeMaySetAgreesWithNodeRestriction(t *testing.T) {
	l, admin := installed(t)
	if _, err := admin.Resource(nodes).Create(t.Context(), object(t, `{apiVersion: v1, kind: Node, metadata: {name: judge}}`), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	kubeconfig, err := l.NodeKubeconfig("judge")
	node := client(t, kubeconfig, err)
	try := func(ctx context.Context, label string) error {
		_, err := node.Resource(nodes).Patch(ctx, "judge", types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"labels":{%q:"x"}}}`, label), metav1.PatchOptions{DryRun: []string{"All"}})
		return err
	}
	eventually(t, "the policy is in force", func() error { return denied(try(t.Context(), plan.PoolLabel), "fleet.holdfast.dev") })
	for _, label := range []string{
		"tier", "example.com/tier", "notkubernetes.io/x", "my.fleet.holdfast.dev/x", plan.PoolLabel, "fleet.holdfast.dev/x",
		"kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch", "kubernetes.io/role", "beta.kubernetes.io/os", "beta.kubernetes.io/arch",
		"beta.kubernetes.io/instance-type", "beta.kubernetes.io/x", "node.kubernetes.io/instance-type", "node.kubernetes.io/x", "a.node.kubernetes.io/x",
		"topology.kubernetes.io/zone", "topology.kubernetes.io/region", "topology.kubernetes.io/rack", "failure-domain.beta.kubernetes.io/zone",
		"failure-domain.beta.kubernetes.io/region", "failure-domain.beta.kubernetes.io/x", "kubelet.kubernetes.io/x", "a.kubelet.kubernetes.io/x",
		"notkubelet.kubernetes.io/x", "node-role.kubernetes.io/edge", "node-restriction.kubernetes.io/x", "a.node-restriction.kubernetes.io/x",
		"k8s.io/x", "a.k8s.io/x", "notk8s.io/x",
	} {
		err := try(t.Context(), label)
		if err != nil && !apierrors.IsForbidden(err) {
			t.Fatalf("%s: %v", label, err)
		}
		if may := err == nil; may != plan.NodeMaySet(label) {
			t.Errorf("NodeMaySet(%q) = %v, the API server says %v: %v", label, plan.NodeMaySet(label), may, err)
		}
	}
}

func TestSchemasRefuseBadObjects(t *testing.T) {
	_, admin := installed(t)
	const head = `apiVersion: fleet.holdfast.dev/v1alpha1, kind: `
	for _, c := range []struct{ what, yaml, want string }{
		{"no fleet", head + `EdgeNode, metadata: {name: bad}, spec: {pool: berlin}`, "spec.fleet: Required value"},
		{"no spec", head + `EdgeNode, metadata: {name: bad}`, "spec: Required value"},
		{"pool is no label", head + `EdgeNode, metadata: {name: bad}, spec: {fleet: shops, pool: Berlin_1}`, "spec.pool: Invalid value"},
		{"no digest", head + `EdgeNode, metadata: {name: bad}, spec: {fleet: shops, pool: berlin, planDigest: abc}`, "spec.planDigest: Invalid value"},
		{"pool with a dot", head + `NodePool, metadata: {name: a.b}, spec: {fleet: shops}`, "a pool's name is a DNS label"},
		{"long pool", head + `NodePool, metadata: {name: ` + strings.Repeat("a", 64) + `}, spec: {fleet: shops}`, "a pool's name is a DNS label"},
		{"reserved label", head + `NodePool, metadata: {name: bad}, spec: {fleet: shops, labels: {fleet.holdfast.dev/pool: x}}`, "are the hub's own"},
		{"reserved annotation", head + `NodePool, metadata: {name: bad}, spec: {fleet: shops, annotations: {fleet.holdfast.dev/x: x}}`, "are the hub's own"},
		{"label value", head + `NodePool, metadata: {name: bad}, spec: {fleet: shops, labels: {a: "x y"}}`, "spec.labels.a: Invalid value"},
		{"effect", head + `NodePool, metadata: {name: bad}, spec: {fleet: shops, taints: [{key: a, effect: Never}]}`, "spec.taints[0].effect: Unsupported value"},
		{"taint twice", head + `NodePool, metadata: {name: bad}, spec: {fleet: shops, taints: [{key: a, effect: NoExecute}, {key: a, effect: NoExecute}]}`, "Duplicate value"},
	} {
		obj := object(t, "{"+c.yaml+"}")
		resource := map[string]schema.GroupVersionResource{"EdgeNode": edgeNodes, "NodePool": nodePools}[obj.GetKind()]
		_, err := admin.Resource(resource).Create(t.Context(), obj, metav1.CreateOptions{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: err = %v, want %q", c.what, err, c.want)
		}
	}
	if _, err := admin.Resource(edgeNodes).Create(t.Context(), edgeNode(t, "settled"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	merge := func(patch string, sub ...string) error {
		_, err := admin.Resource(edgeNodes).Patch(t.Context(), "settled", types.MergePatchType, []byte(patch), metav1.PatchOptions{}, sub...)
		return err
	}
	if err := merge(`{"spec":{"fleet":"other"}}`); err == nil || !strings.Contains(err.Error(), "a node does not change fleets") {
		t.Errorf("another fleet: %v", err)
	}
	if err := merge(`{"spec":{"pool":"paris"}}`); err != nil {
		t.Errorf("another pool: %v", err)
	}
	if err := merge(`{"status":{"revision":"main"}}`, "status"); err == nil || !strings.Contains(err.Error(), "status.revision: Invalid value") {
		t.Errorf("a revision that is no commit: %v", err)
	}
}

func unmarshal(text string, into *map[string]any) error { return yaml.Unmarshal([]byte(text), into) }
