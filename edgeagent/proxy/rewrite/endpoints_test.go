package rewrite

//lint:file-ignore SA1019 clients still read Endpoints

import (
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestTheOlderAPI(t *testing.T) {
	older := &corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{Name: "kubernetes", Namespace: "default", ResourceVersion: "43"},
		Subsets:    []corev1.EndpointSubset{{Addresses: []corev1.EndpointAddress{{IP: "10.0.0.1"}}, Ports: []corev1.EndpointPort{{Name: "https", Port: 6443, Protocol: "TCP"}}}},
	}
	for _, it := range both(t, "v1", "Endpoints", older) {
		got, changed := rewriter().Item(it)
		subsets := read[corev1.Endpoints](t, got).Subsets
		if !changed || !reflect.DeepEqual(subsets, []corev1.EndpointSubset{{
			Addresses: []corev1.EndpointAddress{{IP: "169.254.64.40"}}, Ports: []corev1.EndpointPort{{Name: "https", Port: 6440, Protocol: "TCP"}}}}) {
			t.Errorf("encoding %d: %v, %+v", it.Encoding, changed, subsets)
		}
	}
}

func TestWhatStaysAsItIsInTheOlderAPI(t *testing.T) {
	unchanged(t, "other Endpoints", rewriter(), "v1", "Endpoints", &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"}})
	unchanged(t, "Endpoints of the other family", rewriter(), "v1", "Endpoints", &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes", Namespace: "default"},
		Subsets: []corev1.EndpointSubset{{Addresses: []corev1.EndpointAddress{{IP: "fd00::1"}}}}})
}
