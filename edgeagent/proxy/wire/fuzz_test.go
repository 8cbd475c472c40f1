package wire_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand"
	"reflect"
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// small bounds what a fuzzed body may make a scanner hold.
var small = wire.Limits{Object: 1 << 10}

// fuzzItems are where fuzzing starts: objects with metadata, labels, owners, managed fields and heartbeats.
var fuzzItems = []scope.Item{
	{APIVersion: "v1", Kind: "Pod", Encoding: scope.JSON, Raw: []byte(`{"metadata":{"name":"a","namespace":"b","uid":"c","resourceVersion":"6","labels":{"x":"y"},"managedFields":[{}],"ownerReferences":[{"kind":"K","controller":true}]},"spec":{"nodeName":"n","hostNetwork":true}}`)},
	{APIVersion: "v1", Kind: "Node", Encoding: scope.JSON, Raw: []byte(`{"status":{"conditions":[{"type":"Ready","lastHeartbeatTime":"1"},{}]},"metadata":null}`)},
	{APIVersion: "v1", Kind: "Pod", Encoding: scope.Protobuf, Raw: []byte("\x0a\x1e\x0a\x01a\x1a\x01b\x2a\x01c\x32\x016\x5a\x06\x0a\x01x\x12\x01y\x6a\x05\x0a\x01K\x30\x01\x8a\x01\x00\x12\x05\x52\x01n\x58\x01")},
	{APIVersion: "v1", Kind: "Node", Encoding: scope.Protobuf, Raw: []byte("\x0a\x00\x1a\x0b\x22\x07\x0a\x01R\x1a\x02\x08\x01\x22\x00")},
}

func encodingOf(protobuf bool) scope.Encoding {
	if protobuf {
		return scope.Protobuf
	}
	return scope.JSON
}

// inPieces writes a body in the pieces that a seed gives, empty ones too.
func inPieces(w io.Writer, body []byte, seed int64) error {
	random := rand.New(rand.NewSource(seed))
	for len(body) > 0 {
		n := random.Intn(min(len(body), 1+random.Intn(16)) + 1)
		if _, err := w.Write(body[:n]); err != nil {
			return err
		}
		body = body[n:]
	}
	return nil
}

// listResult is all that a list scanner says, of which nothing may depend on the pieces.
type listResult struct {
	items []scope.Item
	list  wire.List
	err   string
}

func scanList(encoding scope.Encoding, body []byte, write func(io.Writer) error) listResult {
	var r listResult
	s := wire.NewListScanner(encoding, small, func(item scope.Item) error {
		r.items = append(r.items, item)
		return nil
	})
	err := write(s)
	list, closed := s.Close()
	r.list, r.err = list, fmt.Sprint(err, closed)
	return r
}

func FuzzListScanner(f *testing.F) {
	for _, item := range fuzzItems {
		var body bytes.Buffer
		list := wire.List{Kind: scope.Kind{APIVersion: item.APIVersion, Kind: item.Kind + "List"}, Version: "7", Continue: "c", Remaining: 1}
		if err := wire.WriteList(&body, item.Encoding, list, sequence([]scope.Item{item, item})); err != nil {
			f.Fatal(err)
		}
		f.Add(body.Bytes(), item.Encoding == scope.Protobuf, int64(1))
	}
	f.Add([]byte(`{"items":[{"metadata":{"name":"\u0061"}},{"x":[1,-2.5e3,null]}],"kind":"FooList"}`), false, int64(3))
	f.Fuzz(func(t *testing.T, body []byte, protobuf bool, seed int64) {
		encoding := encodingOf(protobuf)
		given := bytes.Clone(body)
		whole := scanList(encoding, body, func(w io.Writer) error { _, err := w.Write(body); return err })
		pieces := scanList(encoding, body, func(w io.Writer) error { return inPieces(w, body, seed) })
		if !reflect.DeepEqual(whole, pieces) {
			t.Fatalf("in one piece %+v, in several %+v", whole, pieces)
		}
		if !bytes.Equal(given, body) {
			t.Fatal("the body was changed")
		}
		if whole.err == "<nil> <nil>" {
			checkFuzzedList(t, encoding, body, whole)
		}
	})
}

// checkFuzzedList compares a complete list with what others read, and writes it again.
func checkFuzzedList(t *testing.T, encoding scope.Encoding, body []byte, r listResult) {
	t.Helper()
	if encoding == scope.JSON {
		var members map[string]json.RawMessage
		var items []json.RawMessage
		if err := json.Unmarshal(body, &members); err != nil {
			t.Fatalf("encoding/json refuses it: %v", err)
		}
		if err := json.Unmarshal(members["items"], &items); err != nil || len(items) != len(r.items) {
			t.Fatalf("encoding/json reads %d items (%v), the scanner %d", len(items), err, len(r.items))
		}
		for i, item := range r.items {
			if !bytes.Equal(items[i], item.Raw) {
				t.Fatalf("item %d is %q for encoding/json and %q for the scanner", i, items[i], item.Raw)
			}
		}
	}
	var out bytes.Buffer
	if err := wire.WriteList(&out, encoding, r.list, sequence(r.items)); err != nil {
		t.Fatal(err)
	}
	again := scanList(encoding, out.Bytes(), func(w io.Writer) error { _, err := w.Write(out.Bytes()); return err })
	if len(again.items) != len(r.items) || again.list != r.list && encoding == scope.Protobuf {
		t.Fatalf("written as %q, which is read as %+v (%+v)", out.Bytes(), again, r)
	}
	for _, item := range r.items {
		checkFuzzedItem(t, item)
	}
}

