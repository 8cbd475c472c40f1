package wire_test

import (
	"bytes"
	"errors"
	"math/rand"
	"testing"

	corev1 "k8s.io/api/core/v1"
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

// TestAppendObjectSaysItsKind writes items of JSON lists, which say no kind, as single objects and frames.
func TestAppendObjectSaysItsKind(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ raw, want string }{
		{`{}`, `{"kind":"Pod","apiVersion":"v1"}`},
		{` { } `, `{"kind":"Pod","apiVersion":"v1" } `},
		{`{"metadata":{"name":"a"}}`, `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"}}`},
		{`{"metadata":{},"kind":"Pod"}`, `{"apiVersion":"v1","metadata":{},"kind":"Pod"}`},
		{`{"apiVersion":"v1","metadata":{}}`, `{"kind":"Pod","apiVersion":"v1","metadata":{}}`},
		{`{"metadata":{"kind":"x"},"apiVersion":"v1","kind":"Pod"}`, `{"metadata":{"kind":"x"},"apiVersion":"v1","kind":"Pod"}`},
	} {
		item := scope.Item{APIVersion: "v1", Kind: "Pod", Encoding: scope.JSON, Raw: []byte(test.raw)}
		got, err := wire.AppendObject(nil, item)
		if err != nil || string(got) != test.want+"\n" {
			t.Errorf("%s: got %s (%v), want %s", test.raw, got, err, test.want)
		}
		frame, err := wire.AppendFrame(nil, wire.Added, item)
		if want := `{"type":"ADDED","object":` + test.want + "}\n"; err != nil || string(frame) != want {
			t.Errorf("%s: got %s (%v), want %s", test.raw, frame, err, want)
		}
	}
	for _, bad := range []scope.Item{{}, {Encoding: scope.JSON, Raw: []byte(`[`)}} {
		if _, err := wire.AppendObject(nil, bad); err == nil {
			t.Errorf("%+v was written", bad)
		}
		if _, err := wire.AppendFrame(nil, wire.Added, bad); err == nil {
			t.Errorf("%+v was written", bad)
		}
	}
}

func TestObjectErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		encoding scope.Encoding
		body     string
		err      error
	}{
		{scope.JSON, "", wire.ErrTruncated},
		{scope.JSON, "  ", wire.ErrTruncated},
		{scope.JSON, "null", wire.ErrMalformed},
		{scope.JSON, `{}{}`, wire.ErrMalformed},
		{scope.JSON, `{"kind":1}`, wire.ErrMalformed},
		{scope.JSON, `{"metadata":[]}`, wire.ErrMalformed},
		{scope.Protobuf, "", wire.ErrTruncated},
		{scope.Protobuf, "k8s\x00", wire.ErrTruncated},
		{scope.Protobuf, "k8s\x00\x0a\x00", wire.ErrTruncated},
		{scope.Protobuf, "k9s\x00\x12\x00", wire.ErrMalformed},
		{scope.Protobuf, "k8s\x00\x12\x05\x0a", wire.ErrMalformed},
		{scope.Protobuf, "k8s\x00\x12\x02\x0a\x7f", wire.ErrMalformed},
		{scope.Protobuf, "k8s\x00\x12\x00\x22\x10application/json", wire.ErrMalformed},
	} {
		if _, err := wire.Object(test.encoding, "v1", "Pod", []byte(test.body)); !errors.Is(err, test.err) {
			t.Errorf("%q: got %v, want %v", test.body, err, test.err)
		}
	}
	if _, err := wire.Object(0, "v1", "Pod", []byte(`{}`)); err == nil {
		t.Error("an object in no encoding was read")
	}
	s := wire.NewObjectScanner(scope.JSON, wire.Limits{Object: 3})
	_, _ = s.Write([]byte(`{}`))
	if _, err := s.Write([]byte(`  `)); !errors.Is(err, wire.ErrTooLarge) {
		t.Errorf("got %v for a body over the limit", err)
	}
	if _, err := s.Close("", ""); !errors.Is(err, wire.ErrTooLarge) {
		t.Errorf("got %v at Close", err)
	}
}

func TestSetVersionOfJSON(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ raw, want string }{
		{`{}`, `{"metadata":{"resourceVersion":"7"}}`},
		{`{"a":1}`, `{"a":1,"metadata":{"resourceVersion":"7"}}`},
		{`{"metadata":null,"a":1}`, `{"metadata":{"resourceVersion":"7"},"a":1}`},
		{`{"metadata":{}}`, `{"metadata":{"resourceVersion":"7"}}`},
		{`{"metadata":{"name":"a"}}`, `{"metadata":{"name":"a","resourceVersion":"7"}}`},
		{`{"metadata":{"resourceVersion":null,"name":"a"}}`, `{"metadata":{"resourceVersion":"7","name":"a"}}`},
		{`{"metadata":{"name":"a","resourceVersion":"6"},"b":{"resourceVersion":"6"}}`, `{"metadata":{"name":"a","resourceVersion":"7"},"b":{"resourceVersion":"6"}}`},
	} {
		got, err := wire.SetVersion(scope.Item{Encoding: scope.JSON, Raw: []byte(test.raw)}, "7")
		if err != nil || string(got.Raw) != test.want || got.Version != "7" {
			t.Errorf("%s: got %s (%v), want %s", test.raw, got.Raw, err, test.want)
		}
	}
	for _, bad := range []scope.Item{{}, {Encoding: scope.JSON, Raw: []byte(`[]`)}, {Encoding: scope.Protobuf, Raw: []byte("\x0a\x05")}} {
		if _, err := wire.SetVersion(bad, "7"); err == nil {
			t.Errorf("the version of %+v was set", bad)
		}
	}
	empty, err := wire.SetVersion(scope.Item{Encoding: scope.Protobuf}, "7")
	if err != nil {
		t.Fatal(err)
	}
	read, err := wire.Inner(scope.Protobuf, "v1", "Pod", empty.Raw)
	if err != nil || read.Version != "7" {
		t.Errorf("got %+v (%v)", read, err)
	}
	pod := &corev1.Pod{}
	if err := pod.Unmarshal(empty.Raw); err != nil || pod.ResourceVersion != "7" {
		t.Errorf("decoded as %+v (%v)", pod, err)
	}
}
