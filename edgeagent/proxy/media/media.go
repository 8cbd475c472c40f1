// Package media answers in the form that a client asks for: it negotiates as kube-apiserver does, converts between protobuf and
// JSON, and makes Tables and PartialObjectMetadata of what was cached. The cache keeps objects in one encoding only, whoever read
// them; offline, any client may ask for another.
package media

import (
	"io"
	"iter"
	"net/http"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// As is what objects are turned into.
type As uint8

// The shapes of an answer.
const (
	Whole As = iota
	Table
	Metadata // PartialObjectMetadata, or a list of them
)

// Format is what client and proxy agreed on.
type Format struct {
	Encoding scope.Encoding
	As       As
	// MetaVersion is the version of meta.k8s.io for Table and Metadata: "v1" or "v1beta1".
	MetaVersion string
	// Stream: frames of a watch.
	Stream bool
	// YAML and Pretty change how JSON is written out.
	YAML, Pretty bool
	// Gzip: the client takes gzip; answers over 128 KiB are compressed.
	Gzip bool
	// Include says what a Table's rows carry: "None", "Metadata" or "Object".
	Include string
	// NoHeaders: a Table without column definitions.
	NoHeaders bool
}

// Negotiate finds the form of the answer to a get, list or watch. native is how upstream answered: a resource that was read as
// protobuf can be had in protobuf, a custom resource cannot. The error is a *request.Error: 406, or 400 for wrong table options.
func Negotiate(r *http.Request, req request.Request, native scope.Encoding) (Format, error) {
	return negotiate(r, req, native)
}

// Renderer writes objects of one kind in one Format. It is for one answer: not for several goroutines.
type Renderer struct {
	// Format is what was negotiated.
	Format Format
	// Kind is of the objects; the kind of their list does as well.
	Kind scope.Kind
	// Resource was asked for.
	Resource scope.Resource
	// CRD is the CustomResourceDefinition, if the cache has it: it names the columns of a Table.
	CRD scope.Item
	// Now gives the time, for ages.
	Now func() time.Time

	headed bool
}

// Object gives the body of an answer to a GET.
func (r *Renderer) Object(item scope.Item) ([]byte, error) { return r.object(item) }

// List writes the body of an answer to a LIST. items is run through as often as needed, and must be the same each time.
func (r *Renderer) List(w io.Writer, list wire.List, items iter.Seq2[scope.Item, error]) error {
	return r.list(w, list, items)
}

// Frame appends a watch frame: wire.Added, wire.Modified or wire.Deleted. The first frame of a Table has its columns.
func (r *Renderer) Frame(dst []byte, event string, item scope.Item) ([]byte, error) {
	return r.frame(dst, event, item)
}

// Bookmark appends a bookmark frame; end says that the initial events end here.
func (r *Renderer) Bookmark(dst []byte, version string, end bool) ([]byte, error) {
	return r.bookmark(dst, version, end)
}

// Convert gives an item in another encoding. Only built-in kinds can be converted, through the types of k8s.io/api; fields that
// those types do not know are lost, so what is converted is for reading, never for writing back.
func Convert(item scope.Item, to scope.Encoding) (scope.Item, error) { return convert(item, to) }

// Convertible tells whether a kind can be had in both encodings.
func Convertible(apiVersion, kind string) bool { return convertible(apiVersion, kind) }

// PartialMetadata gives an item's PartialObjectMetadata, in an encoding and in a version of meta.k8s.io ("v1").
func PartialMetadata(item scope.Item, version string, to scope.Encoding) (scope.Item, error) {
	return partial(item, version, to)
}

// Match tells whether a query selects an object.
type Match func(scope.Item) (bool, error)

// Compile makes the Match of a list's or watch's namespace and selectors. kind is of the objects or of their list, crd the
// CustomResourceDefinition of a custom resource, if the cache has it: it names the fields that may be selected. A field that may
// not is a *request.Error: 400, in kube-apiserver's words.
func Compile(key scope.Key, kind scope.Kind, crd scope.Item) (Match, error) { return compile(key, kind, crd) }

// Body writes an answer of a Format: it sets Content-Type and compresses what is longer than 128 KiB if the client takes gzip.
// Close ends it.
func Body(w http.ResponseWriter, code int, f Format) io.WriteCloser { return newBody(w, code, f) }

// ContentType is the answer's media type, as kube-apiserver prints it.
func (f Format) ContentType() string {
	stream := ""
	if f.Stream {
		stream = ";stream=watch"
	}
	switch {
	case f.YAML:
		return "application/yaml" + stream
	case f.Encoding == scope.Protobuf:
		return "application/vnd.kubernetes.protobuf" + stream
	}
	return "application/json"
}
