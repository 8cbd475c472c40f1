package wire_test

import (
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// TestAccessOfBadItems: what is kept may be damaged. Accessors say so and do not give less.
func TestAccessOfBadItems(t *testing.T) {
	t.Parallel()
	for _, item := range []scope.Item{
		{},
		{Encoding: scope.JSON, Raw: []byte(`{"metadata":{"labels":{"a":1},"annotations":{"a":1},"ownerReferences":{}}}`)},
		{Encoding: scope.JSON, Raw: []byte(`{"metadata":{"labels":[],"annotations":"","ownerReferences":[1]}}`)},
		{Encoding: scope.JSON, Raw: []byte(`{"metadata":{`)},
		{Encoding: scope.Protobuf, Raw: []byte("\x0a\x06\x5a\x02\x0a\x05\x62\x7f")},
		{Encoding: scope.Protobuf, Raw: []byte("\x0a\x7f")},
		{Encoding: scope.Protobuf, Raw: []byte("\x08\x01")},
	} {
		if _, err := wire.Labels(item); err == nil {
			t.Errorf("%+v: labels were read", item)
		}
		if _, err := wire.Annotations(item); err == nil {
			t.Errorf("%+v: annotations were read", item)
		}
		if _, err := wire.Owners(item); err == nil {
			t.Errorf("%+v: owners were read", item)
		}
	}
	for _, raw := range []string{`{}`, `{"metadata":null}`, `{"metadata":{"labels":null,"annotations":null,"ownerReferences":null}}`} {
		item := scope.Item{Encoding: scope.JSON, Raw: []byte(raw)}
		labels, err1 := wire.Labels(item)
		annotations, err2 := wire.Annotations(item)
		owners, err3 := wire.Owners(item)
		if len(labels) != 0 || len(annotations) != 0 || len(owners) != 0 || err1 != nil || err2 != nil || err3 != nil {
			t.Errorf("%s: %v %v %v, %v %v %v", raw, labels, annotations, owners, err1, err2, err3)
		}
	}
}
