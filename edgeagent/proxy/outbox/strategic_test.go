package outbox_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/outbox"
)

func decode(t testing.TB, raw []byte) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return out
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// kinds are the types whose patches are merged here.
var kinds = map[string]any{"nodes": corev1.Node{}, "pods": corev1.Pod{}}

// TestLikeKubernetes merges what kubelets and others send, and compares with the library that kube-apiserver uses.
func TestLikeKubernetes(t *testing.T) {
	pod := `{"metadata":{"name":"p","uid":"u","labels":{"a":"b"},"finalizers":["x","y"],"ownerReferences":[{"uid":"1","name":"a"}]},
		"status":{"phase":"Running","podIP":"10.0.0.1","podIPs":[{"ip":"10.0.0.1"},{"ip":"fd00::1"}],"hostIPs":[{"ip":"192.0.2.1"}],
		"conditions":[{"type":"Ready","status":"True"},{"type":"Initialized","status":"True","reason":"r"},{"type":"PodScheduled","status":"True"}],
		"containerStatuses":[{"name":"a","restartCount":1},{"name":"b"}],"resourceClaimStatuses":[{"name":"gpu","resourceClaimName":"gpu-1"}]}}`
	node := `{"metadata":{"name":"n","annotations":{"a":"1"}},"status":{"capacity":{"cpu":"2","memory":"4Gi"},"addresses":[{"type":"InternalIP","address":"192.0.2.1"},{"type":"Hostname","address":"n"}],
		"conditions":[{"type":"Ready","status":"True","lastHeartbeatTime":"2026-01-01T00:00:00Z"}],"images":[{"names":["a"],"sizeBytes":1}],"nodeInfo":{"bootID":"1"},"volumesInUse":["v"]}}`
	for _, test := range []struct{ resource, object, patch string }{
		{"pods", pod, `{"metadata":{"uid":"u"},"status":{"$setElementOrder/conditions":[{"type":"Initialized"},{"type":"Ready"},{"type":"New"}],"conditions":[{"type":"Ready","status":"False","reason":"x"},{"type":"New","status":"True"}],"phase":"Failed"}}`},
		{"pods", pod, `{"status":{"$setElementOrder/podIPs":[{"ip":"10.0.0.2"},{"ip":"fd00::2"}],"podIP":"10.0.0.2","podIPs":[{"ip":"10.0.0.2"},{"ip":"fd00::2"},{"$patch":"delete","ip":"10.0.0.1"},{"$patch":"delete","ip":"fd00::1"}]}}`},
		{"pods", pod, `{"status":{"$setElementOrder/conditions":[{"type":"PodScheduled"},{"type":"Ready"},{"type":"Initialized"}]}}`},
		{"pods", pod, `{"status":{"conditions":[{"type":"Initialized","reason":null}],"podIP":null,"hostIPs":null}}`},
		{"pods", pod, `{"status":{"containerStatuses":[{"name":"b","ready":true}]}}`},
		{"pods", pod, `{"status":{"resourceClaimStatuses":[{"$retainKeys":["name"],"name":"gpu"},{"name":"new","resourceClaimName":"x"}]}}`},
		{"pods", pod, `{"status":{"$patch":"replace","phase":"Pending"}}`},
		{"pods", pod, `{"metadata":{"$deleteFromPrimitiveList/finalizers":["x"],"finalizers":["z"],"$setElementOrder/finalizers":["z","y"]}}`},
		{"pods", pod, `{"metadata":{"labels":{"a":null,"c":"d"},"ownerReferences":[{"uid":"1","$patch":"delete"},{"uid":"2","name":"b"}]}}`},
		{"pods", `{"metadata":{"name":"p"}}`, `{"metadata":{"labels":{"a":null,"b":"c"}},"status":{"conditions":[{"type":"Ready","status":"True","reason":null}],"startTime":null}}`},
		{"nodes", node, `{"status":{"$setElementOrder/conditions":[{"type":"Ready"}],"conditions":[{"lastHeartbeatTime":"2026-01-01T00:00:10Z","type":"Ready"}]}}`},
		{"nodes", node, `{"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.9"},{"type":"InternalIP","address":"192.0.2.8"},{"$patch":"replace"}]}}`},
		{"nodes", node, `{"metadata":{"annotations":{"a":null,"b":"2"},"labels":{"x":"y"}},"status":{"capacity":{"cpu":"4","hugepages-2Mi":"0"},"nodeInfo":{"bootID":"2"},"images":[{"names":["b"],"sizeBytes":2}],"volumesInUse":null}}`},
		{"nodes", node, `{"status":{"nodeInfo":{"$patch":"replace","bootID":"3"},"allocatable":{"cpu":"1"}}}`},
		{"nodes", node, `{"status":{"capacity":{"$retainKeys":["cpu"],"cpu":"8"}}}`},
		{"nodes", node, `{"status":{"conditions":[{"type":"Ready","$patch":"delete"}],"volumesInUse":["a","b"]}}`},
	} {
		compare(t, test.resource, []byte(test.object), []byte(test.patch), inOrder)
	}
}

