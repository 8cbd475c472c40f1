package wire

import (
	"io"
	"iter"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// AppendObject appends the body of a single object: protobuf in its envelope, JSON with apiVersion and kind.
func AppendObject(dst []byte, item scope.Item) ([]byte, error) { return dst, ErrMalformed }

// AppendFrame appends a watch frame in the item's encoding.
func AppendFrame(dst []byte, kind string, item scope.Item) ([]byte, error) { return dst, ErrMalformed }

// AppendBookmark appends a bookmark frame for a watch of objects of a kind (apiVersion "v1", kind "Pod"); end says that the initial
// events end here.
func AppendBookmark(dst []byte, encoding scope.Encoding, apiVersion, kind, version string, end bool) []byte {
	return dst
}

// SetVersion gives the item with another metadata.resourceVersion, in bytes of its own.
func SetVersion(item scope.Item, version string) (scope.Item, error) { return item, ErrMalformed }

// WriteList writes the body of a LIST. Protobuf says the length first, so items is then run through twice: it must be the same
// each time. Items must be in the list's encoding.
func WriteList(w io.Writer, encoding scope.Encoding, list List, items iter.Seq2[scope.Item, error]) error {
	return ErrMalformed
}

// ListWriter writes the body of a LIST whose items' size is known, in one run.
type ListWriter struct{}

// NewListWriter makes a writer. size is the sum of ItemSize over the items that will be written; JSON does not need it.
func NewListWriter(w io.Writer, encoding scope.Encoding, list List, size int64) *ListWriter {
	return &ListWriter{}
}

// ItemSize is what an item with raw bytes takes in a list.
func ItemSize(raw int) int64 { return 0 }

// Write writes the next item.
func (w *ListWriter) Write(item scope.Item) error { return ErrMalformed }

// Close ends the list. It is an error if the items were not as large as promised.
func (w *ListWriter) Close() error { return ErrMalformed }