// checkFuzzedItem uses everything that takes an item: none may panic, and what was written must be read as the same.
func checkFuzzedItem(t *testing.T, item scope.Item) {
	t.Helper()
	_, _ = wire.Labels(item)
	_, _ = wire.Annotations(item)
	_, _ = wire.Owners(item)
	_, _, _ = wire.Field(item, "spec", "nodeName")
	for _, field := range wire.SelectableFields(item.APIVersion, item.Kind) {
		_, _ = wire.Selectable(item, field)
	}
	_, _ = wire.ReadStatus(item)
	body, err := wire.AppendObject(nil, item)
	if err != nil {
		t.Fatalf("%+v cannot be written: %v", item, err)
	}
	if _, err := wire.Object(item.Encoding, "", "", body); err != nil {
		t.Fatalf("%+v was written as %q, which cannot be read: %v", item, body, err)
	}
	if item.Kind == "Status" {
		return // its metadata is a list's
	}
	changed, err := wire.SetVersion(item, "99")
	if err != nil {
		t.Fatalf("%+v cannot have another version: %v", item, err)
	}
	read, err := wire.Inner(item.Encoding, item.APIVersion, item.Kind, changed.Raw)
	if err != nil || read.Version != "99" || read.Name != item.Name {
		t.Fatalf("%q became %q, read as %+v, %v", item.Raw, changed.Raw, read, err)
	}
}

func FuzzWatchScanner(f *testing.F) {
	for _, item := range fuzzItems {
		frame, err := wire.AppendFrame(nil, wire.Added, item)
		if err != nil {
			f.Fatal(err)
		}
		frame = append(frame, wire.AppendBookmark(nil, item.Encoding, "v1", "Pod", "9", true)...)
		frame = append(frame, wire.AppendErrorFrame(nil, item.Encoding, wire.Status{Code: 410, Causes: []wire.Cause{{Field: "x"}}})...)
		f.Add(frame, item.Encoding == scope.Protobuf, int64(1))
	}
	f.Add([]byte(`{"type":"ADDED","object":{}} {"object":{"kind":"Pod"},"type":"X"}`), false, int64(2))
	f.Fuzz(func(t *testing.T, stream []byte, protobuf bool, seed int64) {
		encoding := encodingOf(protobuf)
		scan := func(write func(io.Writer) error) ([]wire.Frame, string) {
			var all []wire.Frame
			s := wire.NewWatchScanner(encoding, small, func(frame wire.Frame) error {
				all = append(all, frame)
				return nil
			})
			err := write(s)
			return all, fmt.Sprint(err, s.Close())
		}
		whole, err := scan(func(w io.Writer) error { _, err := w.Write(stream); return err })
		pieces, errPieces := scan(func(w io.Writer) error { return inPieces(w, stream, seed) })
		if err != errPieces || !reflect.DeepEqual(whole, pieces) {
			t.Fatalf("in one piece %+v, %s; in several %+v, %s", whole, err, pieces, errPieces)
		}
		var raw []byte
		for _, frame := range whole {
			raw = append(raw, frame.Raw...)
			if !bytes.Contains(frame.Raw, frame.Item.Raw) || encoding == scope.JSON && !json.Valid(frame.Raw) {
				t.Fatalf("the frame %q has the item %q", frame.Raw, frame.Item.Raw)
			}
			checkFuzzedItem(t, frame.Item)
		}
		if encoding == scope.Protobuf && !bytes.HasPrefix(stream, raw) {
			t.Fatalf("the frames are %q of %q", raw, stream)
		}
	})
}

func FuzzObject(f *testing.F) {
	for _, item := range fuzzItems {
		body, err := wire.AppendObject(nil, item)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body, item.Encoding == scope.Protobuf)
	}
	f.Add([]byte(`{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","spec":{"renewTime":1},"metadata":{"labels":{"a":"b"},"ownerReferences":[{"controller":true}]}}`), false)
	f.Fuzz(func(t *testing.T, body []byte, protobuf bool) {
		item, err := wire.Object(encodingOf(protobuf), "v1", "Pod", body)
		if err != nil {
			return
		}
		if item.Essence == 0 {
			t.Fatal("an object without essence")
		}
		checkFuzzedItem(t, item)
	})
}
