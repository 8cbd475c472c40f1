package media

import (
	"bytes"
	"encoding/json"
	"errors"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
)

// TestEveryKindOfClientGo: what client-go's typed clients know can be converted, so that nothing is missing from the list of groups.
func TestEveryKindOfClientGo(t *testing.T) {
	count := 0
	for gvk, typ := range scheme.Scheme.AllKnownTypes() {
		if !strings.HasPrefix(typ.PkgPath(), "k8s.io/api/") {
			continue // options, watch events: every group has them, and no cache
		}
		if _, ok := reflect.New(typ).Interface().(object); !ok {
			continue
		}
		count++
		if !Convertible(gvk.GroupVersion().String(), gvk.Kind) {
			t.Errorf("%v cannot be converted", gvk)
		}
	}
	if count < 300 {
		t.Errorf("found %d kinds in client-go's scheme: too few to be all", count)
	}
	groups := groups()
	for _, gv := range scheme.Scheme.PrioritizedVersionsAllGroups() {
		delete(groups, gv)
	}
	if len(groups) > 0 {
		t.Errorf("client-go does not know %v", groups)
	}
}

// TestNothingIsRegisteredAtStart: the scheme of client-go fills itself when the program starts, so it must not be linked, and the
// typed clients with it.
func TestNothingIsRegisteredAtStart(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := strings.Fields(string(out))
	if !slices.Contains(packages, "k8s.io/api/core/v1") {
		t.Fatalf("go list gave no packages of k8s.io/api: %d", len(packages))
	}
	for _, p := range packages {
		if strings.HasPrefix(p, "k8s.io/client-go/") && p != "k8s.io/client-go/util/jsonpath" &&
			p != "k8s.io/client-go/third_party/forked/golang/template" {
			t.Errorf("%s is linked", p)
		}
	}
}

// fullPod is a pod with what is written differently in the two encodings: times, quantities, ports by name, bytes, maps.
func fullPod() *corev1.Pod {
	created := metav1.Unix(1767225600, 0)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "p", Namespace: "a", UID: "u", ResourceVersion: "7", CreationTimestamp: created,
			Labels: map[string]string{"z": "1", "a": "<&>"}, Annotations: map[string]string{"ü": "\u2028"},
			OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "r", Controller: new(bool)}},
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "m", Time: &created, FieldsType: "FieldsV1",
				FieldsV1: metav1.NewFieldsV1(`{"f:spec":{}}`)}},
		},
		Spec: corev1.PodSpec{
			NodeName: "n",
			Containers: []corev1.Container{{
				Name: "c", Image: "i",
				Resources:     corev1.ResourceRequirements{Limits: corev1.ResourceList{"memory": resource.MustParse("1500Mi"), "cpu": resource.MustParse("0.1")}},
				LivenessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/"}}},
			}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: "192.0.2.1"}}, StartTime: &created},
	}
}

// protobufItem gives an object as the cache has it.
func protobufItem(t testing.TB, apiVersion, kind string, o object, name string) scope.Item {
	t.Helper()
	raw, err := o.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return scope.Item{APIVersion: apiVersion, Kind: kind, Namespace: "a", Name: name, UID: "u", Version: "7", Encoding: scope.Protobuf, Raw: raw}
}

func TestConvertThereAndBack(t *testing.T) {
	pod := protobufItem(t, "v1", "Pod", fullPod(), "p")
	inJSON, err := Convert(pod, scope.JSON)
	if err != nil {
		t.Fatal(err)
	}
	want, err := json.Marshal(fullPod())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(inJSON.Raw, want) || inJSON.Encoding != scope.JSON || inJSON.Version != "7" {
		t.Errorf("got %s\nwant %s", inJSON.Raw, want)
	}
	back, err := Convert(inJSON, scope.Protobuf)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(back.Raw, pod.Raw) {
		t.Errorf("got %q\nwant %q", back.Raw, pod.Raw)
	}
	same, err := Convert(pod, scope.Protobuf)
	if err != nil || &same.Raw[0] != &pod.Raw[0] {
		t.Errorf("an item that is converted to what it is must be left alone: %v", err)
	}
}

