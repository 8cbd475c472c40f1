// Package media answers in the form that a client asks for: it negotiates as kube-apiserver does, converts between protobuf and
// JSON, and makes Tables and PartialObjectMetadata of what was cached. The cache keeps objects in one encoding only, whoever read
// them; offline, any client may ask for another.
package media

import "github.com/holdfast-dev/holdfast/edgeagent/scope"

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

	list bool // a PartialObjectMetadataList was asked for
}

// ContentType is the answer's media type, as kube-apiserver prints it.
func (f Format) ContentType() string {
	switch {
	case f.YAML:
		return typeYAML
	case f.Encoding == scope.JSON:
		return typeJSON
	case f.Stream:
		return typeProtobuf + streamWatch
	}
	return typeProtobuf
}
