package edgeagent

import (
	"context"
	"time"

	"github.com/holdfast-dev/holdfast/policy/verify"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
	"github.com/holdfast-dev/holdfast/reconciler/source"
)

// Follower is the way from a Git server to a plan: package reconciler/revision has the one that is used. Methods are
// called from one goroutine at a time. Errors carry a stable reason of package condition (reconciler.Reason).
type Follower interface {
	// Poll asks the Git server where branch and notes are. It writes nothing.
	Poll(ctx context.Context) (source.Refs, error)
	// Fetch brings the clone there. A clone that is there already costs nothing.
	Fetch(ctx context.Context, want source.Refs) error
	// Enrol reads fleet and trust at a commit of the clone that was vouched for out of band.
	Enrol(ctx context.Context, anchor string) (verify.State, error)
	// Verify gives the verdict on what was fetched. now is zero on nodes.
	Verify(ctx context.Context, state verify.State, at source.Refs, now time.Time) (verify.Verdict, error)
	// Pools names the pools of a revision.
	Pools(ctx context.Context, commit string) ([]string, error)
	// Pool evaluates one pool of a revision. The error's reason is PoolAbsent if there is no such pool, InvalidFleet if
	// the CUE is wrong.
	Pool(ctx context.Context, commit, pool string) (*plan.Pool, error)
	// SetLimits bounds the child processes that are started from now on.
	SetLimits(plan.Limits)
}
