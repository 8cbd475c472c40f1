package wire_test

import (
	"errors"
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

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
}
