package wire

import (
	"fmt"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// ObjectScanner takes the body of a GET in pieces. It holds the body up to the limit.
type ObjectScanner struct {
	encoding scope.Encoding
	hold     holder
	err      error
}

// NewObjectScanner makes a scanner.
func NewObjectScanner(encoding scope.Encoding, limits Limits) *ObjectScanner {
	return &ObjectScanner{encoding: encoding, hold: holder{limit: limits.object(16 << 20)}}
}

// Write takes the next piece. After an error every Write gives it again.
func (s *ObjectScanner) Write(p []byte) (int, error) {
	if s.err == nil {
		s.err = s.hold.add(p, 0)
	}
	if s.err != nil {
		s.hold.buf = nil
		return 0, fmt.Errorf("object: %w", s.err)
	}
	return len(p), nil
}

// Close gives the object, or an error if it is not complete. apiVersion and kind are for objects that leave them out.
func (s *ObjectScanner) Close(apiVersion, kind string) (scope.Item, error) {
	if s.err != nil {
		return scope.Item{}, fmt.Errorf("object: %w", s.err)
	}
	body, err := s.hold.take(nil, 0)
	if err != nil {
		return scope.Item{}, fmt.Errorf("object: %w", err)
	}
	return Object(s.encoding, apiVersion, kind, body)
}

// Object reads the body of a single object: in protobuf with its envelope. apiVersion and kind are for objects that leave them out.
// Item.Raw is a part of body, which must not be changed afterwards.
func Object(encoding scope.Encoding, apiVersion, kind string, body []byte) (scope.Item, error) {
	if encoding != scope.Protobuf {
		return Inner(encoding, apiVersion, kind, body)
	}
	e, err := open(body)
	if err != nil {
		return scope.Item{}, fmt.Errorf("object: %w", err)
	}
	n := names{apiVersion, kind}.said(names{}, e.apiVersion, e.kind)
	item, err := protoItem(e.raw, n)
	if err != nil {
		return scope.Item{}, fmt.Errorf("object: %w", err)
	}
	return item, nil
}

// Inner reads an object as scope.Item.Raw has it: in protobuf without an envelope.
func Inner(encoding scope.Encoding, apiVersion, kind string, raw []byte) (scope.Item, error) {
	n := names{apiVersion, kind}
	var item scope.Item
	var err error
	switch encoding {
	case scope.JSON:
		item, err = jsonObject(raw, n)
	case scope.Protobuf:
		item, err = protoItem(raw, n)
	default:
		return scope.Item{}, unknownEncoding(encoding)
	}
	if err != nil {
		return scope.Item{}, fmt.Errorf("object: %w", err)
	}
	return item, nil
}

// jsonObject reads an object that may have whitespace around it.
func jsonObject(body []byte, n names) (scope.Item, error) {
	start := space(body, 0)
	if start == len(body) {
		return scope.Item{}, ErrTruncated
	}
	item, end, err := jsonItem(body, start, n, names{})
	if err != nil {
		return scope.Item{}, err
	}
	if end = space(body, end); end != len(body) {
		return scope.Item{}, malformed(end, "something follows the object")
	}
	return item, nil
}
