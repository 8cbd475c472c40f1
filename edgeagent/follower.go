package edgeagent

import (
	"github.com/holdfast-dev/holdfast/reconciler/plan"
	"github.com/holdfast-dev/holdfast/reconciler/revision"
)

// Follower is the way from a Git server to a plan: package revision has the one that is used. Methods are called from one
// goroutine at a time.
type Follower interface {
	revision.Path
	// SetLimits bounds the child processes that are started from now on.
	SetLimits(plan.Limits)
}
