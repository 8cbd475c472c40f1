package wire_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// offered is what kube-apiserver 1.37 accepts in field selectors besides metadata.name and metadata.namespace, and where the
// value is if not at the path of that name.
var offered = map[schema.GroupVersionKind]map[string]string{
	{Version: "v1", Kind: "Pod"}: {
		"spec.nodeName": "", "spec.host": "spec.nodeName", "spec.restartPolicy": "", "spec.schedulerName": "", "spec.serviceAccountName": "",
		"spec.hostNetwork": "false", "status.phase": "", "status.podIP": "", "status.podIPs": "nowhere", "status.nominatedNodeName": "",
	},
	{Version: "v1", Kind: "Service"}:               {"spec.clusterIP": "", "spec.type": ""},
	{Version: "v1", Kind: "Node"}:                  {"spec.unschedulable": "false"},
	{Version: "v1", Kind: "Secret"}:                {"type": ""},
	{Version: "v1", Kind: "Namespace"}:             {"status.phase": ""},
	{Version: "v1", Kind: "ReplicationController"}: {"status.replicas": "0"},
	{Version: "v1", Kind: "Event"}: {
		"involvedObject.kind": "", "involvedObject.namespace": "", "involvedObject.name": "", "involvedObject.uid": "", "involvedObject.apiVersion": "",
		"involvedObject.resourceVersion": "", "involvedObject.fieldPath": "", "reason": "", "reportingComponent": "", "source": "source.component",
		"type": "",
	},
	{Group: "events.k8s.io", Version: "v1", Kind: "Event"}: {
		"regarding.kind": "", "regarding.namespace": "", "regarding.name": "", "regarding.uid": "", "regarding.apiVersion": "",
		"regarding.resourceVersion": "", "regarding.fieldPath": "", "reason": "", "reportingController": "", "type": "",
	},
	{Group: "batch", Version: "v1", Kind: "Job"}:                                     {"status.successful": "status.succeeded"},
	{Group: "certificates.k8s.io", Version: "v1", Kind: "CertificateSigningRequest"}: {"spec.signerName": ""},
	{Group: "certificates.k8s.io", Version: "v1", Kind: "ClusterTrustBundle"}:        {"spec.signerName": ""},
	{Group: "certificates.k8s.io", Version: "v1", Kind: "PodCertificateRequest"}:     {"spec.signerName": "", "spec.podName": "", "spec.nodeName": ""},
	{Group: "resource.k8s.io", Version: "v1", Kind: "ResourceSlice"}:                 {"spec.nodeName": "", "spec.driver": "", "spec.pool.name": ""},
}

// TestSelectableOfEveryKind compares the tables, in both encodings, with the fields of typed objects.
func TestSelectableOfEveryKind(t *testing.T) {
	t.Parallel()
	fill := filler(9)
	for _, kind := range kinds(t) {
		group := kind
		group.Version = "v1"
		want := []string{"metadata.name"}
		if !slices.Contains([]string{"Node", "Namespace", "CertificateSigningRequest", "ClusterTrustBundle", "PodCertificateRequest", "ResourceSlice"}, kind.Kind) {
			want = append(want, "metadata.namespace")
		}
		for name := range offered[group] {
			want = append(want, name)
		}
		got := wire.SelectableFields(kind.GroupVersion().String(), kind.Kind)
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: offers %q, want %q", kind, got, want)
		}
		filled := map[string]bool{}
		for range 16 * min(1, len(offered[group])) {
			checkSelectable(t, random(t, fill, kind), kind, offered[group], filled)
		}
		for name, at := range offered[group] {
			if !filled[name] && at != "nowhere" {
				t.Errorf("%s: %s never had a value", kind, name)
			}
		}
	}
}

func checkSelectable(t *testing.T, object runtime.Object, kind schema.GroupVersionKind, fields map[string]string, filled map[string]bool) {
	t.Helper()
	plain, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range encodings {
		item, err := wire.Object(e.encoding, "", "", newAPI(t, e.media).encode(t, object, kind.GroupVersion()))
		if err != nil {
			t.Fatal(err)
		}
		for name, at := range fields {
			want := expected(plain, name, at)
			got, err := wire.Selectable(item, name)
			if err != nil || got != want {
				t.Errorf("%s %s: %s is %q (%v), want %q", e.name, kind, name, got, err, want)
			}
			filled[name] = filled[name] || want != "" && want != at
		}
		if got, err := wire.Selectable(item, "metadata.name"); err != nil || got != item.Name {
			t.Errorf("%s: name %q, %v", kind, got, err)
		}
		if _, err := wire.Selectable(item, "spec.none"); !errors.Is(err, wire.ErrUnknownField) {
			t.Errorf("%s: spec.none: %v", kind, err)
		}
	}
}

// expected finds a field in a decoded object.
func expected(plain map[string]any, name, at string) string {
	zero := ""
	switch at {
	case "nowhere":
		return ""
	case "":
		at = name
	case "false", "0":
		zero, at = at, name
	case "status.succeeded":
		zero = "0"
	}
	value, found, _ := unstructured.NestedFieldNoCopy(plain, strings.Split(at, ".")...)
	if (!found || value == "") && name == "source" {
		value, found, _ = unstructured.NestedFieldNoCopy(plain, "reportingComponent")
	}
	if !found {
		return zero
	}
	return fmt.Sprint(value)
}

func TestField(t *testing.T) {
	t.Parallel()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a", UID: "u", Generation: 3}, Spec: corev1.PodSpec{NodeName: "n1", HostNetwork: true}}
	for _, e := range encodings {
		item, err := wire.Object(e.encoding, "", "", newAPI(t, e.media).encode(t, pod, corev1.SchemeGroupVersion))
		if err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]string{
			"spec.nodeName": "n1", "spec.hostNetwork": "true", "metadata.uid": "u", "metadata.generation": "3", "metadata.name": "a",
		} {
			got, ok, err := wire.Field(item, strings.Split(path, ".")...)
			if got != want || !ok || err != nil {
				t.Errorf("%s: %s is %q, %v, %v", e.name, path, got, ok, err)
			}
		}
	}
	custom := scope.Item{Encoding: scope.JSON, APIVersion: "x.y/v1", Kind: "Foo", Raw: []byte(
		`{"spec":{"color":"r\u0065d","size":1.5,"on":true,"off":null,"deep":{"er":{"x":"y"}},"list":[1],"color2":"a","color2":"b"}}`)}
	for path, want := range map[string]string{
		"spec.color": "red", "spec.size": "1.5", "spec.on": "true", "spec.deep.er.x": "y", "spec.color2": "b",
		"spec.off": "", "spec.none": "", "spec.list": "", "spec.deep": "", "spec.color.x": "", "status.x": "",
	} {
		got, ok, err := wire.Field(custom, strings.Split(path, ".")...)
		if got != want || ok != (want != "") || err != nil {
			t.Errorf("%s is %q, %v, %v", path, got, ok, err)
		}
	}
	if got := wire.SelectableFields("x.y/v1", "Foo"); !slices.Equal(got, []string{"metadata.name", "metadata.namespace"}) {
		t.Errorf("a custom resource offers %q", got)
	}
	for _, item := range []scope.Item{{Encoding: scope.Protobuf, APIVersion: "v1", Kind: "Pod"}, {}} {
		if _, _, err := wire.Field(item, "spec", "color"); err == nil {
			t.Errorf("%+v has a color", item)
		}
	}
}
