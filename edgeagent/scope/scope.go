// Package scope says what the autonomy proxy remembers, in words that the proxy and its store share. The unit is a scope: what
// one identity read of one resource with one query. A scope is complete as of its version, or it is an error: never shorter.
package scope

import (
	"strconv"
	"strings"
	"time"
)

// Resource is a resource of the Kubernetes API, in the version that was asked for. The core group is "".
type Resource struct {
	Group    string `json:"group,omitempty"`
	Version  string `json:"version"`
	Resource string `json:"resource"` // plural, lower case: "pods"
}

// GroupVersion gives "v1" or "apps/v1", as objects say in apiVersion.
func (r Resource) GroupVersion() string {
	if r.Group == "" {
		return r.Version
	}
	return r.Group + "/" + r.Version
}

// String gives "pods.v1" or "deployments.v1.apps".
func (r Resource) String() string {
	return strings.TrimSuffix(r.Resource+"."+r.Version+"."+r.Group, ".")
}

// Key names a scope.
type Key struct {
	// Identity is who read: the user name that upstream knows, made unambiguous (see package identity).
	Identity string   `json:"identity"`
	Resource Resource `json:"resource"`
	// Namespace is "" for all namespaces, and for resources without namespaces.
	Namespace string `json:"namespace,omitempty"`
	// Name is the object's name if the scope is a GET's; else "".
	Name string `json:"name,omitempty"`
	// Labels and Fields are the selectors of a LIST or WATCH in canonical form: parsed, sorted, printed again.
	Labels string `json:"labels,omitempty"`
	Fields string `json:"fields,omitempty"`
	// Metadata: the answers were PartialObjectMetadata.
	Metadata bool `json:"metadata,omitempty"`
}

// Encoding says how Item.Raw is encoded.
type Encoding uint8

// The encodings that are kept.
const (
	// JSON is one JSON object. In lists of built-in kinds it has neither apiVersion nor kind.
	JSON Encoding = iota + 1
	// Protobuf is the message itself, without the envelope "k8s\x00" (k8s.io/apimachinery, runtime.Unknown).
	Protobuf
)

// Item is one object as upstream sent it. Its bytes must not be changed.
type Item struct {
	Namespace, Name, UID string
	// Version is metadata.resourceVersion.
	Version string
	// APIVersion and Kind are the object's own, also where Raw leaves them out.
	APIVersion, Kind string
	Encoding         Encoding
	Raw              []byte
	// Essence is a hash of the object without what changes on an idle node: resourceVersion, managedFields, heartbeat times.
	// Two versions of an object with the same essence need not both be written. 0: not known, so write.
	Essence uint64
}

// Kind is what a list is of. Objects that are read alone have only APIVersion and Kind.
type Kind struct {
	APIVersion, Kind string // of the list: "v1", "PodList"
}

// Event is one change of a scope.
type Event struct {
	// Deleted: the object left the scope: it was deleted, or the selectors stopped matching.
	Deleted bool
	Item    Item
}

// Info says what a scope is worth.
type Info struct {
	Key  Key
	Kind Kind
	// Version is the resourceVersion that the scope is complete as of. For a GET it is the object's.
	Version string
	// Read is when upstream last confirmed it: a list, an event or a bookmark. Wall clock.
	Read time.Time
	// Dirty says why the scope is behind what upstream sent, or "". A dirty scope is a complete, older state.
	Dirty string
	Items int
}

// Older tells whether resourceVersion a is older than b. Versions are decimal numbers that only grow (KEP-5504); ok is false
// if one is not, as with some aggregated APIs.
func Older(a, b string) (older, ok bool) {
	x, err1 := strconv.ParseUint(a, 10, 64)
	y, err2 := strconv.ParseUint(b, 10, 64)
	return x < y, err1 == nil && err2 == nil
}

// Queued is a value that waits in the outbox.
type Queued struct {
	Key   string
	Value []byte
	// Seq grows with every value that is put under the key, so that forgetting one does not forget a newer one.
	Seq uint64
	// At is when it was put there. Wall clock.
	At time.Time
}
