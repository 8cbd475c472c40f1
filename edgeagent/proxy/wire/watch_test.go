package wire_test

import (
	"errors"
	"reflect"
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

func TestJSONWatch(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, stream string
		want         []string
		err          error
	}{
		{"object first", `{"object":{"kind":"Pod","metadata":{"name":"a"}},"type":"ADDED"}`, []string{"ADDED Pod/a"}, nil},
		{"nothing between", `{"type":"ADDED","object":{}}{"type":"DELETED","object":{}}`, []string{"ADDED /", "DELETED /"}, nil},
		{"much between", " \n{\"type\":\"ADDED\",\"object\":{}}\r\n\n\t{\"type\":\"X\",\"object\":{}}\n ", []string{"ADDED /", "X /"}, nil},
		{"more members", `{"new":{"object":1},"type":"ADDED","object":{"metadata":{"name":"a"}},"x":null}`, []string{"ADDED /a"}, nil},
		{"nothing", ``, nil, nil},
		{"no object", `{"type":"ADDED"}`, nil, wire.ErrMalformed},
		{"object is null", `{"type":"ADDED","object":null}`, nil, wire.ErrMalformed},
		{"no type", `{"object":{}}`, nil, wire.ErrMalformed},
		{"an array", `[]`, nil, wire.ErrMalformed},
		{"a comma between", `{"type":"ADDED","object":{}},{}`, []string{"ADDED /"}, wire.ErrMalformed},
		{"brackets do not match", `{"type":"ADDED","object":{]}`, nil, wire.ErrMalformed},
		{"a bad status", `{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","code":"x"}}`, nil, wire.ErrMalformed},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for size := 1; size <= len(test.stream)+1; size++ {
				var got []string
				s := wire.NewWatchScanner(scope.JSON, wire.Limits{}, func(f wire.Frame) error {
					got = append(got, f.Type+" "+f.Item.Kind+"/"+f.Item.Name)
					return nil
				})
				for stream := []byte(test.stream); len(stream) > 0; stream = stream[min(size, len(stream)):] {
					if _, err := s.Write(stream[:min(size, len(stream))]); err != nil {
						break
					}
				}
				if err := s.Close(); !errors.Is(err, test.err) || !reflect.DeepEqual(got, test.want) {
					t.Fatalf("pieces of %d: got %q, %v; want %q, %v", size, got, err, test.want, test.err)
				}
			}
		})
	}
}

func TestProtobufWatchErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, stream string
		err          error
	}{
		{"an empty frame", "\x00\x00\x00\x00", wire.ErrMalformed},
		{"a huge frame", "\xff\xff\xff\xff", wire.ErrTooLarge},
		{"no object", "\x00\x00\x00\x07\x0a\x05ADDED", wire.ErrTruncated},
		{"an object without envelope", "\x00\x00\x00\x0d\x0a\x05ADDED\x12\x04\x0a\x02\x0a\x00", wire.ErrTruncated},
		{"a type that is a number", "\x00\x00\x00\x02\x08\x01", wire.ErrMalformed},
		{"JSON", `{"type":"ADDED"}`, wire.ErrTooLarge},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := wire.NewWatchScanner(scope.Protobuf, wire.Limits{}, func(wire.Frame) error { return nil })
			if _, err := s.Write([]byte(test.stream)); !errors.Is(err, test.err) {
				t.Errorf("got %v, want %v", err, test.err)
			}
		})
	}
}
