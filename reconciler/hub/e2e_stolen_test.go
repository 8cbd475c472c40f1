//go:build e2e

package hub

import (
	"fmt"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

// TestStolenNodeKeepsNoMark: a node that says of its Node's fields what it likes keeps no label that left its plan, and has the
// hub take off none that somebody else set.
func TestStolenNodeKeepsNoMark(t *testing.T) {
	const name, pci, quarantine = "stolen-1", "node-restriction.kubernetes.io/pci", "node-restriction.kubernetes.io/quarantine"
	w := newWorld(t, "stolen", poolFile("stolen-a", `nodes: %q: labels: %q: "yes"`, name, pci))
	w.newNode(name)
	stop := w.start()
	w.eventually("the Node is marked", func() error {
		n, err := w.node(name)
		if err == nil && (n.Labels[pci] != "yes" || n.Annotations[labelsAnnotation] != plan.PoolLabel+","+pci) {
			err = fmt.Errorf("labels %v, annotations %v", n.Labels, n.Annotations)
		}
		return err
	})
	out, err := w.lab.Kubectl(t.Context(), "label", "node", name, quarantine+"=yes")
	if err != nil {
		t.Fatal(out, err)
	}
	stop()

	// The moment between a revision and the hub's hand is as long as the node wants it.
	w.repo.Push("alice", poolFile("stolen-a", `nodes: %q: {}`, name))
	file, err := w.lab.NodeKubeconfig(name)
	stolen, err := client.New(w.config(file, err), client.Options{Scheme: w.admin.Scheme()})
	w.must(err)
	n, err := w.node(name)
	w.must(err)
	merge := func(patch string) error {
		return stolen.Patch(t.Context(), n.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(patch)))
	}
	w.must(stolen.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(&unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Node", "metadata": map[string]any{"name": name, "labels": map[string]any{plan.PoolLabel: "stolen-a", pci: "yes"}},
	}}), client.FieldOwner("stolen")))
	w.must(merge(`{"metadata":{"managedFields":[{}]}}`))
	w.must(merge(fmt.Sprintf(`{"metadata":{"managedFields":[{"manager":%q,"operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:labels":{"f:%s":{}}}}}]}}`, fieldManager, quarantine)))
	for what, patch := range map[string]string{
		"change": fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, labelsAnnotation, plan.PoolLabel),
		"remove": fmt.Sprintf(`{"metadata":{"annotations":{%q:null}}}`, labelsAnnotation),
	} {
		if err := merge(patch); !apierrors.IsForbidden(err) {
			t.Errorf("%s the record: %v", what, err)
		}
	}

	w.start()
	w.eventually("the label is gone", func() error {
		n, err := w.node(name)
		if err != nil {
			return err
		}
		if _, ok := n.Labels[pci]; ok || n.Annotations[labelsAnnotation] != plan.PoolLabel {
			return fmt.Errorf("labels %v, annotations %v", n.Labels, n.Annotations)
		}
		if n.Labels[plan.PoolLabel] != "stolen-a" || n.Labels[quarantine] != "yes" {
			t.Fatalf("labels %v", n.Labels)
		}
		return nil
	})
}
