// Package nodepool keeps the labels and annotations of a node's own Node object as planned. It acts with the kubelet's
// identity, so it sets only what Kubernetes lets a node set on itself; the hub sets the rest. Server-side apply under a
// field manager of its own makes the API server remember what was set here: removing is leaving out, and what others set
// stays theirs.
package nodepool

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/holdfast-dev/holdfast/reconciler"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

// Part is the part's name.
const Part = "nodepool"

const (
	nodesPath = "/api/v1/nodes"
	// nodeMissingRetry is how long to wait for a kubelet to register; the watch usually is faster.
	nodeMissingRetry = 15 * time.Second
)

func nodePath(name string) string { return nodesPath + "/" + name }

// API is what nodepool needs of the kube-apiserver. Paths start with /api. Errors carry a stable reason
// (reconciler.Reason): NotFound, Forbidden, Invalid, Conflict, Unauthorized, APIServerUnreachable. Methods are safe for
// concurrent use.
type API interface {
	// Get reads an object's metadata into into.
	Get(ctx context.Context, path string, into any) error
	// Apply applies the object server-side as that manager, by force. With check nothing is stored.
	Apply(ctx context.Context, path, manager string, check bool, object any) error
	// Watch calls each with the object's metadata at the start and whenever it changes, with nil when it is deleted, until
	// the stream ends.
	Watch(ctx context.Context, path, name string, each func(metadata json.RawMessage)) error
}

// Reconciler fulfils reconciler.Reconciler for a Node's labels and annotations.
type Reconciler struct {
	api  API
	node string
	log  *slog.Logger

	mu     sync.Mutex // guards what follows: the watch reads what Reconcile writes
	want   *Marks     // what the last Reconcile was asked for
	failed bool       // it did not succeed
}

// New gives the reconciler of the Node of that name.
func New(api API, node string, log *slog.Logger) *Reconciler {
	return &Reconciler{api: api, node: node, log: log}
}

// Part is "nodepool".
func (r *Reconciler) Part() string { return Part }

// Condition is NodePoolReady.
func (r *Reconciler) Condition() string { return condition.NodePoolReady }

// Reconcile makes the Node's marks those of the plan: observe, diff, apply.
func (r *Reconciler) Reconcile(ctx context.Context, want plan.Node) ([]condition.Condition, error) {
	desired := Desired(want)
	err := r.reconcile(ctx, desired)
	r.mu.Lock()
	r.want, r.failed = &desired, err != nil
	r.mu.Unlock()
	return nil, err
}

func (r *Reconciler) reconcile(ctx context.Context, desired Marks) error {
	observed, err := r.observe(ctx)
	if err != nil {
		return steer(r.node, err)
	}
	changes := Diff(observed, desired)
	if len(changes) == 0 {
		return nil
	}
	if err := r.apply(ctx, observed.UID, desired); err != nil {
		return steer(r.node, err)
	}
	for _, c := range changes {
		r.log.Info("node changed", "node", r.node, "change", c.String())
	}
	return nil
}

func (r *Reconciler) observe(ctx context.Context) (Observed, error) {
	var raw json.RawMessage
	if err := r.api.Get(ctx, nodePath(r.node), &raw); err != nil {
		return Observed{}, err
	}
	return Observe(raw)
}

// steer says what the Loop is to make of an error.
func steer(node string, err error) error {
	switch reconciler.Reason(err) {
	case condition.ReasonNotFound:
		return &reconciler.Waiting{Reason: condition.ReasonNodeMissing, After: nodeMissingRetry,
			Err: fmt.Errorf("there is no Node %s yet: the kubelet has not registered", node)}
	case condition.ReasonInvalid:
		return &reconciler.Stalled{Reason: condition.ReasonInvalid, Err: fmt.Errorf("label and annotate Node %s: %w", node, err)}
	}
	return fmt.Errorf("label and annotate Node %s: %w", node, err)
}