func TestConvertErrors(t *testing.T) {
	for _, test := range []struct {
		what string
		item scope.Item
		want string
	}{
		{"a custom resource", scope.Item{APIVersion: "example.com/v1", Kind: "Widget", Encoding: scope.JSON, Raw: []byte("{}")},
			"example.com/v1 Widget can only be had as it was read: kind is not built in"},
		{"a kind that is newer", scope.Item{APIVersion: "v1", Kind: "Cluster", Encoding: scope.JSON, Raw: []byte("{}")},
			"v1 Cluster can only be had as it was read: kind is not built in"},
		{"a version that is none", scope.Item{APIVersion: "a/b/c", Kind: "Pod", Encoding: scope.JSON}, `read apiVersion "a/b/c": `},
		{"damaged JSON", scope.Item{APIVersion: "v1", Kind: "Pod", Namespace: "a", Name: "p", Encoding: scope.JSON, Raw: []byte(`{"spec":1}`)},
			"decode Pod a/p: "},
		{"damaged protobuf", scope.Item{APIVersion: "v1", Kind: "Pod", Name: "p", Encoding: scope.Protobuf, Raw: []byte{0xff}}, "decode Pod /p: "},
		{"no encoding", scope.Item{APIVersion: "v1", Kind: "Pod", Name: "p"}, "decode Pod /p: encoding 0 is not known"},
	} {
		to := scope.Protobuf
		if test.item.Encoding == scope.Protobuf {
			to = scope.JSON
		}
		_, err := Convert(test.item, to)
		if err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", test.what, err, test.want)
		}
		if wanted := strings.HasSuffix(test.want, "not built in"); errors.Is(err, ErrUnknownKind) != wanted {
			t.Errorf("%s: ErrUnknownKind: got %v", test.what, !wanted)
		}
	}
}

func TestPartialMetadata(t *testing.T) {
	pod := protobufItem(t, "v1", "Pod", fullPod(), "p")
	inJSON, err := Convert(pod, scope.JSON)
	if err != nil {
		t.Fatal(err)
	}
	want := &metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{Kind: "PartialObjectMetadata", APIVersion: "meta.k8s.io/v1"},
		ObjectMeta: fullPod().ObjectMeta,
	}
	wantJSON, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	wantProtobuf, err := want.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range []scope.Item{pod, inJSON} {
		for to, raw := range map[scope.Encoding][]byte{scope.JSON: wantJSON, scope.Protobuf: wantProtobuf} {
			got, err := PartialMetadata(from, "v1", to)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Raw, raw) || got.APIVersion != "meta.k8s.io/v1" || got.Kind != "PartialObjectMetadata" || got.Name != "p" {
				t.Errorf("from %d to %d: got %+v\n%q\nwant\n%q", from.Encoding, to, got, got.Raw, raw)
			}
		}
	}
	bare, err := PartialMetadata(scope.Item{Kind: "Widget", Encoding: scope.JSON, Raw: []byte("{}")}, "v1beta1", scope.JSON)
	if err != nil || string(bare.Raw) != `{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1beta1","metadata":{}}` {
		t.Errorf("got %s, %v", bare.Raw, err)
	}
	for _, damaged := range []scope.Item{
		{Kind: "Pod", Name: "p", Encoding: scope.JSON, Raw: []byte(`{"metadata":`)},
		{Kind: "Pod", Name: "p", Encoding: scope.Protobuf, Raw: []byte{0x0a, 0x7f, 0x00}},
	} {
		if _, err := PartialMetadata(damaged, "v1", damaged.Encoding); err == nil || !strings.HasPrefix(err.Error(), "read metadata of Pod /p: ") {
			t.Errorf("encoding %d: got %v", damaged.Encoding, err)
		}
	}
}

// BenchmarkConvert says what a client costs that asks for the other encoding.
func BenchmarkConvert(b *testing.B) {
	pod := protobufItem(b, "v1", "Pod", fullPod(), "p")
	inJSON, err := Convert(pod, scope.JSON)
	if err != nil {
		b.Fatal(err)
	}
	for name, test := range map[string]struct {
		item scope.Item
		to   scope.Encoding
	}{"protobuf to JSON": {pod, scope.JSON}, "JSON to protobuf": {inJSON, scope.Protobuf}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Convert(test.item, test.to); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("metadata alone", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := PartialMetadata(pod, "v1", scope.Protobuf); err != nil {
				b.Fatal(err)
			}
		}
	})
}
