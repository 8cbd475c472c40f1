package wire_test

import (
	"reflect"
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

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
