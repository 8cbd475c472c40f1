// Package outbox keeps what was written while the node was offline until upstream has taken it: the status of the node and of
// its pods, one entry for each object, and events in a ring. An entry is durable before its writer hears 200; replayed, it is a
// patch that holds only for the object it was written for (metadata.uid). What upstream refuses for good is dropped and
// reported, never retried for ever.
package outbox

import (
	"context"
	"iter"
	"log/slog"
	"net/http"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// Store keeps values by bucket and key. Methods are safe for concurrent use.
type Store interface {
	// Enqueue keeps a value; it is durable when Enqueue returns nil. A value of the same key is replaced.
	Enqueue(ctx context.Context, bucket, key string, value []byte) error
	// Pending gives the values of a bucket in the order in which they came.
	Pending(bucket string) iter.Seq2[scope.Queued, error]
	// Waiting gives one value.
	Waiting(bucket, key string) (scope.Queued, bool, error)
	// Done forgets a value, unless a newer one took its place.
	Done(bucket, key string, seq uint64)
}

// Config says what an Outbox needs. All fields but Rand are required.
type Config struct {
	Store Store
	// Node is the name of this node.
	Node string
	Log  *slog.Logger
	Now  func() time.Time
	// Rand gives numbers in [0,1) for jitter. Default: math/rand/v2.
	Rand func() float64
}

// Ref names the object whose status is kept.
type Ref struct {
	// Resource is "nodes" or "pods" of the core group.
	Resource, Namespace, Name string
}

// Status is what was written to an object's status while offline.
type Status struct {
	Ref
	UID string
	// Patch is a strategic merge patch of everything that differs from what upstream last said: complete conditions and
	// fields, so that it means the same on whatever upstream holds by then.
	Patch []byte
	// Written is when the newest part of it was written.
	Written time.Time
}

// Send asks upstream as the node. The error is for answers that never came.
type Send func(*http.Request) (*http.Response, error)

// Report is what came of replaying.
type Report struct {
	Replayed, Dropped, Pending int
	// Lost says what upstream refused for good, newest first, at most a few.
	Lost []Lost
}

// Lost is an entry that upstream refused for good.
type Lost struct {
	What, Why string
	When      time.Time
}

// StatusPath is the path that a status is patched at.
func (r Ref) StatusPath() string {
	if r.Resource == "nodes" {
		return "/api/v1/nodes/" + r.Name + "/status"
	}
	return "/api/v1/namespaces/" + r.Namespace + "/" + r.Resource + "/" + r.Name + "/status"
}

// String gives "nodes/n1" or "pods/default/p".
func (r Ref) String() string {
	if r.Namespace == "" {
		return r.Resource + "/" + r.Name
	}
	return r.Resource + "/" + r.Namespace + "/" + r.Name
}

// RefOf gives the Ref of an object of the core group.
func RefOf(resource string, item scope.Item) Ref {
	return Ref{Resource: resource, Namespace: item.Namespace, Name: item.Name}
}

// Outbox is safe for concurrent use.
type Outbox struct {
	cfg Config
}
