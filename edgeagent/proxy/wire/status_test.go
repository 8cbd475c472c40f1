package wire_test

import (
	"bytes"
	"reflect"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
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

func TestReadBadStatus(t *testing.T) {
	t.Parallel()
	for _, item := range []scope.Item{
		{},
		{Encoding: scope.JSON, Raw: []byte(`[]`)},
		{Encoding: scope.JSON, Raw: []byte(`{"code":1.5}`)},
		{Encoding: scope.JSON, Raw: []byte(`{"details":[]}`)},
		{Encoding: scope.JSON, Raw: []byte(`{"details":{"causes":[1]}}`)},
		{Encoding: scope.Protobuf, Raw: []byte("\x1a\x05")},
		{Encoding: scope.Protobuf, Raw: []byte("\x2a\x02\x0a\x05")},
		{Encoding: scope.Protobuf, Raw: []byte("\x2a\x04\x22\x02\x0a\x05")},
	} {
		if got, err := wire.ReadStatus(item); err == nil {
			t.Errorf("%+v was read as %+v", item, got)
		}
	}
	got, err := wire.ReadStatus(scope.Item{Encoding: scope.JSON, Raw: []byte(`{"code":null,"details":{"causes":null,"x":1},"message":null}`)})
	if err != nil || !reflect.DeepEqual(got, wire.Status{}) {
		t.Errorf("got %+v, %v", got, err)
	}
}
