// Package reconciler is the contract every domain fulfils and the Loop that runs them: one goroutine per part, triggers,
// back-off, and isolation, so that one part's trouble is never another's.
package reconciler

import (
	"context"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

// Reconciler brings one part of the host, or of this node's objects in the cluster, to its part of the plan.
type Reconciler interface {
	// Part names the part, in lower case: "nodepool". It is what --parts takes and what metrics are labelled with.
	Part() string
	// Condition names the type of the condition that sums the part up, such as condition.NodePoolReady. The Loop writes
	// that one itself when Reconcile gives none of that type, panics or hangs.
	Condition() string
	// Reconcile takes the whole desired state, observes, and changes what differs. It is idempotent. A plan that asks for
	// nothing (only Fleet, Pool and Name set) removes everything an earlier plan made it set. The conditions it gives
	// are the part's whole state, also when it gives an error. Errors steer the Loop: see Stalled and Waiting. The Loop
	// never calls it twice at the same time.
	Reconcile(ctx context.Context, want plan.Node) ([]condition.Condition, error)
}