const (
	inOrder = true
	// anyOrder is for patches of another object than the one they are applied to: where elements that a patch does not name come
	// among those that it does depends, in the library, on which of its slices share memory.
	anyOrder = false
)

func compare(t *testing.T, resource string, object, patch []byte, ordered bool) {
	t.Helper()
	want, err := strategicpatch.StrategicMergePatch(object, patch, kinds[resource])
	if err != nil {
		t.Fatalf("%s: %v", patch, err)
	}
	got, err := outbox.Merge(resource, decode(t, object), decode(t, patch))
	if err != nil {
		t.Fatalf("%s: %v", patch, err)
	}
	expected := decode(t, want)
	if !ordered {
		order(t, got)
		order(t, expected)
	}
	if !reflect.DeepEqual(withoutNulls(got), withoutNulls(expected)) {
		t.Errorf("object %s\npatch  %s\ngot    %s\nwant   %s", object, patch, encode(t, got), want)
	}
}

// order brings the lists that are merged by key into one order.
func order(t *testing.T, object map[string]any) {
	status, _ := object["status"].(map[string]any)
	for _, field := range []string{"conditions", "podIPs"} {
		if list, ok := status[field].([]any); ok {
			slices.SortFunc(list, func(a, b any) int {
				return strings.Compare(fmt.Sprint(a.(map[string]any)["type"], a.(map[string]any)["ip"]), fmt.Sprint(b.(map[string]any)["type"], b.(map[string]any)["ip"]))
			})
		}
	}
}

// withoutNulls takes out what is null: absent means the same.
func withoutNulls(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for field, value := range v {
			if value == nil {
				delete(v, field)
			} else {
				withoutNulls(value)
			}
		}
	case []any:
		for _, element := range v {
			withoutNulls(element)
		}
	}
	return v
}

func TestRefused(t *testing.T) {
	for _, patch := range []string{
		`{"status":{"$patch":"eat"}}`, `{"status":{"conditions":[{"status":"True"}]}}`, `{"status":{"conditions":["Ready"]}}`,
		`{"status":{"conditions":[{"$patch":"delete"}]}}`, `{"status":{"$setElementOrder/conditions":1}}`,
		`{"status":{"$retainKeys":["a"],"phase":"x"}}`, `{"status":{"$retainKeys":1}}`, `{"status":{"conditions":[{"$patch":"eat","type":"x"}]}}`,
	} {
		object := decode(t, []byte(`{"status":{"phase":"a","conditions":[{"type":"Ready"}]}}`))
		if got, err := outbox.Merge("pods", object, decode(t, []byte(patch))); err == nil {
			t.Errorf("%s: got %s, want an error", patch, encode(t, got))
		}
	}
}

// TestRandomStatuses makes patches as the kubelet does, of random statuses, and compares. It also checks that Diff's patch makes
// the final status of whatever upstream holds by then, in the library's eyes, too.
func TestRandomStatuses(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		for name, pair := range map[string][3]any{
			"pods":  {randomPod(r), randomPod(r), randomPod(r)},
			"nodes": {randomNode(r), randomNode(r), randomNode(r)},
		} {
			before, after, upstream := encode(t, pair[0]), encode(t, pair[1]), encode(t, pair[2])
			patch, err := strategicpatch.CreateTwoWayMergePatch(before, after, kinds[name])
			if err != nil {
				t.Fatal(err)
			}
			compare(t, name, before, patch, inOrder)
			compare(t, name, upstream, patch, anyOrder)

			made := outbox.Diff(name, decode(t, before), decode(t, after))
			if made == nil {
				made = map[string]any{}
			}
			merged, err := strategicpatch.StrategicMergePatch(before, encode(t, made), kinds[name])
			if err != nil {
				t.Fatal(err)
			}
			if got, want := canonical(t, merged), canonical(t, after); got != want {
				t.Fatalf("of   %s\nmade %s\ngot  %s\nwant %s", before, encode(t, made), got, want)
			}
			compare(t, name, upstream, encode(t, made), anyOrder)
		}
	}
}

