// Package outbox keeps what was written while the node was offline until upstream has taken it: the status of the node and of
// its pods, one entry for each object, and events in a ring. An entry is durable before its writer hears 200; replayed, it is a
// patch that holds only for the object it was written for (metadata.uid). What upstream refuses for good is dropped and
// reported, never retried for ever.
package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// Buckets of the store. The store may bound EventsBucket as a ring: events are lost before anything else is.
const (
	StatusBucket = "status"
	EventsBucket = "events"
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

// Config says what an Outbox needs. All fields but Log, Now and Rand are required.
type Config struct {
	Store Store
	Log   *slog.Logger
	Now   func() time.Time
	// Rand gives numbers in [0,1) for jitter.
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
	// fields, so that it means the same on whatever upstream holds by then. See Diff.
	Patch []byte
	// Written is when the newest part of it was written.
	Written time.Time
	// Change counts the changes of all statuses: a status that was written later has a higher one.
	Change uint64
}

// Outbox is safe for concurrent use.
type Outbox struct {
	cfg Config

	mu       sync.Mutex // guards what follows
	statuses map[Ref]Status
	locks    map[Ref]*lock
	change   uint64
	changed  chan struct{} // closed and replaced at each change
	report   Report
}

// lock keeps writers of one status apart. waiting counts who holds it or wants it.
type lock struct {
	mu      sync.Mutex
	waiting int
}

// New reads what is left from before. What cannot be read was promised to be kept and is lost: that is reported, and is no
// reason to lose the rest.
func New(cfg Config) (*Outbox, error) {
	if cfg.Store == nil {
		return nil, errors.New("open outbox: there is no store")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Float64
	}
	o := &Outbox{cfg: cfg, statuses: map[Ref]Status{}, locks: map[Ref]*lock{}, changed: make(chan struct{})}
	for queued, err := range cfg.Store.Pending(StatusBucket) {
		var s Status
		if err == nil {
			s, err = decode(queued)
		}
		if err != nil {
			o.count(answer{code: http.StatusUnprocessableEntity, why: err.Error()}, "status "+queued.Key)
			if queued.Key != "" {
				cfg.Store.Done(StatusBucket, queued.Key, queued.Seq)
			}
			continue
		}
		o.change++
		s.Change = o.change
		o.statuses[s.Ref] = s
	}
	return o, nil
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

func parseRef(key string) (Ref, bool) {
	switch parts := strings.Split(key, "/"); len(parts) {
	case 2:
		return Ref{Resource: parts[0], Name: parts[1]}, true
	case 3:
		return Ref{Resource: parts[0], Namespace: parts[1], Name: parts[2]}, true
	}
	return Ref{}, false
}

// stored is a Status as the store has it; its Ref is the key.
type stored struct {
	UID     string          `json:"uid"`
	Patch   json.RawMessage `json:"patch"`
	Written time.Time       `json:"written"`
}

func decode(q scope.Queued) (Status, error) {
	ref, ok := parseRef(q.Key)
	var v stored
	err := json.Unmarshal(q.Value, &v)
	if err == nil && !ok {
		err = fmt.Errorf("the key names no object")
	}
	if err != nil {
		return Status{}, fmt.Errorf("read outbox: entry %q: %w", q.Key, err)
	}
	return Status{Ref: ref, UID: v.UID, Patch: v.Patch, Written: v.Written}, nil
}
