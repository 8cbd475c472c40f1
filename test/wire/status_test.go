package wire_test

import (
	"bytes"
	"reflect"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
)

// TestStatus compares with what kube-apiserver writes, to the byte, and reads it back.
func TestStatus(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		own  wire.Status
		real metav1.Status
	}{
		{"plain", wire.Status{Code: 503, Reason: "ServiceUnavailable", Message: "offline \"and\" ünreachable <&>"},
			metav1.Status{Status: "Failure", Code: 503, Reason: "ServiceUnavailable", Message: "offline \"and\" ünreachable <&>"}},
		{"empty", wire.Status{Code: 500}, metav1.Status{Status: "Failure", Code: 500}},
		{"success", wire.Status{Code: 200}, metav1.Status{Status: "Success", Code: 200}},
		{"details", wire.Status{Code: 404, Reason: "NotFound", Message: "no", Group: "apps", Kind: "deployments", Name: "a", UID: "u"},
			metav1.Status{Status: "Failure", Code: 404, Reason: "NotFound", Message: "no", Details: &metav1.StatusDetails{Group: "apps", Kind: "deployments", Name: "a", UID: "u"}}},
		{"retry", wire.Status{Code: 504, Reason: "Timeout", RetryAfter: 1, Causes: []wire.Cause{{Reason: "ResourceVersionTooLarge", Message: "Too large resource version"}}},
			metav1.Status{Status: "Failure", Code: 504, Reason: "Timeout", Details: &metav1.StatusDetails{RetryAfterSeconds: 1,
				Causes: []metav1.StatusCause{{Type: "ResourceVersionTooLarge", Message: "Too large resource version"}}}}},
		{"causes", wire.Status{Code: 422, Causes: []wire.Cause{{Field: "spec.x"}, {}, {Reason: "r", Message: "m", Field: "f"}}},
			metav1.Status{Status: "Failure", Code: 422, Details: &metav1.StatusDetails{
				Causes: []metav1.StatusCause{{Field: "spec.x"}, {}, {Type: "r", Message: "m", Field: "f"}}}}},
	} {
		for _, e := range encodings {
			t.Run(test.name+"/"+e.name, func(t *testing.T) {
				t.Parallel()
				api := newAPI(t, e.media)
				want := api.encode(t, test.real.DeepCopy(), schema.GroupVersion{Version: "v1"})
				got := wire.AppendStatus([]byte("before"), e.encoding, test.own)[len("before"):]
				if !bytes.Equal(got, want) {
					t.Fatalf("wrote\n%q\nkube-apiserver writes\n%q", got, want)
				}
				item, err := wire.Object(e.encoding, "", "", want)
				if err != nil || item.Kind != "Status" || item.Name != "" || item.Namespace != "" {
					t.Fatalf("read as %+v, %v", item, err)
				}
				read, err := wire.ReadStatus(item)
				if err != nil || !reflect.DeepEqual(read, test.own) {
					t.Errorf("read %+v (%v), want %+v", read, err, test.own)
				}
			})
		}
	}
}
