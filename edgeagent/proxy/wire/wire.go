// Package wire reads and writes what the Kubernetes API sends: lists, watch streams and single objects, in JSON and in protobuf.
// The proxy must see every object that passes, to remember it, and must not pay for it: so nothing here decodes a whole object.
// Scanners take a body in the pieces it arrives in, hold at most one object, and give out each with its metadata.
//
// Protobuf bodies are "k8s\x00" and a runtime.Unknown whose raw field is the object (k8s.io/apimachinery/pkg/runtime). A watch in
// protobuf is frames of four bytes of length (big-endian) and a metav1.WatchEvent, whose object is such a body. A watch in JSON is
// one object after the other.
package wire

import (
	"errors"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// Limits bound what a scanner holds. Zero means the default.
type Limits struct {
	// Object is the largest object or frame, in bytes. Defaults: 16 MiB for lists and single objects, 8 MiB for watches.
	Object int
}

// What errors.Is finds in the errors of this package.
var (
	// ErrTruncated: the body ended before what it began was complete.
	ErrTruncated = errors.New("the body ends too early")
	// ErrTooLarge: an object or frame is larger than the limit.
	ErrTooLarge = errors.New("larger than the limit")
	// ErrMalformed: the bytes are not what the encoding allows.
	ErrMalformed = errors.New("malformed")
	// ErrNotList: the body is whole but it is not a list.
	ErrNotList = errors.New("not a list")
	// ErrUnknownField: protobuf needs a table of field numbers, and it does not have this field.
	ErrUnknownField = errors.New("field is not known")
)

// List is what a list says of itself.
type List struct {
	scope.Kind
	// Version is metadata.resourceVersion, Continue the token for the next page or "".
	Version, Continue string
	// Remaining is metadata.remainingItemCount, 0 if the list does not say.
	Remaining int64
}

// Types of watch frames.
const (
	Added    = "ADDED"
	Modified = "MODIFIED"
	Deleted  = "DELETED"
	Bookmark = "BOOKMARK"
	Error    = "ERROR"
)

// InitialEventsEnd is the annotation of the bookmark that ends the initial events of a WatchList; its value is "true".
const InitialEventsEnd = "k8s.io/initial-events-end"

// Frame is one event of a watch.
type Frame struct {
	Type string
	// Item is the object. In a bookmark it has Version, in an error its Raw is a metav1.Status.
	Item scope.Item
	// InitialEventsEnd: the bookmark that ends the initial events.
	InitialEventsEnd bool
	// Status is the code of the metav1.Status of an error, else 0.
	Status int
	// Raw is the whole frame, ready to be sent: in protobuf with its length, in JSON with a newline. Item.Raw is a part of it.
	Raw []byte
}
