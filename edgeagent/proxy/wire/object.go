package wire

import "github.com/holdfast-dev/holdfast/edgeagent/scope"

// ObjectScanner takes the body of a GET in pieces. It holds the body up to the limit.
type ObjectScanner struct{}

// NewObjectScanner makes a scanner.
func NewObjectScanner(encoding scope.Encoding, limits Limits) *ObjectScanner { return &ObjectScanner{} }

// Write takes the next piece. After an error every Write gives it again.
func (s *ObjectScanner) Write(p []byte) (int, error) { return 0, ErrMalformed }

// Close gives the object, or an error if it is not complete. apiVersion and kind are for objects that leave them out.
func (s *ObjectScanner) Close(apiVersion, kind string) (scope.Item, error) {
	return scope.Item{}, ErrTruncated
}

// Object reads the body of a single object: in protobuf with its envelope. apiVersion and kind are for objects that leave them out.
// Item.Raw is a part of body, which must not be changed afterwards.
func Object(encoding scope.Encoding, apiVersion, kind string, body []byte) (scope.Item, error) {
	return scope.Item{}, ErrMalformed
}

// Inner reads an object as scope.Item.Raw has it: in protobuf without an envelope.
func Inner(encoding scope.Encoding, apiVersion, kind string, raw []byte) (scope.Item, error) {
	return scope.Item{}, ErrMalformed
}
