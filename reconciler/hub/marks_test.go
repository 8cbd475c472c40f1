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
		labels: map[string]string{
			"fleet.holdfast.dev/pool":             "berlin",
			"node-restriction.kubernetes.io/pci":  "yes",
			"node-role.kubernetes.io/till":        "",
			"sub.node-restriction.kubernetes.io/": "y",
		},
		annotations: map[string]string{"fleet.holdfast.dev/fleet": "shops"},
		taints:      []plan.Taint{{Key: "dedicated", Value: "till", Effect: "NoSchedule"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if got := marksOf(nil); !reflect.DeepEqual(got, marks{}) {
		t.Errorf("a node that left the fleet has marks %v", got)
	}
}

func TestLeftover(t *testing.T) {
	m := marks{labels: map[string]string{plan.PoolLabel: "berlin"}}
	n := &corev1.Node{}
	n.Labels = map[string]string{plan.PoolLabel: "berlin", "fleet.holdfast.dev/old": "x", "node-restriction.kubernetes.io/pci": "yes", "node-restriction.kubernetes.io/foreign": "x", "tier": "till"}
	n.ManagedFields = []metav1.ManagedFieldsEntry{
		{Manager: fieldManager, Operation: "Apply", FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:labels":{"f:fleet.holdfast.dev/pool":{},"f:node-restriction.kubernetes.io/pci":{},"f:gone":{}}}}`)},
	}
	if got, want := m.leftover(n), []string{"fleet.holdfast.dev/old", "node-restriction.kubernetes.io/pci"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestOnNode(t *testing.T) {
	m := marks{labels: map[string]string{plan.PoolLabel: "berlin"}, annotations: map[string]string{fleetAnnotation: "shops"}}
	node := func(labels map[string]string, owned string) *corev1.Node {
		n := &corev1.Node{}
		n.Labels, n.Annotations = labels, map[string]string{fleetAnnotation: "shops"}
		n.ManagedFields = []metav1.ManagedFieldsEntry{
			{Manager: "kubelet", Operation: "Update", FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:labels":{".":{},"f:foreign":{}}}}`)},
			{Manager: fieldManager, Operation: "Update", FieldsV1: metav1.NewFieldsV1(`{"f:spec":{"f:taints":{}}}`)},
			{Manager: fieldManager, Operation: "Apply", FieldsV1: metav1.NewFieldsV1(owned)},
		}
		return n
	}
	const right = `{"f:metadata":{"f:annotations":{"f:fleet.holdfast.dev/fleet":{}},"f:labels":{"f:fleet.holdfast.dev/pool":{}}}}`
	for _, c := range []struct {
		name string
		node *corev1.Node
		want bool
	}{
		{"as planned, foreign labels beside it", node(map[string]string{plan.PoolLabel: "berlin", "foreign": "x"}, right), true},
		{"other value", node(map[string]string{plan.PoolLabel: "paris"}, right), false},
		{"removed by somebody", node(nil, right), false},
		{"right value, somebody else's", node(map[string]string{plan.PoolLabel: "berlin"}, `{}`), false},
		{"left over from an earlier plan", node(map[string]string{plan.PoolLabel: "berlin", "k8s.io/x": "y"},
			`{"f:metadata":{"f:annotations":{"f:fleet.holdfast.dev/fleet":{}},"f:labels":{"f:fleet.holdfast.dev/pool":{},"f:k8s.io/x":{}}}}`), false},
		{"fields that cannot be read", node(map[string]string{plan.PoolLabel: "berlin"}, `{`), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := m.onNode(c.node); got != c.want {
				t.Errorf("onNode = %v, want %v", got, c.want)
			}
		})
	}
	if !(marks{}).onNode(&corev1.Node{}) {
		t.Error("a Node the hub never touched is not as it should be")
	}
}
