package hub

import (
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

func TestMarksOf(t *testing.T) {
	got := marksOf(&plan.Node{
		Fleet: "shops", Pool: "berlin", Name: "till-1",
		Labels: map[string]string{
			"tier":                                "till", // the node's
			"topology.kubernetes.io/zone":         "de",   // the node's
			"node-restriction.kubernetes.io/pci":  "yes",
			"node-role.kubernetes.io/till":        "",
			"fleet.holdfast.dev/pool":             "paris", // no plan decides it
			"fleet.holdfast.dev/something":        "x",
			"kubelet.kubernetes.io/own":           "x", // the node's
			"sub.node-restriction.kubernetes.io/": "y",
		},
		Taints: []plan.Taint{{Key: "dedicated", Value: "till", Effect: "NoSchedule"}, {Key: uninitializedTaint, Effect: "NoSchedule"}},
	})
	want := marks{
		fleet: "shops",
		labels: map[string]string{
			"fleet.holdfast.dev/pool":             "berlin",
			"node-restriction.kubernetes.io/pci":  "yes",
			"node-role.kubernetes.io/till":        "",
			"sub.node-restriction.kubernetes.io/": "y",
		},
		taints: []plan.Taint{{Key: "dedicated", Value: "till", Effect: "NoSchedule"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if got := marksOf(nil); !reflect.DeepEqual(got, marks{}) {
		t.Errorf("a node that left the fleet has marks %v", got)
	}
}

func TestPatch(t *testing.T) {
	const pci = "node-restriction.kubernetes.io/pci"
	planned := marks{fleet: "shops", labels: map[string]string{plan.PoolLabel: "berlin", pci: "yes"}, taints: []plan.Taint{{Key: "a", Effect: "NoSchedule"}}}
	record := func(labels string) map[string]string {
		return map[string]string{fleetAnnotation: "shops", labelsAnnotation: labels, taintsAnnotation: "a:NoSchedule", "foreign": "x"}
	}
	full := record("fleet.holdfast.dev/pool," + pci)
	labels := func(more ...string) map[string]string {
		out := map[string]string{plan.PoolLabel: "berlin", pci: "yes", "tier": "till"}
		for i := 0; i < len(more); i += 2 {
			out[more[i]] = more[i+1]
		}
		return out
	}
	for _, c := range []struct {
		name                string
		marks               marks
		labels, annotations map[string]string
		taints              string
		want                string
	}{
		{name: "as planned, foreign ones beside it", marks: planned, labels: labels(), annotations: full, taints: "a:NoSchedule x:NoExecute"},
		{name: "a Node the hub never touched, and is not to"},
		{name: "new", marks: planned, labels: map[string]string{"tier": "till"}, taints: uninitializedTaint + ":NoSchedule",
			want: `{"metadata":{"annotations":{"fleet.holdfast.dev/fleet":"shops","fleet.holdfast.dev/labels":"fleet.holdfast.dev/pool,node-restriction.kubernetes.io/pci","fleet.holdfast.dev/taints":"a:NoSchedule"},"labels":{"fleet.holdfast.dev/pool":"berlin","node-restriction.kubernetes.io/pci":"yes"},"resourceVersion":"7"},"spec":{"taints":[{"key":"a","effect":"NoSchedule"}]}}`},
		{name: "other value", marks: planned, labels: labels(plan.PoolLabel, "paris"), annotations: full, taints: "a:NoSchedule",
			want: `{"metadata":{"labels":{"fleet.holdfast.dev/pool":"berlin"},"resourceVersion":"7"}}`},
		{name: "no longer planned", marks: planned, labels: labels("k8s.io/x", "y", "k8s.io/foreign", "z"), annotations: record("fleet.holdfast.dev/pool,k8s.io/x," + pci), taints: "a:NoSchedule",
			want: `{"metadata":{"annotations":{"fleet.holdfast.dev/labels":"fleet.holdfast.dev/pool,node-restriction.kubernetes.io/pci"},"labels":{"k8s.io/x":null},"resourceVersion":"7"}}`},
		{name: "no longer planned, and gone already", marks: planned, labels: labels(), annotations: record("fleet.holdfast.dev/pool,k8s.io/x," + pci), taints: "a:NoSchedule",
			want: `{"metadata":{"annotations":{"fleet.holdfast.dev/labels":"fleet.holdfast.dev/pool,node-restriction.kubernetes.io/pci"},"resourceVersion":"7"}}`},
		{name: "Holdfast's own without a record", marks: planned, labels: labels("fleet.holdfast.dev/old", "x"), annotations: full, taints: "a:NoSchedule",
			want: `{"metadata":{"labels":{"fleet.holdfast.dev/old":null},"resourceVersion":"7"}}`},
		{name: "somebody took the record away", marks: planned, labels: labels(), annotations: record(""), taints: "a:NoSchedule",
			want: `{"metadata":{"annotations":{"fleet.holdfast.dev/labels":"fleet.holdfast.dev/pool,node-restriction.kubernetes.io/pci"},"resourceVersion":"7"}}`},
		{name: "it left the fleet", labels: labels(), annotations: full, taints: "a:NoSchedule x:NoExecute",
			want: `{"metadata":{"annotations":{"fleet.holdfast.dev/fleet":null,"fleet.holdfast.dev/labels":null,"fleet.holdfast.dev/taints":null},"labels":{"fleet.holdfast.dev/pool":null,"node-restriction.kubernetes.io/pci":null},"resourceVersion":"7"},"spec":{"taints":[{"key":"x","effect":"NoExecute"}]}}`},
		{name: "its last taint goes", marks: marks{fleet: "shops", labels: planned.labels}, labels: labels(), annotations: full, taints: "a:NoSchedule",
			want: `{"metadata":{"annotations":{"fleet.holdfast.dev/taints":null},"resourceVersion":"7"},"spec":{"taints":null}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := &corev1.Node{}
			n.ResourceVersion, n.Labels, n.Annotations, n.Spec.Taints = "7", c.labels, c.annotations, parseTaints(t, c.taints)
			// A stolen node may say of any field who set it: nothing follows from that.
			n.ManagedFields = []metav1.ManagedFieldsEntry{
				{Manager: fieldManager, Operation: "Apply", FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:labels":{"f:k8s.io/foreign":{},"f:tier":{}}}}`)},
			}
			got, err := c.marks.patch(n)
			if err != nil || string(got) != c.want {
				t.Errorf("%v, patch\n%s\nwant\n%s", err, got, c.want)
			}
		})
	}
}
