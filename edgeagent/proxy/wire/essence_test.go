package wire_test

import (
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// TestEssenceOfOtherTimes: only Nodes and Leases have heartbeats.
func TestEssenceOfOtherTimes(t *testing.T) {
	t.Parallel()
	read := func(raw string) uint64 {
		item, err := wire.Object(scope.JSON, "", "", []byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		return item.Essence
	}
	for _, pair := range [][2]string{
		{`{"apiVersion":"x.y/v1","kind":"Node","status":{"conditions":[{"lastHeartbeatTime":"1"}]}}`, `{"apiVersion":"x.y/v1","kind":"Node","status":{"conditions":[{"lastHeartbeatTime":"2"}]}}`},
		{`{"apiVersion":"x.y/v1","kind":"Lease","spec":{"renewTime":"1"}}`, `{"apiVersion":"x.y/v1","kind":"Lease","spec":{"renewTime":"2"}}`},
		{`{"spec":{"renewTime":"1"},"apiVersion":"coordination.k8s.io/v1"}`, `{"spec":{"renewTime":"2"},"apiVersion":"coordination.k8s.io/v1"}`},
		{`{"apiVersion":"v1","kind":"Node","status":{"conditions":{"lastHeartbeatTime":"1"}}}`, `{"apiVersion":"v1","kind":"Node","status":{"conditions":{"lastHeartbeatTime":"2"}}}`},
		{`{"apiVersion":"v1","kind":"Node","status":{"conditions":[1,2]}}`, `{"apiVersion":"v1","kind":"Node","status":{"conditions":[12]}}`},
		{`{"metadata":{"name":"ab"}}`, `{"metadata":{"name":"a","uid":"b"}}`},
		{`{"metadata":{"a":{}},"b":1}`, `{"metadata":{"a":{},"b":1}}`},
	} {
		if read(pair[0]) == read(pair[1]) {
			t.Errorf("%s and %s have one essence", pair[0], pair[1])
		}
	}
	same := [][2]string{
		{`{"apiVersion":"v1","kind":"Node","status":{"conditions":[null,{"lastHeartbeatTime":"1"}]}}`, `{"apiVersion":"v1","kind":"Node","status":{"conditions":[null,{"lastHeartbeatTime":"2"}]}}`},
		{`{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"}}`, `{"metadata":{"name":"a"}}`}, // watch and list
		{`{"metadata":{"resourceVersion":"1","name":"a"}}`, `{"metadata":{"name":"a","resourceVersion":"2"}}`},
		{`{"apiVersion":"v1","kind":"Node","status":{"conditions":[ {"lastHeartbeatTime":"1","type":"a"} ]}}`, `{"apiVersion":"v1","kind":"Node","status":{"conditions":[{"type":"a"}]}}`},
	}
	for _, pair := range same {
		if read(pair[0]) != read(pair[1]) {
			t.Errorf("%s and %s have two essences", pair[0], pair[1])
		}
	}
}

// TestEssenceIsKept pins values: they are compared with those that an older process has stored.
func TestEssenceIsKept(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		encoding scope.Encoding
		raw      string
		want     uint64
	}{
		{scope.JSON, `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","namespace":"b","uid":"c","resourceVersion":"1"},"spec":{}}`, 0x682fcbe411c8f426},
		{scope.Protobuf, "\x0a\x0c\x0a\x01a\x1a\x01b\x2a\x01c\x32\x011\x12\x00", 0xb2c0f55e401623},
	} {
		item, err := wire.Inner(test.encoding, "v1", "Pod", []byte(test.raw))
		if err != nil {
			t.Fatal(err)
		}
		if item.Essence != test.want {
			t.Errorf("essence %#x, want %#x: a change makes every agent write its whole cache once", item.Essence, test.want)
		}
	}
}
