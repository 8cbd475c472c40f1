package wire_test

import (
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

func essence(t *testing.T, api api, encoding scope.Encoding, object runtime.Object, version schema.GroupVersion) uint64 {
	t.Helper()
	item, err := wire.Object(encoding, "", "", api.encode(t, object, version))
	if err != nil {
		t.Fatal(err)
	}
	return item.Essence
}

func TestEssence(t *testing.T) {
	t.Parallel()
	now := metav1.NewTime(time.Unix(1_800_000_000, 0))
	micro := metav1.NewMicroTime(now.Time)
	node := func() *corev1.Node {
		return &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "n", ResourceVersion: "9"},
			Spec:       corev1.NodeSpec{PodCIDR: "10.0.0.0/24"},
			Status: corev1.NodeStatus{Phase: "p", Conditions: []corev1.NodeCondition{
				{Type: "Ready", Status: "True", LastHeartbeatTime: now, LastTransitionTime: now},
				{Type: "Disk", Status: "False", LastHeartbeatTime: now},
			}},
		}
	}
	lease := func() *coordinationv1.Lease {
		holder := "a"
		return &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder, AcquireTime: &micro, RenewTime: &micro}}
	}
	later, laterMicro := metav1.NewTime(now.Add(time.Hour)), metav1.NewMicroTime(now.Add(time.Hour))
	for _, test := range []struct {
		name    string
		change  func(*corev1.Node)
		renewal func(*coordinationv1.Lease)
		same    bool
	}{
		{"nothing", func(*corev1.Node) {}, nil, true},
		{"resourceVersion", func(n *corev1.Node) { n.ResourceVersion = "123456" }, nil, true},
		{"managedFields", func(n *corev1.Node) { n.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubelet"}} }, nil, true},
		{"a heartbeat", func(n *corev1.Node) { n.Status.Conditions[0].LastHeartbeatTime = later }, nil, true},
		{"all that", func(n *corev1.Node) {
			n.ResourceVersion = "1"
			n.Status.Conditions[1].LastHeartbeatTime = later
			n.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "x"}}
		}, nil, true},
		{"a transition", func(n *corev1.Node) { n.Status.Conditions[0].LastTransitionTime = later }, nil, false},
		{"a condition", func(n *corev1.Node) { n.Status.Conditions[0].Status = "False" }, nil, false},
		{"a condition less", func(n *corev1.Node) { n.Status.Conditions = n.Status.Conditions[:1] }, nil, false},
		{"the phase", func(n *corev1.Node) { n.Status.Phase = "q" }, nil, false},
		{"the spec", func(n *corev1.Node) { n.Spec.Unschedulable = true }, nil, false},
		{"generation", func(n *corev1.Node) { n.Generation = 2 }, nil, false},
		{"a label", func(n *corev1.Node) { n.Labels = map[string]string{"a": "b"} }, nil, false},
		{"the name", func(n *corev1.Node) { n.Name = "m" }, nil, false},
		{"the name is the uid", func(n *corev1.Node) { n.Name, n.UID = "", "n" }, nil, false},
		{"renewal", nil, func(l *coordinationv1.Lease) { l.Spec.RenewTime = &laterMicro }, true},
		{"acquisition", nil, func(l *coordinationv1.Lease) { l.Spec.AcquireTime = &laterMicro }, false},
	} {
		for _, e := range encodings {
			t.Run(test.name+"/"+e.name, func(t *testing.T) {
				t.Parallel()
				api := newAPI(t, e.media)
				var before, after uint64
				if test.change != nil {
					changed := node()
					test.change(changed)
					before = essence(t, api, e.encoding, node(), corev1.SchemeGroupVersion)
					after = essence(t, api, e.encoding, changed, corev1.SchemeGroupVersion)
				} else {
					changed := lease()
					test.renewal(changed)
					before = essence(t, api, e.encoding, lease(), coordinationv1.SchemeGroupVersion)
					after = essence(t, api, e.encoding, changed, coordinationv1.SchemeGroupVersion)
				}
				if (before == after) != test.same {
					t.Errorf("essence %x, then %x", before, after)
				}
			})
		}
	}
}

// TestListAndWatchAgree: the same object has one essence, whether it came in a list or a watch.
func TestListAndWatchAgree(t *testing.T) {
	t.Parallel()
	for _, e := range encodings {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			api, fill := newAPI(t, e.media), filler(8)
			for _, kind := range kinds(t) {
				object := random(t, fill, kind)
				list, err := scheme.Scheme.New(kind.GroupVersion().WithKind(kind.Kind + "List"))
				if err != nil {
					t.Fatal(err)
				}
				setItems(t, list, object)
				var item scope.Item
				s := wire.NewListScanner(e.encoding, wire.Limits{}, func(i scope.Item) error { item = i; return nil })
				if _, err := s.Write(api.encode(t, list, kind.GroupVersion())); err != nil {
					t.Fatal(err)
				}
				got := frames(t, e.encoding, api.frame(t, wire.Added, object, kind.GroupVersion()))
				if got[0].Item.Essence != item.Essence {
					t.Fatalf("%s: %x in a watch, %x in a list", kind, got[0].Item.Essence, item.Essence)
				}
			}
		})
	}
}
