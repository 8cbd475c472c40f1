package fleet

import (
	"context"
	"errors"

	"github.com/holdfast-dev/holdfast/reconciler/plan"
	"github.com/holdfast-dev/holdfast/reconciler/sandbox"
)

func evaluate(Input) (*plan.Pool, error) { return nil, errors.ErrUnsupported }
func needed(pool, path string) bool      { return false }
func call(ctx context.Context, lim sandbox.Limits, in Input) (*plan.Pool, error) {
	return evaluate(in)
}
func check(pools []*plan.Pool) Problems { return nil }