// canonical gives a status with its conditions in order: theirs means nothing.
func canonical(t *testing.T, raw []byte) string {
	t.Helper()
	status, _ := decode(t, raw)["status"].(map[string]any)
	conditions, _ := status["conditions"].([]any)
	delete(status, "conditions")
	var lines []string
	for _, c := range conditions {
		condition := c.(map[string]any)
		for k, v := range condition {
			if v == nil {
				delete(condition, k) // absent means the same
			}
		}
		lines = append(lines, string(encode(t, condition)))
	}
	slices.Sort(lines)
	return string(encode(t, status)) + strings.Join(lines, ",")
}

func randomPod(r *rand.Rand) corev1.Pod {
	p := corev1.Pod{Status: corev1.PodStatus{Phase: pick(r, corev1.PodRunning, corev1.PodPending, corev1.PodFailed), Message: pick(r, "", "m"), QOSClass: "Burstable"}}
	for _, kind := range []corev1.PodConditionType{"Ready", "Initialized", "ContainersReady", "PodScheduled"} {
		if r.IntN(4) > 0 {
			p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: kind, Status: pick(r, corev1.ConditionTrue, corev1.ConditionFalse),
				Reason: pick(r, "", "a", "b"), LastTransitionTime: clock(r), ObservedGeneration: int64(r.IntN(2))})
		}
	}
	for i := range r.IntN(3) {
		ip := fmt.Sprintf("10.0.%d.%d", i, r.IntN(3))
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: ip})
		p.Status.PodIP = p.Status.PodIPs[0].IP
	}
	for i := range r.IntN(3) {
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{Name: fmt.Sprint(i), RestartCount: int32(r.IntN(3)), Ready: r.IntN(2) == 0})
	}
	return p
}

func randomNode(r *rand.Rand) corev1.Node {
	n := corev1.Node{Status: corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{BootID: pick(r, "1", "2"), KernelVersion: pick(r, "", "6.1")},
		Capacity: corev1.ResourceList{}, Allocatable: corev1.ResourceList{"cpu": resource.MustParse(pick(r, "1", "2"))}}}
	for _, name := range []corev1.ResourceName{"cpu", "memory", "hugepages-2Mi"} {
		if r.IntN(2) == 0 {
			n.Status.Capacity[name] = resource.MustParse(pick(r, "1", "2"))
		}
	}
	for _, kind := range []corev1.NodeConditionType{"Ready", "MemoryPressure", "NetworkUnavailable"} {
		if r.IntN(4) > 0 {
			n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: kind, Status: pick(r, corev1.ConditionTrue, corev1.ConditionFalse),
				Message: pick(r, "", "m"), LastHeartbeatTime: clock(r), LastTransitionTime: clock(r)})
		}
	}
	for _, name := range []string{"a", "b"} {
		if r.IntN(2) == 0 {
			n.Status.Images = append(n.Status.Images, corev1.ContainerImage{Names: []string{name}, SizeBytes: int64(r.IntN(3))})
			n.Status.VolumesInUse = append(n.Status.VolumesInUse, corev1.UniqueVolumeName(name))
		}
	}
	return n
}

func clock(r *rand.Rand) metav1.Time {
	return metav1.NewTime(time.Date(2026, 1, 1, 0, 0, r.IntN(3), 0, time.UTC))
}

func pick[T any](r *rand.Rand, choices ...T) T { return choices[r.IntN(len(choices))] }

// TestEveryMergedList walks the Go types: a list that Kubernetes begins to merge by key must be known here.
func TestEveryMergedList(t *testing.T) {
	for resource, kind := range kinds {
		for _, part := range []string{"ObjectMeta", "Status"} {
			field, _ := reflect.TypeOf(kind).FieldByName(part)
			name := map[string]string{"ObjectMeta": "metadata", "Status": "status"}[part]
			walk(field.Type, name, map[reflect.Type]bool{}, func(path, key string) {
				got, ok := outbox.MergeKeys(resource)[path]
				if !ok || got != key {
					t.Errorf("%s: %s is merged by %q: say so in mergeKeys", resource, path, key)
				}
			})
		}
	}
}

func walk(kind reflect.Type, path string, seen map[reflect.Type]bool, merged func(path, key string)) {
	for kind.Kind() == reflect.Pointer {
		kind = kind.Elem()
	}
	if kind.Kind() != reflect.Struct || seen[kind] || kind.PkgPath() == "time" {
		return
	}
	seen[kind] = true
	for i := range kind.NumField() {
		field := kind.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		if field.Type.Kind() == reflect.Slice {
			if strings.Contains(field.Tag.Get("patchStrategy"), "merge") {
				merged(path+"."+name, field.Tag.Get("patchMergeKey"))
			}
			continue // what is inside a list that is replaced as a whole is not merged
		}
		walk(field.Type, path+"."+name, seen, merged)
	}
}
