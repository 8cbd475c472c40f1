package fleet

import (
	"context"

	"github.com/holdfast-dev/holdfast/reconciler/plan"
	"github.com/holdfast-dev/holdfast/reconciler/sandbox"
)

// Children gives the functions that child processes of this package run, for sandbox.Main.
func Children() map[string]sandbox.Func {
	return map[string]sandbox.Func{}
}

// Needed tells whether evaluating the pool reads the file: CUE files of the root, cue.mod/**, policy/** and
// pools/<pool>/*. It is what to export from a revision.
func Needed(pool, path string) bool { return needed(pool, path) }

// Call runs Evaluate in a child process with those limits. The error is Problems if the fleet repo is wrong, else
// package sandbox's. It is safe for concurrent use.
func Call(ctx context.Context, lim sandbox.Limits, in Input) (*plan.Pool, error) {
	return call(ctx, lim, in)
}
