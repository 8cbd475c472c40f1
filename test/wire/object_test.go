package wire_test

import (
	"bytes"
	"math/rand"
	"testing"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// TestObjectOfEveryKind reads single objects, writes them back and gives them another version.
func TestObjectOfEveryKind(t *testing.T) {
	t.Parallel()
	for _, e := range encodings {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			api, fill, chance := newAPI(t, e.media), filler(6), rand.New(rand.NewSource(6))
			for _, kind := range kinds(t) {
				object := random(t, fill, kind)
				body := api.encode(t, object, kind.GroupVersion())
				s := wire.NewObjectScanner(e.encoding, wire.Limits{})
				if err := write(t, s, chance, body); err != nil {
					t.Fatal(err)
				}
				item, err := s.Close("", "")
				if err != nil {
					t.Fatalf("%s: %v", kind, err)
				}
				item.Raw = item.Raw[:len(item.Raw):len(item.Raw)]
				checkItem(t, item, object, kind, e.encoding)
				checkAccess(t, item, object)
				again, err := wire.AppendObject(nil, item)
				if err != nil || !bytes.Equal(again, body) {
					t.Fatalf("%s: wrote\n%q (%v)\nkube-apiserver writes\n%q", kind, again, err, body)
				}
				checkSetVersion(t, api, item, object, kind)
			}
		})
	}
}

func checkSetVersion(t *testing.T, api api, item scope.Item, object runtime.Object, kind schema.GroupVersionKind) {
	t.Helper()
	before := bytes.Clone(item.Raw)
	changed, err := wire.SetVersion(item, "123456789")
	if err != nil {
		t.Fatal(err)
	}
	body, err := wire.AppendObject(nil, changed)
	if err != nil {
		t.Fatal(err)
	}
	want := object.DeepCopyObject()
	want.(metav1.Object).SetResourceVersion("123456789")
	want.GetObjectKind().SetGroupVersionKind(kind)
	if got := api.decode(t, body, nil); !equality.Semantic.DeepEqual(got, want) {
		t.Fatalf("%s: got %+v, want %+v", kind, got, want)
	}
	read, err := wire.Object(item.Encoding, "", "", body)
	if err != nil || read.Version != "123456789" || read.Essence != item.Essence {
		t.Fatalf("%s: read %+v (%v), want the essence %x", kind, read, err, item.Essence)
	}
	if !bytes.Equal(before, item.Raw) {
		t.Fatalf("%s: the item's bytes were changed", kind)
	}
}
